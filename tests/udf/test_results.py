"""LAI results on disk: found once, dated, distinguished, grouped by overpass."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_jobs import DAYS, write_cloud_results, write_collection_results, write_geotiff
from fake_lai import UTM32, fake_layers, write_product

from lai_udf.errors import RasterError
from lai_udf.predict import OUTPUT_BANDS
from lai_udf.results import find_results, group_overpasses, open_result, read_lai_cogs


def write_result(folder: Path, time: str | None, **properties: object) -> Path:
    write_product(folder, fake_layers(np.random.default_rng(0)))
    if time or properties:
        item = {"id": folder.name, "assets": {"lai": {}}}
        item["properties"] = {"datetime": time, **properties}
        (folder / f"{folder.name}.json").write_text(json.dumps(item))
    return folder


def test_a_window_of_a_result_is_that_of_its_cogs(tmp_path: Path) -> None:
    result = open_result(write_result(tmp_path / "a", "2024-06-21T10:36:29Z"))
    window = UTM32.covering((600_100, 4_999_500, 600_500, 4_999_900))

    layers = result.read(OUTPUT_BANDS, window)

    rows, columns = window.toslices()
    cube = read_lai_cogs(tmp_path / "a")[:, rows, columns]
    for band in OUTPUT_BANDS:
        np.testing.assert_allclose(layers[band], cube.sel(bands=band), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("openEO_2024-06-21Z", "2024-06-21T00:00:00+00:00"),
        ("20240621T103629", "2024-06-21T10:36:29+00:00"),
        ("lai_s2_32tqm_20240621t103629", "2024-06-21T00:00:00+00:00"),
    ],
)
def test_the_name_gives_the_time_where_nothing_else_does(
    tmp_path: Path, name: str, time: str
) -> None:
    assert open_result(write_result(tmp_path / name, None)).datetime.isoformat() == time


def test_a_result_without_a_time_is_refused(tmp_path: Path) -> None:
    write_result(tmp_path / "field", None)
    with pytest.raises(RasterError):
        find_results([tmp_path])


@pytest.mark.parametrize("name", ["no.tif", "empty"])
def test_what_holds_no_lai_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.tif").write_bytes(b"no raster")
    with pytest.raises(RasterError):
        find_results([tmp_path / name])


def test_tiles_of_an_overpass_belong_together_and_other_settings_do_not(tmp_path: Path) -> None:
    times = {"a": "2024-06-21T10:36:29Z", "b": "2024-06-21T10:36:43Z", "c": "2024-06-21T12:16:29Z"}
    for name, time in times.items():
        write_result(tmp_path / name, time)
    write_result(tmp_path / "field", times["a"], **{"laiq:target": "field"})

    groups = group_overpasses(find_results([tmp_path]))

    names = sorted(sorted(result.name for result in group) for group in groups)
    assert names == [["a", "b"], ["c"], ["field"]]


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    write_result(tmp_path / "a", "2024-06-21T10:36:29Z")
    write_result(tmp_path / ".lai-x.partial", "2024-06-21T10:36:29Z")
    assert [result.name for result in find_results([tmp_path])] == ["a"]


def test_what_a_service_stores_of_a_result_is_left_out(tmp_path: Path) -> None:
    write_result(tmp_path / "a", "2024-06-21T10:36:29Z")
    (tmp_path / "service" / ".catalogue").mkdir(parents=True)
    write_product(tmp_path / "service" / "lai" / "a" / "1f", fake_layers(np.random.default_rng(0)))
    assert [result.path for result in find_results([tmp_path])] == [tmp_path / "a"]


def test_raw_results_of_a_job_count_where_nothing_was_made_of_them(tmp_path: Path) -> None:
    layers = fake_layers(np.random.default_rng(0))
    write_geotiff(tmp_path / "job" / "openEO_2024-06-21Z.tif", layers)
    assert [result.name for result in find_results([tmp_path])] == ["openEO_2024-06-21Z"]
    write_result(tmp_path / "a", "2024-06-21T10:36:29Z")
    assert [result.name for result in find_results([tmp_path])] == ["a"]


@pytest.mark.parametrize("write", [write_cloud_results, write_collection_results])
def test_results_of_a_job_are_read_with_their_metadata(tmp_path: Path, write) -> None:
    layers = fake_layers(np.random.default_rng(0))
    results = find_results([write(tmp_path / "job", layers)])
    assert [result.datetime.date().isoformat() for result in results] == list(DAYS)
    for result in results:
        read = result.read(["LAI"])["LAI"]
        np.testing.assert_allclose(read, layers["LAI"], atol=1e-6)
