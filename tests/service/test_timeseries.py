"""Time series of points and parcels equal a computation by hand and by exactextract itself."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from fastapi.testclient import TestClient
from rasterio.warp import transform, transform_geom
from rasterio.windows import Window
from service.fake_items import ORIGIN

from lai_service import Settings
from lai_service.api import timeseries
from lai_service.files import parcels, places
from lai_service.files.parcels import observe
from lai_service.files.plain_tiff import Stored

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


def test_date_all_under_cloud_opens_its_flags_only(
    published: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(parcels, "physical")
    found = published.post("/timeseries", json={"geometry": parcel(57, 57, 63, 63)}).json()
    assert [(o["lai"], o["sd"], o["pixels"]) for o in found["observations"]] == [
        (None, None, 0)
    ] * 3


@pytest.mark.parametrize("flag", [8, 16])
def test_value_that_is_not_possible_is_left_out_of_the_mean(
    published: TestClient, monkeypatch: pytest.MonkeyPatch, flag: int
) -> None:
    def half(path: Path, window: Window) -> Stored:
        flags = np.zeros((window.height, window.width), np.uint8)
        flags[:, : window.width // 2] = flag
        return Stored(flags, 1, 0, None)

    monkeypatch.setattr(parcels, "stored", half)
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
        blind.delattr(parcels, "stored")
        assert published.post("/timeseries", json=body).json() == first
    folder = make_result("lai_s2_32tpu_20240601", "2024-06-01T10:00:00Z", offset=5.0)
    published.post("/publish", json={"directory": str(folder)})
    second = published.post("/timeseries", json=body).json()["observations"]
    assert second[0]["lai"] == pytest.approx(first["observations"][0]["lai"] + 5)
    assert second[1:] == first["observations"][1:]


def test_items_of_one_tile_share_the_weights(
    published: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    coverage = places._coverage
    monkeypatch.setattr(places, "_coverage", lambda *a: made.append(a) or coverage(*a))
    monkeypatch.setattr(timeseries, "_READERS", 1)
    found = published.post("/timeseries", json={"geometry": parcel(3, 30, 22.5, 33.25)}).json()
    assert (len(found["observations"]), len(made)) == (3, 1)


def test_parcel_that_leaves_the_raster_has_less_valid_area(published: TestClient) -> None:
    body = {"geometry": parcel(60, 20, 68, 24)}
    first = published.post("/timeseries", json=body).json()["observations"][0]
    assert first["valid_fraction"] == pytest.approx(0.5, abs=1e-3)


def test_place_outside_all_items_gives_an_empty_series(published: TestClient) -> None:
    assert published.get("/timeseries?lon=0&lat=0").json()["observations"] == []


def test_time_and_filter_choose_the_items(published: TestClient) -> None:
    body = {"geometry": parcel(20, 20, 24, 24), "datetime": "2024-06-05T00:00:00Z/.."}
    assert len(published.post("/timeseries", json=body).json()["observations"]) == 2
    body["filter"] = {"op": "=", "args": [{"property": "id"}, "lai_s2_32tpu_20240611"]}
    assert len(published.post("/timeseries", json=body).json()["observations"]) == 1
    assert (
        published.post("/timeseries", json=body | {"collections": ["x"]}).json()["observations"]
        == []
    )


def test_csv_and_plot_say_the_same(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    table = published.get(f"/timeseries?lon={lon}&lat={lat}&format=csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [float(row["lai"]) for row in rows] == pytest.approx([2.0, 3.0, 4.0])
    plot = published.get(f"/timeseries?lon={lon}&lat={lat}&format=png")
    assert (plot.headers["Content-Type"], plot.content[:4]) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"geometry": {}},
        {"geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}},
        {"geometry": {"type": "Point", "coordinates": ["a", 0]}},
        {"geometry": {"type": "Point", "coordinates": [600000, 5300000]}},
        {
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]],
            }
        },
        {"geometry": {"type": "Polygon", "coordinates": []}},
        {"geometry": {"type": "Feature", "geometry": None}},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "format": "xlsx"},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "exclude_flags": 256},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "datetime": "x"},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "unknown": 1},
    ],
)
def test_bad_request_is_400(published: TestClient, body: dict) -> None:
    answer = published.post("/timeseries", json=body)
    assert (answer.status_code, len(answer.json()["description"]) > 5) == (400, True)


@pytest.mark.parametrize(
    "query", ["", "lon=1", "lon=1&lat=91", "lon=1&lat=1&geometry={}", "geometry={", "geometry=[]"]
)
def test_bad_query_is_400(published: TestClient, query: str) -> None:
    assert published.get(f"/timeseries?{query}").status_code == 400


def test_item_that_is_replaced_while_it_is_read_is_read_again(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def replace_first(item: dict, **given: object) -> object:
        looked.append(item["id"])
        if len(looked) == 1:
            folder = make_result(item["id"], item["properties"]["datetime"], offset=2.5)
            published.post("/publish", json={"directory": str(folder)})
        return observe(item, **given)

    monkeypatch.setattr(timeseries, "observe", replace_first)
    lon, lat = lonlat(20.5, 30.5)
    found = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert sorted(o["lai"] for o in found) == pytest.approx([3.0, 4.0, 4.5])
    assert len(looked) == 4


def test_item_that_is_deleted_while_it_is_read_is_left_out(
    published: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_first(item: dict, **given: object) -> object:
        published.delete(f"/collections/lai/items/{item['id']}")
        return observe(item, **given)

    monkeypatch.setattr(timeseries, "observe", delete_first)
    lon, lat = lonlat(20.5, 30.5)
    assert published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"] == []


def test_raster_that_is_damaged_is_told_without_its_path(
    published: TestClient, settings: Settings
) -> None:
    for raster in settings.data.glob("lai/*/*/lai_sd.tif"):
        raster.write_bytes(b"II*\x00garbage")
    lon, lat = lonlat(20.5, 30.5)
    answer = published.get(f"/timeseries?lon={lon}&lat={lat}")
    assert answer.status_code == 500
    assert "lai-service repair" in answer.json()["description"]
    assert str(settings.data) not in answer.text
