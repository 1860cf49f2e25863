"""Results of openEO batch jobs become items, however the back-end describes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from fake_jobs import (
    DAYS,
    PRODUCTS,
    TIMES,
    asset,
    job_description,
    write_cloud_results,
    write_collection_results,
    write_geotiff,
)
from fake_lai import MODEL

from lai_stac.errors import DescriptionError, RasterError
from lai_stac.job_items import describe_job
from lai_stac.job_results import read_job_results
from lai_udf.bundle import Bundle
from lai_udf.predict import OUTPUT_BANDS
from lai_udf.results import read_lai_cogs
from lai_udf.zonal import usable_pixels

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

BUNDLE = Bundle(Path("seamless-0.1.0.zip"), MODEL)
Layers = dict[str, np.ndarray]


def describe(folder: Path, out: Path, **arguments: Any) -> list[pystac.Item]:
    folders = describe_job(folder, out, bundles=(BUNDLE,), **arguments)
    return [pystac.Item.from_file(str(path / f"{path.name}.json")) for path in folders]


def test_cloud_job_becomes_an_item_per_date(tmp_path: Path, layers: Layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    items = describe(folder, tmp_path / "out")

    assert [item.properties["datetime"] for item in items] == list(TIMES)
    assert [item.id.rpartition("_")[0] for item in items] == [
        "lai_s2_32tqm_20240621t103629_0-1-0",
        "lai_s2_32tqm_20240701t103631_0-1-0",
    ]
    for item, product in zip(items, PRODUCTS, strict=True):
        sources = [link for link in item.links if link.rel == "derived_from"]
        assert [link.title for link in sources] == [product]
        assert sources[0].href == f"s3://eodata/Sentinel-2/MSI/L2A/{product}.SAFE"
        assert item.properties["platform"] == "sentinel-2a"
        assert item.properties["processing:facility"] == "openEO cloud"
        (link,) = item.get_links("processing-expression")
        graph = json.loads((tmp_path / "out" / item.id / Path(link.href).name).read_text())
        assert graph == job_description()["process"]["process_graph"]
        assert "grid:code" not in item.properties  # 48 px are not the tile


@pytest.mark.parametrize(
    ("bands", "known"), [(None, True), (["B02", "SCL"], True), (["B02"], False)]
)
def test_the_cloud_fraction_is_known_where_the_graph_loads_the_scene_classes(
    tmp_path: Path, layers: Layers, bands: list[str] | None, known: bool
):
    job = job_description()
    arguments = job["process"]["process_graph"]["loadcollection1"]["arguments"]
    arguments["bands"] = bands
    (first, _) = describe(write_cloud_results(tmp_path / "job", layers), tmp_path / "out", job=job)
    assert (first.properties["laiq:cloud_fraction"] is not None) == known


def test_a_job_that_smooths_over_time_becomes_items_of_a_series(tmp_path: Path, layers: Layers):
    bands = ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "GAP_DAYS")
    job = job_description(target="field")
    graph = job["process"]["process_graph"]
    graph["loadcollection1"]["arguments"]["temporal_extent"] = ["2024-05-01", "2024-08-01"]
    udf = {"udf": "OUT = ('LAI_LOWER', 'GAP_DAYS')", "context": {"step_days": 10}}
    graph["series"] = {"process_id": "run_udf", "arguments": udf}
    folder, name = tmp_path / "job", "openEO_2024-06-21Z.tif"
    write_geotiff(folder / name, layers | {"GAP_DAYS": np.zeros_like(layers["LAI"])}, bands)
    links = [{"rel": "derived_from", "href": f"/eodata/x/{product}.SAFE"} for product in PRODUCTS]
    assets = {name: {**asset(name, bands), "datetime": "2024-06-21"}}
    metadata = {"type": "Collection", "id": "j", "links": links, "assets": assets}

    (item,) = describe(folder, tmp_path / "out", metadata=metadata, job=job)
    assert "series" in item.id
    assert item.properties["datetime"] == "2024-06-21T00:00:00Z"
    assert "the dates from 2024-05-01 to 2024-08-01" in item.properties["processing:lineage"]
    assert [link.title for link in item.get_links("derived_from")] == list(PRODUCTS)
    assert {"gap_days", "lai_sd"} <= set(item.assets)
    assert "lai_flags" not in item.assets


LATE = "S2B_MSIL2A_20260102T235739_N0511_R030_T57LXJ_20260103T012345"
NEXT = "S2A_MSIL2A_20260107T235741_N0511_R030_T57LXJ_20260108T012345"
STRIP = "S2B_MSIL2A_20260102T235753_N0511_R030_T57LYJ_20260103T012345"


@pytest.mark.parametrize(
    ("dates", "products", "times", "platforms"),
    [
        (["2026-01-02"], [LATE], ["2026-01-02T23:57:39Z"], ["sentinel-2b"]),
        (["2026-01-03"], [LATE], ["2026-01-02T23:57:39Z"], ["sentinel-2b"]),
        (["2026-01-03T00:00:00+11:00"], [LATE], ["2026-01-02T23:57:39Z"], ["sentinel-2b"]),
        (
            ["2026-01-03", "2026-01-08"],
            [LATE, NEXT],
            ["2026-01-02T23:57:39Z", "2026-01-07T23:57:41Z"],
            ["sentinel-2b", "sentinel-2a"],
        ),
        (["2026-01-02"], [STRIP, LATE], ["2026-01-02T23:57:39Z"], ["sentinel-2b"]),
    ],
)
def test_time_platform_and_sources_survive_midnight(
    tmp_path: Path,
    layers: Layers,
    dates: list[str],
    products: list[str],
    times: list[str],
    platforms: list[str],
):
    folder = tmp_path / "job"
    assets = {}
    for number, date in enumerate(dates):
        write_geotiff(folder / f"{number}.tif", layers)
        assets[f"{number}.tif"] = {**asset(f"{number}.tif"), "datetime": date}
    links = [{"rel": "derived_from", "href": f"/eodata/x/{name}.SAFE"} for name in products]
    metadata = {"type": "Collection", "id": "j", "links": links, "assets": assets}
    (folder / "job-results.json").write_text(json.dumps(metadata))
    (folder / "job.json").write_text(json.dumps(job_description()))

    items = describe(folder, tmp_path / "out")

    assert [item.properties["datetime"] for item in items] == times
    assert [item.properties["platform"] for item in items] == platforms
    sources = [link.title for item in items for link in item.get_links("derived_from")]
    assert sorted(sources) == sorted(products)


def test_an_input_of_another_day_belongs_to_no_date(tmp_path: Path, layers: Layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    metadata = json.loads((folder / "job-results.json").read_text())
    metadata["links"] = [{"rel": "derived_from", "href": f"/eodata/{LATE}.SAFE"}]
    items = describe(folder, tmp_path / "out", metadata=metadata)
    assert not [link for item in items for link in item.get_links("derived_from")]


def test_numbers_of_the_item_are_those_of_the_pixels(tmp_path: Path, layers: Layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    (first, _) = describe_job(folder, tmp_path / "out", bundles=(BUNDLE,))
    item = pystac.Item.from_file(str(first / f"{first.name}.json"))
    lai = layers["LAI"]
    usable = usable_pixels(lai, layers["LAI_FLAGS"])

    expected = float(np.mean(lai[usable], dtype="float64"))
    assert item.properties["laiq:lai_mean"] == pytest.approx(expected, abs=5e-4)
    assert item.assets["lai"].to_dict()["bands"][0]["statistics"]["count"] == usable.sum()
    cube = read_lai_cogs(first)
    assert list(cube.bands.values) == list(OUTPUT_BANDS)
    np.testing.assert_array_equal(np.isnan(cube.sel(bands="LAI").values), np.isnan(lai))
    np.testing.assert_array_equal(cube.sel(bands="LAI_FLAGS").values, layers["LAI_FLAGS"])


def test_job_with_items_of_its_own_gives_their_times_and_its_draws(tmp_path, layers):
    folder = write_collection_results(tmp_path / "job", layers)
    items = describe(folder, tmp_path / "out")
    assert [item.properties["datetime"] for item in items] == list(TIMES)
    assert {item.properties["unc:samples"] for item in items} == {8}
    assert {item.properties["unc:random_seed"] for item in items} == {3}


def test_same_results_described_twice_are_the_same_bytes(tmp_path: Path, layers: Layers):
    folder = write_collection_results(tmp_path / "job", layers)
    first = describe_job(folder, tmp_path / "a", bundles=(BUNDLE,))
    second = describe_job(folder, tmp_path / "b", bundles=(BUNDLE,))
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        names = sorted(path.name for path in one.iterdir())
        assert names == sorted(path.name for path in other.iterdir())
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_one_file_per_band_is_one_item(tmp_path: Path, layers: Layers):
    folder = tmp_path / "job"
    assets = {}
    for band in OUTPUT_BANDS:
        name = f"openEO_{DAYS[0]}Z_{band}.tif"
        write_geotiff(folder / name, layers, (band,), named=False)
        assets[name] = asset(name, (band,))
    metadata = {"type": "Collection", "id": "j-1", "links": [], "assets": assets}
    (item,) = describe(folder, tmp_path / "out", metadata=metadata, job=job_description())
    assert set(item.assets) == {band.lower() for band in OUTPUT_BANDS} | {"thumbnail"}
    assert item.properties["datetime"] == f"{DAYS[0]}T00:00:00Z"  # no input gives the hour


def test_item_of_api_1_0_takes_its_time_from_the_properties(tmp_path: Path, layers: Layers):
    folder = tmp_path / "job"
    write_geotiff(folder / "openEO.tif", layers)
    time = {"datetime": None, "start_datetime": TIMES[0], "end_datetime": TIMES[0]}
    metadata = {"type": "Feature", "properties": time, "assets": {"openEO.tif": asset("x.tif")}}
    (item,) = describe(folder, tmp_path / "out", metadata=metadata, job=job_description())
    assert item.properties["datetime"] == TIMES[0]


def test_date_without_an_observation_has_no_item(tmp_path: Path, layers: Layers):
    folder = write_collection_results(tmp_path / "job", layers)
    empty = {name: np.full_like(values, np.nan) for name, values in layers.items()}
    write_geotiff(folder / f"openEO_{DAYS[0]}Z" / f"openEO_{DAYS[0]}Z.tif", empty)
    (item,) = describe(folder, tmp_path / "out")
    assert item.properties["datetime"] == TIMES[1]


def test_field_target_is_taken_from_the_graph(tmp_path: Path, layers: Layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    items = describe(folder, tmp_path / "out", job=job_description(target="field"))
    assert {item.properties["laiq:target"] for item in items} == {"field"}
    assert all("_field_" in item.id for item in items)


def test_process_called_by_name_has_its_defaults(tmp_path: Path, layers: Layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    node = {"process_id": "sentinel2_lai", "arguments": {"target": "field"}, "result": True}
    job = {"process": {"process_graph": {"lai": node}}}
    items = describe(folder, tmp_path / "out", job=job)
    assert {item.properties["laiq:target"] for item in items} == {"field"}
    assert "unc:samples" not in items[0].properties


def without(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def change_metadata(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "job-results.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def outside(folder: Path) -> None:
    secret = folder.parent / "secret.tif"
    (folder / f"openEO_{DAYS[0]}Z.tif").rename(secret)
    (folder / f"openEO_{DAYS[0]}Z.tif").symlink_to(secret)


def as_vrt(folder: Path) -> None:
    (folder / f"openEO_{DAYS[0]}Z.tif").write_text(
        '<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>'
    )


def other_grid(folder: Path) -> None:
    change_metadata(lambda d: d["assets"].update({f"b_{DAYS[0]}.tif": asset("b")}))(folder)
    with rasterio.open(folder / f"openEO_{DAYS[0]}Z.tif") as raster:
        profile, values = raster.profile | {"width": 40}, raster.read()[:, :, :40]
    with rasterio.open(folder / f"b_{DAYS[0]}.tif", "w", **profile) as raster:
        raster.write(values)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "metadata is missing": (without("job-results.json"), r"cannot read job-results\.json"),
    "description of the job is missing": (without("job.json"), r"cannot read job\.json"),
    "a file was not downloaded": (without(f"openEO_{DAYS[1]}Z.tif"), "download all files"),
    "metadata is no JSON": (lambda f: (f / "job.json").write_bytes(b"\xff{"), "not readable JSON"),
    "a list is no metadata": (lambda f: (f / "job.json").write_text("[]"), "no JSON object"),
    "graph is missing": (lambda f: (f / "job.json").write_text("{}"), "no process graph"),
    "no GeoTIFF": (change_metadata(lambda d: d.update(assets={})), "names no GeoTIFF"),
    "file lies outside the folder": (outside, "lies outside"),
    "file is a VRT": (as_vrt, "cannot read"),
    "bands lie on other grids": (other_grid, "another grid"),
    "item lies outside the folder": (
        change_metadata(lambda d: d["links"].append({"rel": "item", "href": "../x.json"})),
        "lies outside",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_results_are_refused_with_a_reason(name: str, tmp_path: Path, layers: Layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    spoil, reason = FAULTS[name]
    spoil(folder)
    with pytest.raises((DescriptionError, RasterError), match=reason):
        describe(folder, tmp_path / "out")


@pytest.mark.parametrize(
    "job",
    [
        {"process": {"process_graph": {"a": {"process_id": "ndvi"}}}},
        job_description(samples={"from_parameter": "samples"}),
        job_description(target="both"),
        job_description("https://x.org/other-2.0.0.zip"),
    ],
    ids=["another process", "parameter left open", "unknown target", "unknown model"],
)
def test_graph_that_did_not_make_our_lai_is_refused(job, tmp_path, layers):
    folder = write_cloud_results(tmp_path / "job", layers)
    with pytest.raises(DescriptionError):
        describe(folder, tmp_path / "out", job=job)


def test_result_over_a_season_is_no_item(tmp_path: Path, layers: Layers):
    folder = tmp_path / "job"
    write_geotiff(folder / "openEO.tif", layers)
    season = {"datetime": None, "start_datetime": TIMES[0], "end_datetime": TIMES[1]}
    metadata = {"type": "Feature", "properties": season, "assets": {"openEO.tif": asset("x")}}
    with pytest.raises(DescriptionError):
        read_job_results(folder, metadata=metadata, job=job_description())
