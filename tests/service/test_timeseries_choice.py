"""Which results make one line: of one target, model, level, scaling and region."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
import rasterio.shutil
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from service.fake_items import lonlat, parcel

from lai_udf.scenes.metadata import CALLER

Make = Callable[..., Path]


def test_line_has_one_target_and_the_newest_model(writer: TestClient, make_result: Make) -> None:
    kinds = [("sl2p", "0.9.0"), ("sl2p", "0.10.0"), ("field", "0.11.0")]
    for number, (target, version) in enumerate(kinds):
        for day in (1, 11):
            folder = make_result(
                f"lai_{target}_{version.replace('.', '-')}_{day}",
                f"2024-06-{day:02d}T10:00:00Z",
                offset=float(number),
                **{"laiq:target": target, "laiq:model_id": "m", "laiq:model_version": version},
            )
            answer = writer.post("/publish", json={"directory": str(folder), "collection": "all"})
            assert answer.status_code == 201, answer.text
    lon, lat = lonlat(20.5, 30.5)

    def means(**asked: str) -> list[float]:
        answer = writer.get("/timeseries", params={"lon": lon, "lat": lat, **asked})
        assert answer.status_code == 200, answer.text
        return [round(o["lai"], 3) for o in answer.json()["observations"]]

    assert means() == [3.0, 3.0]
    assert means(model="0.9.0") == means(model="m@0.9.0") == [2.0, 2.0]
    assert means(target="field") == [4.0, 4.0]
    answer = writer.get(f"/timeseries?lon={lon}&lat={lat}").json()
    assert answer["settings"]["model_version"] == "0.10.0"
    assert {other["model_version"] for other in answer["others"]} == {"0.9.0", "0.11.0"}
    unknown = writer.get(f"/timeseries?lon={lon}&lat={lat}&target=other")
    assert unknown.status_code == 404


def test_line_has_intervals_of_one_level(writer: TestClient, make_result: Make) -> None:
    for number, level in enumerate((0.95, 0.8)):
        folder = make_result(f"lai_{number}", f"2024-06-{number + 1:02d}T10:00:00Z")
        file = folder / f"lai_{number}.json"
        item = json.loads(file.read_text())
        item["assets"]["lai_lower"]["unc:confidence_level"] = level
        file.write_text(json.dumps(item))
        answer = writer.post("/publish", json={"directory": str(folder), "collection": "all"})
        assert answer.status_code == 201, answer.text
    lon, lat = lonlat(20.5, 30.5)
    answer = writer.get("/timeseries", params={"lon": lon, "lat": lat}).json()
    assert len(answer["observations"]) == 1
    assert answer["settings"]["level"] == 0.95
    assert [other["level"] for other in answer["others"]] == [0.8]
    assert "95 %" in answer["interval"]
    for asked in ({"filter": "id = 'lai_1'"}, {"level": 0.8}):
        chosen = writer.get("/timeseries", params={"lon": lon, "lat": lat, **asked}).json()
        assert "80 %" in chosen["interval"]
        assert [row["item"] for row in chosen["observations"]] == ["lai_1"]
    absent = writer.get("/timeseries", params={"lon": lon, "lat": lat, "level": 0.7})
    assert absent.status_code == 404


def write_tags(folder: Path, **tags: str) -> None:
    """Write GDAL tags into the COGs of a result, as a run does."""
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as raster:
            profile, values, scales = raster.profile, raster.read(), raster.scales
        profile = {key: profile[key] for key in ("dtype", "nodata", "crs", "transform")}
        with MemoryFile() as memory:
            shape = {"count": 1, "height": values.shape[1], "width": values.shape[2]}
            with memory.open(driver="GTiff", **profile, **shape) as raster:
                raster.write(values)
                raster.scales = scales
                raster.update_tags(**tags)
            with memory.open() as raster:
                rasterio.shutil.copy(raster, path, driver="COG", compress="DEFLATE")


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ({"SCALING": "scale 0.0001, offset -0.1 (MTD)"}, {"SCALING": f"offset 0 ({CALLER})"}),
        ({}, {"REFLECTANCE_OFFSET": "0.0"}),
        ({}, {"REGION": "new"}),
    ],
)
def test_results_of_one_product_by_other_settings_are_not_averaged(
    writer: TestClient, make_result: Make, usual: dict, other: dict
) -> None:
    for number, tags in enumerate((usual, other)):
        folder = make_result(f"lai_{number}", offset=float(number))
        write_tags(folder, **tags)
        answer = writer.post("/publish", json={"directory": str(folder), "collection": "all"})
        assert answer.status_code == 201, answer.text
    lon, lat = lonlat(20.5, 30.5)
    answer = writer.get("/timeseries", params={"lon": lon, "lat": lat}).json()
    assert [row["item"] for row in answer["observations"]] == ["lai_0"]
    assert answer["settings"]["samples"] == 0
    assert len(answer["others"]) == 1


def test_dates_whose_scaling_differs_are_one_line(writer: TestClient, make_result: Make) -> None:
    for number, text in enumerate(("offset 0 (MTD)", f"offset -0.1 ({CALLER})")):
        folder = make_result(f"lai_{number}", f"2022-02-0{number + 1}T10:00:00Z")
        write_tags(folder, SCALING=text)
        assert writer.post("/publish", json={"directory": str(folder)}).status_code == 201
    lon, lat = lonlat(20.5, 30.5)
    answer = writer.get("/timeseries", params={"lon": lon, "lat": lat}).json()
    assert (len(answer["observations"]), answer["others"]) == (2, [])


def test_line_is_of_the_region_that_was_asked_for(writer: TestClient, make_result: Make) -> None:
    for number, tags in enumerate(({}, {"REGION": "new"})):
        folder = make_result(f"lai_{number}", f"2024-06-0{number + 1}T10:00:00Z")
        write_tags(folder, **tags)
        assert writer.post("/publish", json={"directory": str(folder)}).status_code == 201
    lon, lat = lonlat(20.5, 30.5)
    for region, name in ((None, "lai_0"), ("known", "lai_0"), ("new", "lai_1")):
        asked = {"lon": lon, "lat": lat} | ({"region": region} if region else {})
        answer = writer.get("/timeseries", params=asked).json()
        assert [row["item"] for row in answer["observations"]] == [name]


def test_filter_of_an_address_chooses_the_items(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    asked = {"lon": lon, "lat": lat, "filter": "id = 'lai_s2_32tpu_20240611'"}
    assert len(published.get("/timeseries", params=asked).json()["observations"]) == 1


def test_parcel_at_the_seam_of_two_tiles_has_one_row_a_date(
    writer: TestClient, make_result: Make
) -> None:
    for name, seconds in (("lai_west", 31), ("lai_east", 45)):
        folder = make_result(name, f"2024-06-21T10:36:{seconds}Z")
        assert writer.post("/publish", json={"directory": str(folder)}).status_code == 201
    body = {"geometry": parcel(20, 30, 22, 33)}
    (row,) = writer.post("/timeseries", json=body).json()["observations"]
    assert set(row["item"].split()) == {"lai_west", "lai_east"}
    assert row["pixels"] == pytest.approx(6, rel=1e-3)


def test_time_and_filter_choose_the_items(published: TestClient) -> None:
    body = {"geometry": parcel(20, 20, 24, 24), "datetime": "2024-06-05T00:00:00Z/.."}
    assert len(published.post("/timeseries", json=body).json()["observations"]) == 2
    body["filter"] = {"op": "=", "args": [{"property": "id"}, "lai_s2_32tpu_20240611"]}
    assert len(published.post("/timeseries", json=body).json()["observations"]) == 1
    assert published.post("/timeseries", json=body | {"collections": ["x"]}).status_code == 404
