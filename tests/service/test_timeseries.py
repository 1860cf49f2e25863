"""Time series of points and parcels equal a computation by hand and by exactextract itself."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform_geom
from rasterio.windows import Window
from service.fake_items import lonlat, parcel
from shapely.geometry import box, mapping

from lai_service.api import timeseries
from lai_service.files import curves, observations
from lai_service.files.pixels import physical
from lai_udf.bundle import Bundle

Make = Callable[..., Path]


def test_point_gives_the_pixel_of_every_date(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    found = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert [o["datetime"][:10] for o in found] == ["2024-06-01", "2024-06-11", "2024-06-21"]
    assert [o["lai"] for o in found] == pytest.approx([2.0, 3.0, 4.0])
    assert [o["upper"] - o["lower"] for o in found] == pytest.approx([1.0] * 3)
    assert [(o["sd"], o["valid_fraction"]) for o in found] == [(pytest.approx(0.1), 1.0)] * 3


def test_parcel_mean_is_weighted_by_the_area_of_partial_pixels(published: TestClient) -> None:
    # Columns 20, 21 and a half of 22: LAI 2.0, 2.05, 2.10 with weights 1, 1, 1/2.
    body = {"geometry": parcel(20, 30, 22.5, 33.25)}
    first = published.post("/timeseries", json=body).json()["observations"][0]
    assert first["lai"] == pytest.approx((2.0 + 2.05 + 0.5 * 2.10) / 2.5, abs=1e-4)
    assert first["pixels"] == pytest.approx(2.5 * 3.25, rel=1e-3)
    assert first["valid_fraction"] == pytest.approx(1.0, abs=1e-3)


def test_parcel_mean_equals_exactextract_on_the_raster(published: TestClient, settings) -> None:
    geometry = parcel(11.3, 17.8, 29.6, 24.1)
    geometry["coordinates"][0][1] = lonlat(27.2, 26.9)  # no rectangle
    first = published.post("/timeseries", json={"geometry": geometry}).json()["observations"][0]

    (path,) = settings.data.glob("lai/lai_s2_32tpu_20240601/*/lai.tif")
    utm = transform_geom("EPSG:4326", "EPSG:32632", geometry)
    feature = {"type": "Feature", "geometry": utm, "properties": {}}
    with rasterio.open(path) as raster:
        (direct,) = exact_extract(RasterioRasterSource(raster), feature, ["mean", "count"])
    assert first["lai"] == pytest.approx(direct["properties"]["mean"], rel=1e-9)
    assert first["pixels"] == pytest.approx(direct["properties"]["count"], rel=1e-9)


def test_no_data_and_cloud_lower_the_valid_fraction_and_not_the_mean(
    published: TestClient,
) -> None:
    # Columns 4-11, rows 0-7: the left half is no data; column 8-11 have LAI 1.40 to 1.55.
    body = {"geometry": parcel(4, 0, 12, 8)}
    first = published.post("/timeseries", json=body).json()["observations"][0]
    assert first["valid_fraction"] == pytest.approx(0.5, abs=1e-3)
    assert first["lai"] == pytest.approx(np.mean([1.40, 1.45, 1.50, 1.55]), abs=1e-3)

    cloudy = {"geometry": parcel(56, 56, 64, 64)}
    hidden = published.post("/timeseries", json=cloudy).json()["observations"][0]
    shown = published.post("/timeseries", json=cloudy | {"exclude_flags": 64}).json()
    assert (hidden["lai"], hidden["valid_fraction"]) == (None, 0.0)
    assert shown["observations"][0]["valid_fraction"] == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("flag", [8, 16])
def test_value_that_is_not_possible_is_left_out_of_the_mean(
    published: TestClient, monkeypatch: pytest.MonkeyPatch, flag: int
) -> None:
    def half(path: Path, window: Window) -> np.ndarray:
        if path.stem != "lai_flags":
            return physical(path, window)
        columns = np.arange(window.col_off, window.col_off + window.width)
        return np.broadcast_to(np.where(columns < 22, flag, 0), (window.height, window.width))

    monkeypatch.setattr(observations, "physical", half)
    body = {"geometry": parcel(20, 30, 24, 34)}
    found = published.post("/timeseries", json=body).json()["observations"][0]
    assert (found["lai"], found["valid_fraction"]) == (pytest.approx(2.125), pytest.approx(0.5))
    everything = {**body, "exclude_flags": 32 | 64}
    found = published.post("/timeseries", json=everything).json()["observations"][0]
    assert (found["lai"], found["valid_fraction"]) == (pytest.approx(2.075), pytest.approx(1))


def test_parcel_that_leaves_the_raster_has_less_valid_area(published: TestClient) -> None:
    body = {"geometry": parcel(60, 20, 68, 24)}
    first = published.post("/timeseries", json=body).json()["observations"][0]
    assert first["valid_fraction"] == pytest.approx(0.5, abs=1e-3)


def test_rasters_in_degrees_have_a_resolution_in_metres(
    writer: TestClient, make_result: Make
) -> None:
    folder = make_result("lai_degrees")
    file = folder / "lai_degrees.json"
    item = json.loads(file.read_text())
    item["assets"] = {"lai": item["assets"]["lai"]}
    file.write_text(json.dumps(item))
    west, _, _, north = item["bbox"]
    degrees = from_origin(west - 0.0002, north + 0.0002, 0.0002, 0.0002)
    profile = {"count": 1, "dtype": "float32", "crs": "EPSG:4326", "transform": degrees}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=92, height=64, **profile) as raster:
            raster.write(np.full((64, 92), 2.5, "float32"), 1)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, folder / "lai.tif", driver="COG")
    answer = writer.post("/publish", json={"directory": str(folder)})
    assert answer.status_code == 201, answer.text
    field = mapping(box(west + 0.001, north - 0.002, west + 0.002, north - 0.001))
    answer = writer.post("/timeseries", json={"geometry": field, "resolution": 22.3})
    assert answer.status_code == 200, answer.text
    assert answer.json()["settings"]["resolution"] == "22.3 m"
    (row,) = answer.json()["observations"]
    assert (row["lai"], row["pixels"]) == pytest.approx((2.5, 25), rel=1e-3)


def test_least_valid_fraction_decides_whether_there_is_a_mean(published: TestClient) -> None:
    place = {"geometry": parcel(5, 0, 11, 8)}  # half of it without data
    for least, has_mean in ((0.4, True), (0.6, False)):
        body = {**place, "min_valid_fraction": least}
        first = published.post("/timeseries", json=body).json()["observations"][0]
        assert (first["lai"] is not None) == has_mean
        assert first["valid_fraction"] == pytest.approx(0.5, abs=1e-2)


def test_parcels_far_apart_are_read_apart(
    published: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = [
        {"type": "Feature", "properties": {}, "geometry": parcel(x, 30, x + 3, 33)}
        for x in (20, 50)
    ]
    body: dict = {"geometry": {"type": "FeatureCollection", "features": features}}
    together = published.post("/timeseries", json=body).json()["series"]
    timeseries._KEPT.clear()
    monkeypatch.setattr(observations, "MAX_PIXELS", 20)
    apart = published.post("/timeseries", json=body).json()["series"]
    for one, other in zip(together, apart, strict=True):
        assert [row["lai"] for row in one["observations"]] == pytest.approx(
            [row["lai"] for row in other["observations"]]
        )
    large = {"geometry": parcel(20, 20, 40, 40)}
    assert published.post("/timeseries", json=large).status_code == 400
    monkeypatch.setattr(observations, "MAX_READ_PIXELS", 20)
    timeseries._KEPT.clear()
    assert published.post("/timeseries", json=body).status_code == 400


def test_interval_of_a_field_mean_keeps_only_what_pixels_share(
    writer: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = {"calibration": {"variables": {"LAI": {"shared": 0.25}}}}
    assets = {"model": {"file:checksum": "1220aa"}}
    model = Bundle(Path("m.zip"), {"properties": {"lai:contract": contract}, "assets": assets})
    monkeypatch.setattr(curves, "_opened", lambda paths: (model,))
    facts = {"laiq:target": "field", "laiq:model_id": "m"}
    for version, checksum in (("1.0.0", "1220aa"), ("0.9.0", "1220bb")):
        made = {"laiq:model_version": version, "laiq:model_checksum": checksum}
        folder = make_result(f"f{checksum}", "2024-06-21T10:36:31Z", **facts, **made)
        assert writer.post("/publish", json={"directory": str(folder)}).status_code == 201

    def width(model: str, side: int) -> float:
        body = {"geometry": parcel(20, 20, 20 + side, 20 + side), "model": model}
        answer = writer.post("/timeseries", json=body).json()
        (row,) = answer["observations"]
        return row["upper"] - row["lower"]

    assert width("0.9.0", 20) == pytest.approx(1.0)  # unknown here: as its pixels
    assert width("1.0.0", 1) == pytest.approx(1.0)
    assert 0.5 < width("1.0.0", 20) < 0.8  # the shared quarter of the variance stays
