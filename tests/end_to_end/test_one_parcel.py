"""One parcel has one number: in the item, in `lai-train parcels`, in the service's time series."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from fake_lai import ARGUMENTS, SIDE_PX, UTM32, fake_layers, write_product
from fastapi.testclient import TestClient
from pyproj import Transformer

from lai_service import Settings, create_app
from lai_stac.item import describe
from lai_training.parcels.means import observe_items, read_parcels
from lai_udf import predict

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
