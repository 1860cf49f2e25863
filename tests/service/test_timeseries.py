"""Time series of points and parcels equal a computation by hand and by exactextract itself."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_geom
from rasterio.windows import Window
from service.fake_items import ORIGIN
from shapely.geometry import box, mapping

from lai_service import Settings
from lai_service.api import timeseries
from lai_service.files import curves, observations
from lai_service.files.observations import observe
from lai_service.files.pixels import physical
from lai_udf.bundle import Bundle
from lai_udf.scenes.metadata import CALLER

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Make = Callable[..., Path]


@pytest.fixture
def published(writer: TestClient, make_result: Make) -> TestClient:
    """Three dates; LAI rises by 1 from date to date and by 0.05 from column to column."""
    for number, day in enumerate((1, 11, 21)):
        folder = make_result(
            f"lai_s2_32tpu_202406{day:02d}", f"2024-06-{day:02d}T10:00:00Z", offset=float(number)
        )
        answer = writer.post("/publish", json={"directory": str(folder)})
        assert answer.status_code == 201, answer.text
    return writer


def lonlat(x_px: float, y_px: float) -> tuple[float, float]:
    """Return longitude and latitude of a place in pixels from the upper left corner."""
    x, y = ORIGIN[0] + x_px * 20, ORIGIN[1] - y_px * 20
    (lon,), (lat,) = transform("EPSG:32632", "EPSG:4326", [x], [y])
    return lon, lat


def parcel(x0: float, y0: float, x1: float, y1: float) -> dict:
    """Return a rectangle in pixels as GeoJSON in degrees."""
    corners = [(x0, y1), (x1, y1), (x1, y0), (x0, y0), (x0, y1)]
    return {"type": "Polygon", "coordinates": [[lonlat(*corner) for corner in corners]]}


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


def test_date_all_under_cloud_opens_flags_and_lai_only(
    published: TestClient, settings: Settings
) -> None:
    for raster in settings.data.glob("lai/*/*/lai_[slu]?*.tif"):
        raster.unlink()
    found = published.post("/timeseries", json={"geometry": parcel(57, 57, 63, 63)}).json()
    assert [(o["lai"], o["sd"], o["pixels"]) for o in found["observations"]] == [
        (None, None, 0)
    ] * 3


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


def test_parcel_is_read_from_the_files_once_and_a_new_version_anew(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"geometry": parcel(20, 30, 22.5, 33.25)}
    first = published.post("/timeseries", json=body).json()
    with monkeypatch.context() as blind:
        blind.delattr(observations, "physical")
        assert published.post("/timeseries", json=body).json() == first
    folder = make_result("lai_s2_32tpu_20240601", "2024-06-01T10:00:00Z", offset=5.0)
    published.post("/publish", json={"directory": str(folder)})
    second = published.post("/timeseries", json=body).json()["observations"]
    assert second[0]["lai"] == pytest.approx(first["observations"][0]["lai"] + 5)
    assert second[1:] == first["observations"][1:]


def test_parcel_that_leaves_the_raster_has_less_valid_area(published: TestClient) -> None:
    body = {"geometry": parcel(60, 20, 68, 24)}
    first = published.post("/timeseries", json=body).json()["observations"][0]
    assert first["valid_fraction"] == pytest.approx(0.5, abs=1e-3)


def test_place_without_items_is_404_with_the_reason(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    nowhere = published.get("/timeseries?lon=0&lat=0")
    swapped = published.get(f"/timeseries?lon={lat}&lat={lon}")
    late = published.get(f"/timeseries?lon={lon}&lat={lat}&datetime=2030-01-01/..")
    assert [answer.status_code for answer in (nowhere, swapped, late)] == [404, 404, 404]
    assert "swapped" in swapped.json()["description"]
    assert nowhere.json()["description"].startswith("no item meets [0.0, 0.0, 0.0, 0.0] (west")
    assert "swapped" not in nowhere.json()["description"]
    assert "time" in late.json()["description"]


def test_whole_world_is_refused(published: TestClient) -> None:
    ring = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    world = {"type": "Polygon", "coordinates": [ring]}
    assert published.post("/timeseries", json={"geometry": world}).status_code == 400


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


def test_filter_of_an_address_chooses_the_items(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    asked = {"lon": lon, "lat": lat, "filter": "id = 'lai_s2_32tpu_20240611'"}
    assert len(published.get("/timeseries", params=asked).json()["observations"]) == 1


def test_least_valid_fraction_decides_whether_there_is_a_mean(published: TestClient) -> None:
    place = {"geometry": parcel(5, 0, 11, 8)}  # half of it without data
    for least, has_mean in ((0.4, True), (0.6, False)):
        body = {**place, "min_valid_fraction": least}
        first = published.post("/timeseries", json=body).json()["observations"][0]
        assert (first["lai"] is not None) == has_mean
        assert first["valid_fraction"] == pytest.approx(0.5, abs=1e-2)


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


def test_many_parcels_are_one_table(published: TestClient) -> None:
    features = [
        {"type": "Feature", "id": "a", "properties": {}, "geometry": parcel(20, 30, 22, 33)},
        {"type": "Feature", "properties": {"name": "b"}, "geometry": parcel(40, 30, 42, 33)},
    ]
    body: dict = {"geometry": {"type": "FeatureCollection", "features": features}}
    series = published.post("/timeseries", json=body).json()["series"]
    assert [one["place"] for one in series] == ["a", "b"]
    alone = published.post("/timeseries", json={"geometry": features[1]}).json()["observations"]
    assert [row["lai"] for row in series[1]["observations"]] == pytest.approx(
        [row["lai"] for row in alone]
    )

    text = published.post("/timeseries", json=body | {"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["place"] for row in rows] == ["a"] * 3 + ["b"] * 3
    binary = published.post("/timeseries", json=body | {"format": "parquet"}).content
    table = geopandas.read_parquet(io.BytesIO(binary))
    assert list(table.lai) == [float(row["lai"]) for row in rows]
    assert (table.crs.to_epsg(), table.datetime.dt.day.tolist()) == (4326, [1, 11, 21] * 2)
    assert published.post("/timeseries", json=body | {"format": "png"}).status_code == 400


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


def test_time_and_filter_choose_the_items(published: TestClient) -> None:
    body = {"geometry": parcel(20, 20, 24, 24), "datetime": "2024-06-05T00:00:00Z/.."}
    assert len(published.post("/timeseries", json=body).json()["observations"]) == 2
    body["filter"] = {"op": "=", "args": [{"property": "id"}, "lai_s2_32tpu_20240611"]}
    assert len(published.post("/timeseries", json=body).json()["observations"]) == 1
    assert published.post("/timeseries", json=body | {"collections": ["x"]}).status_code == 404


def test_csv_and_plot_show_the_same(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    table = published.get(f"/timeseries?lon={lon}&lat={lat}&format=csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [float(row["lai"]) for row in rows] == pytest.approx([2.0, 3.0, 4.0])
    plot = published.get(f"/timeseries?lon={lon}&lat={lat}&format=png")
    assert (plot.headers["Content-Type"], plot.content[:4]) == ("image/png", b"\x89PNG")


def test_bad_request_is_400(published: TestClient, subtests: pytest.Subtests) -> None:
    for body in [
        {},
        {"geometry": {}},
        {"geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}},
        {"geometry": {"type": "Point", "coordinates": ["a", 0]}},
        {"geometry": {"type": "Point", "coordinates": [600000, 5300000]}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}},
        {"geometry": {"type": "FeatureCollection", "features": []}},
        {"geometry": {"type": "Polygon", "coordinates": []}},
        {"geometry": {"type": "Feature", "geometry": None}},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "format": "xlsx"},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "exclude_flags": 256},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "datetime": "x"},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "unknown": 1},
    ]:
        with subtests.test(body=body):
            answer = published.post("/timeseries", json=body)
            assert (answer.status_code, len(answer.json()["description"]) > 5) == (400, True)


def test_bad_query_is_400(published: TestClient, subtests: pytest.Subtests) -> None:
    for query in [
        "",
        "lon=1",
        "lon=1&lat=91",
        "lon=1&lat=1&geometry={}",
        "geometry={",
        "geometry=[]",
    ]:
        with subtests.test(query=query):
            assert published.get(f"/timeseries?{query}").status_code == 400


def test_item_that_is_replaced_or_deleted_while_it_is_read_is_read_again(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def change_first(results: list, *given: object) -> object:
        looked.append(len(results))
        if len(looked) == 1:
            item = results[0].item
            folder = make_result(item["id"], item["properties"]["datetime"], offset=2.5)
            published.post("/publish", json={"directory": str(folder)})
            published.delete(f"/collections/lai/items/{results[1].item['id']}")
        return observe(results, *given)

    monkeypatch.setattr(timeseries, "observe", change_first)
    lon, lat = lonlat(20.5, 30.5)
    found = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert sorted(o["lai"] for o in found) == pytest.approx([4.0, 4.5])
    assert looked == [3, 2]


def test_item_that_is_replaced_whenever_it_is_read_is_read_all_the_same(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def change_first(results: list, *given: object) -> object:
        looked.append(len(results))
        item = results[0].item
        folder = make_result(item["id"], item["properties"]["datetime"], offset=len(looked))
        published.post("/publish", json={"directory": str(folder)})
        return observe(results, *given)

    monkeypatch.setattr(timeseries, "observe", change_first)
    lon, lat = lonlat(20.5, 30.5)
    answer = published.get(f"/timeseries?lon={lon}&lat={lat}")
    assert (answer.status_code, looked) == (200, [3])


def test_what_was_read_of_a_newer_version_is_not_kept_for_the_older(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def replace_first(results: list, *given: object) -> object:
        item = results[0].item
        looked.append(len(results))
        if len(looked) == 1:
            folder = make_result(item["id"], item["properties"]["datetime"], offset=9.0)
            published.post("/publish", json={"directory": str(folder)})
        return observe(results, *given)

    lon, lat = lonlat(20.5, 30.5)
    (before, *_) = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    timeseries._KEPT.clear()
    monkeypatch.setattr(timeseries, "observe", replace_first)
    (newer, *_) = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert newer["lai"] > 9
    folder = make_result(newer["item"], newer["datetime"])
    published.post("/publish", json={"directory": str(folder)})
    (after, *_) = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert after["lai"] == pytest.approx(before["lai"])


def test_raster_that_is_damaged_is_reported_without_its_path(
    published: TestClient, settings: Settings
) -> None:
    for raster in settings.data.glob("lai/*/*/lai_sd.tif"):
        raster.write_bytes(b"II*\x00garbage")
    lon, lat = lonlat(20.5, 30.5)
    answer = published.get(f"/timeseries?lon={lon}&lat={lat}")
    assert answer.status_code == 500
    assert "lai-service repair" in answer.json()["description"]
    assert str(settings.data) not in answer.text


def test_a_smoothed_curve_lies_on_a_regular_grid_of_dates(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    found = published.get(f"/timeseries?lon={lon}&lat={lat}&smooth=5").json()

    dates = [row["date"] for row in found["smoothed"]]
    assert dates == ["2024-06-01", "2024-06-06", "2024-06-11", "2024-06-16", "2024-06-21"]
    lai = [row["lai"] for row in found["smoothed"]]
    assert lai == sorted(lai)
    assert lai[::2] == pytest.approx([2.0, 3.0, 4.0], abs=0.2)
    assert [row["gap_days"] for row in found["smoothed"]] == [0, 5, 0, 5, 0]
    assert all(row["lower"] < row["lai"] < row["upper"] for row in found["smoothed"])
    assert [row["rejected"] for row in found["observations"]] == [False] * 3


def test_tables_and_plots_of_a_smoothed_curve(published: TestClient) -> None:
    places = [parcel(10, 10, 14, 14), parcel(20, 20, 24, 24)]
    features = [{"type": "Feature", "properties": {}, "geometry": place} for place in places]
    body = {"geometry": {"type": "FeatureCollection", "features": features}, "smooth": 10}

    table = list(
        csv.DictReader(
            io.StringIO(published.post("/timeseries", json=body | {"format": "csv"}).text)
        )
    )
    assert list(table[0]) == ["place", "date", "lai", "sd", "lower", "upper", "gap_days"]
    assert len(table) == 6
    parquet = published.post("/timeseries", json=body | {"format": "parquet"})
    assert len(geopandas.read_parquet(io.BytesIO(parquet.content))) == 6
    lon, lat = lonlat(20.5, 30.5)
    plot = published.get(f"/timeseries?lon={lon}&lat={lat}&smooth=5&format=png")
    assert plot.content[:4] == b"\x89PNG"
    assert published.get(f"/timeseries?lon={lon}&lat={lat}&smooth=0").status_code == 400


def test_parameter_that_a_request_lacks_is_refused_and_not_ignored(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    body = {"geometry": parcel(20, 30, 22, 33)}
    refused = [
        published.get(f"/timeseries?lon={lon}&lat={lat}&variable=FAPAR"),
        published.post("/timeseries?variable=FAPAR", json=body),
        published.post("/timeseries", json=body | {"variable": "FAPAR"}),
        published.get("/mosaic/tilejson.json?collection=lai&date=2024-06&variable=fapar"),
        published.get("/mosaic/tiles/12/2168/1420.png?collection=lai&date=2024-06&assets=lai_sd"),
        published.post("/publish?collection=other", json={"directory": "x"}),
    ]
    assert [answer.status_code for answer in refused] == [400] * len(refused)
    names = ["variable"] * 4 + ["assets", "collection"]
    for answer, name in zip(refused, names, strict=True):
        assert name in answer.json()["description"]
