"""A product across ±180°: described, published, found from either side, and read over a parcel."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from fake_lai import ARGUMENTS, fake_layers, write_product
from fastapi.testclient import TestClient
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from shapely.geometry import shape

from lai_service import Settings, create_app
from lai_stac.item import describe
from lai_udf.grid import Grid

TOKEN = "a-token-of-this-test"
SIDE = 64


@pytest.fixture(scope="module", params=[1, 60])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A service that holds one product whose slanted swath crosses the antimeridian."""
    crs = CRS.from_epsg(32600 + request.param)
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(180.0, 66.9)
    grid = Grid(crs, Affine(20, 0, x - 10 * SIDE, 0, -20, y + 10 * SIDE), SIDE, SIDE)
    layers = fake_layers(np.random.default_rng(0), SIDE)
    row, column = np.mgrid[:SIDE, :SIDE]
    gone = column < 4 + row / 5
    for band in ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER"):
        layers[band][gone] = np.nan
    layers["LAI_FLAGS"][gone] = 64
    folder: Path = tmp_path_factory.mktemp("over") / "product"
    describe(write_product(folder, layers, grid), **ARGUMENTS)
    data = tmp_path_factory.mktemp("data")
    settings = Settings(data=data, allowed_roots=(folder.parent,), token=TOKEN)
    with TestClient(create_app(settings)) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = client.post("/publish", json={"directory": str(folder)}, headers=headers)
        assert answer.status_code == 201, answer.text
        yield client


@pytest.mark.parametrize(
    ("bbox", "found"),
    [
        ("179.99,66.8,-179.99,67", 1),
        ("179.9,66.8,180,67", 1),
        ("-180,66.8,-179.9,67", 1),
        ("-179,66.8,179,67", 0),
        ("0,66.8,10,67", 0),
    ],
)
def test_it_is_found_from_either_side_and_nowhere_else(service, bbox, found):
    assert len(service.get(f"/search?bbox={bbox}").json()["features"]) == found


def test_its_box_is_narrow(service):
    (item,) = service.get("/search").json()["features"]
    west, _, east, _ = item["bbox"]
    assert 179.9 < west < 180
    assert -180 < east < -179.9
    assert item["geometry"]["type"] == "MultiPolygon"


@pytest.mark.parametrize(
    "rings",
    [
        [[(179.998, 66.899), (180.002, 66.899), (180.002, 66.901), (179.998, 66.901)]],
        [
            [(179.998, 66.899), (180, 66.899), (180, 66.901), (179.998, 66.901)],
            [(-180, 66.899), (-179.998, 66.899), (-179.998, 66.901), (-180, 66.901)],
        ],
    ],
)
def test_a_parcel_across_it_has_one_mean(service, rings):
    coordinates = [[[*ring, ring[0]]] for ring in rings]
    geometry = {"type": "MultiPolygon", "coordinates": coordinates}
    answer = service.post("/timeseries", json={"geometry": geometry})
    assert answer.status_code == 200, answer.text
    (observation,) = answer.json()["observations"]
    assert observation["lai"] is not None
    area_m2 = abs(Geod(ellps="WGS84").geometry_area_perimeter(shape(geometry))[0])
    whole = observation["pixels"] / observation["valid_fraction"]
    assert whole == pytest.approx(area_m2 / 400, rel=0.01)
