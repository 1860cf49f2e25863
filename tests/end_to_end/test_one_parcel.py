"""One parcel has one number: in the item, in `lai-train parcels`, in the service's time series.

It has one curve: in these, in `lai-udf field` and in the series of its pixels.
"""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from fake_lai import ARGUMENTS, SIDE_PX, UTM32, fake_layers, write_product
from fastapi.testclient import TestClient
from pyproj import Transformer

from lai_service import Settings, create_app
from lai_stac.item import describe
from lai_training.parcels.means import observe_items, read_parcels
from lai_training.parcels.report import smooth_parcels
from lai_udf import predict, series
from lai_udf.field.table import build_table, smooth_table
from lai_udf.results import find_results
from lai_udf.series_files import open_series_input, write_series

TOKEN = "a-token-of-this-test"
FLAGS = (
    predict.INPUT_OUT_OF_DOMAIN,
    predict.CLIPPED_TO_MAX,
    predict.OUTPUT_TOO_LOW,
    predict.CLOUD_NEAR,
    predict.RESIDUAL_CLOUD,
)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product observed all over, with every kind of flag, holes, and impossible numbers."""
    rng = np.random.default_rng(3)
    layers = fake_layers(rng)
    layers["LAI"] = rng.uniform(0, 7.5, layers["LAI"].shape).astype("float32")
    flags = np.zeros(layers["LAI"].shape, np.uint8)
    for number, flag in enumerate(FLAGS):
        flags[rng.random(flags.shape) < 0.06] |= flag
        layers["LAI"][(flags & flag) > 0] += number  # those that do not count would show
    hidden = rng.random(flags.shape) < 0.1
    layers["LAI"][hidden], flags[hidden] = np.nan, predict.CLOUD_NEAR
    layers["LAI_FLAGS"] = flags.astype("float32")
    layers["LAI_LOWER"], layers["LAI_UPPER"] = layers["LAI"] - 0.5, layers["LAI"] + 0.7
    folder = write_product(tmp_path_factory.mktemp("one") / "product", layers)
    describe(folder, **ARGUMENTS, platform="S2A")
    return folder


@pytest.fixture(scope="module")
def service(product: Path, tmp_path_factory: pytest.TempPathFactory):
    settings = Settings(
        data=tmp_path_factory.mktemp("data"), allowed_roots=(product.parent,), token=TOKEN
    )
    with TestClient(create_app(settings)) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = client.post("/publish", json={"directory": str(product)}, headers=headers)
        assert answer.status_code == 201, answer.text
        yield client


def in_degrees(polygon: shapely.Polygon) -> shapely.Polygon:
    """The polygon with a corner at every pixel, so that its edges are the same in degrees."""
    transformer = Transformer.from_crs(UTM32.crs, 4326, always_xy=True)
    return shapely.transform(
        shapely.segmentize(polygon, 20), transformer.transform, interleaved=False
    )


def by_parcels(product: Path, polygon: shapely.Polygon, folder: Path):
    table = gpd.GeoDataFrame({"id": ["a"]}, geometry=[in_degrees(polygon)], crs=4326)
    table.to_parquet(folder / "p.parquet")
    (row,) = observe_items(read_parcels(folder / "p.parquet"), [product]).to_dict("records")
    return row


def by_service(service: TestClient, polygon: shapely.Polygon):
    geometry = shapely.geometry.mapping(in_degrees(polygon))
    answer = service.post("/timeseries", json={"geometry": geometry})
    assert answer.status_code == 200, answer.text
    (observation,) = answer.json()["observations"]
    return observation


def test_a_parcel_that_is_the_raster_has_the_mean_of_the_item(product, service, tmp_path):
    (path,) = product.glob("lai_s2_*.json")
    item = json.loads(path.read_text())["properties"]
    raster = shapely.box(*UTM32.bounds)

    row, observation = by_parcels(product, raster, tmp_path), by_service(service, raster)

    assert item["laiq:pixel_count"] == SIDE_PX**2
    assert 0.5 < item["laiq:valid_fraction"] < 0.8
    assert row["lai"] == pytest.approx(item["laiq:lai_mean"], abs=1e-6)
    assert observation["lai"] == pytest.approx(item["laiq:lai_mean"], abs=1e-6)
    assert row["valid_fraction"] == pytest.approx(item["laiq:valid_fraction"], abs=1e-6)
    assert observation["valid_fraction"] == pytest.approx(item["laiq:valid_fraction"], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_any_parcel_is_the_same_in_parcels_and_time_series(product, service, tmp_path, seed):
    rng = np.random.default_rng(seed)
    west, south, east, north = UTM32.bounds
    middle = shapely.Point(rng.uniform(west, east), rng.uniform(south, north))
    polygon = middle.buffer(rng.uniform(60, 300), quad_segs=3)

    row, observation = by_parcels(product, polygon, tmp_path), by_service(service, polygon)

    assert row["valid_fraction"] == pytest.approx(observation["valid_fraction"], abs=1e-6)
    if row["valid_fraction"] < 0.5:
        assert np.isnan(row["lai"])
        assert observation["lai"] is None
    else:
        for name in ("lai", "lower", "upper", "sd"):
            assert row[name] == pytest.approx(observation[name], abs=1e-6)


STEP_DAYS = 5
SEASON = {
    "2024-04-01": (1.0, 0),
    "2024-04-09": (1.6, predict.INPUT_OUT_OF_DOMAIN),
    "2024-04-16": (1.9, predict.CLOUD_NEAR),
    "2024-04-21": (4.2, predict.RESIDUAL_CLOUD | predict.INPUT_OUT_OF_DOMAIN),
    "2024-04-28": (-0.3, predict.OUTPUT_TOO_LOW),
    "2024-05-06": (2.9, predict.INPUT_OUT_OF_DOMAIN),
    "2024-05-16": (3.4, 0),
}
"""LAI and flags of a whole product by date."""


def test_a_parcel_has_one_curve_whatever_draws_it(tmp_path, tmp_path_factory):
    for day, (lai, flags) in SEASON.items():
        flat = {"LAI": lai, "LAI_SD": 0.1, "LAI_LOWER": lai - 0.8, "LAI_UPPER": lai + 1.1}
        layers = {name: np.full((SIDE_PX, SIDE_PX), value) for name, value in flat.items()}
        layers["LAI_FLAGS"] = np.full((SIDE_PX, SIDE_PX), float(flags))
        folder = write_product(tmp_path / "results" / day, layers)
        describe(folder, model=ARGUMENTS["model"], datetime=f"{day}T10:36:29Z", platform="S2A")
    results = find_results([tmp_path / "results"])
    west, _, _, north = UTM32.bounds
    polygon = in_degrees(shapely.box(west + 210, north - 410, west + 390, north - 230))
    table = gpd.GeoDataFrame({"id": ["a"]}, geometry=[polygon], crs=4326)
    table.to_parquet(tmp_path / "p.parquet")

    grid = {"step_days": STEP_DAYS, "start": min(SEASON), "end": max(SEASON)}
    write_series(open_series_input(tmp_path / "results"), tmp_path / "series", **grid)
    with xr.open_dataset(tmp_path / "series" / "series.nc") as written:
        pixel = written.isel(y=15, x=15).load()
    counted = build_table(table, results, exclude_flags=series.IMPOSSIBLE_FLAGS)
    seen, by_field = smooth_table(build_table(table, results), counted, STEP_DAYS)
    parcels = read_parcels(tmp_path / "p.parquet")
    by_training = smooth_parcels(
        observe_items(parcels, results, exclude_flags=series.IMPOSSIBLE_FLAGS), STEP_DAYS
    )
    settings = Settings(
        data=tmp_path_factory.mktemp("data"), allowed_roots=(tmp_path,), token=TOKEN
    )
    with TestClient(create_app(settings)) as client:
        for folder in sorted((tmp_path / "results").iterdir()):
            answer = client.post(
                "/publish",
                json={"directory": str(folder)},
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
            assert answer.status_code == 201, answer.text
        geometry = shapely.geometry.mapping(polygon)
        asked = {"geometry": geometry, "smooth": STEP_DAYS}
        answer = client.post("/timeseries", json=asked).json()
    by_service = answer["smoothed"]

    assert len(pixel["t"]) == len(by_field) == len(by_training) == len(by_service) == 10
    columns = {"lai": "LAI", "sd": "LAI_SD", "lower": "LAI_LOWER", "upper": "LAI_UPPER"}
    for column, band in columns.items():
        alone = pixel[band].to_numpy()
        assert by_field[band.lower()].to_numpy() == pytest.approx(alone, abs=2e-3)
        assert by_training[band.lower()].to_numpy() == pytest.approx(alone, abs=2e-3)
        assert [row[column] for row in by_service] == pytest.approx(alone, abs=2e-3)
    observations = answer["observations"]
    assert [row["flags"] for row in observations] == [flags for _, flags in SEASON.values()]
    assert [row["rejected"] for row in observations] == list(seen["rejected"].fillna(0) == 1)
    usable = [flags & predict.UNUSABLE_FLAGS == 0 for _, flags in SEASON.values()]
    assert [row["lai"] is not None for row in observations] == usable
