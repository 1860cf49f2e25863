"""Cubes of a single row or column: their pixels keep place and size."""

import json

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import from_origin

from backend.conftest import NORTH, STEP, WEST

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
ONE_PIXEL = {
    "west": WEST + 30 * STEP + 1,
    "south": NORTH - 41 * STEP + 1,
    "east": WEST + 31 * STEP - 1,
    "north": NORTH - 40 * STEP - 1,
    "crs": "EPSG:32633",
}
PLACE = from_origin(WEST + 30 * STEP, NORTH - 40 * STEP, STEP, STEP)


def load_pixel(connection):
    june = ["2024-06-11", "2024-06-12"]
    return connection.load_collection("TINY", ONE_PIXEL, june, bands=["B04"])


@pytest.mark.parametrize("form", ["GTiff", "netCDF"])
def test_one_pixel_of_a_collection_is_a_file_at_its_place(connection, tiny, tmp_path, form):
    load_pixel(connection).download(tmp_path / "pixel", format=form)
    name = str(tmp_path / "pixel")
    with rasterio.open(f"netcdf:{name}:B04" if form == "netCDF" else name) as file:
        assert file.transform.almost_equals(PLACE)
        np.testing.assert_array_equal(file.read(1), tiny.reflectance[1, 0, 40:41, 30:31])


def test_an_item_one_pixel_wide_is_read_and_resampled(tmp_path):
    from lai_backend.local import LocalConnection  # its imports warn, which the filters catch here

    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": 5, "width": 1}
    profile |= {"crs": "EPSG:32633", "transform": PLACE}
    with rasterio.open(tmp_path / "B04.tif", "w", **profile) as file:
        file.write(np.arange(1, 6, dtype="uint16").reshape(1, 5, 1))
    item = {"type": "Feature", "stac_version": "1.1.0", "id": "thin", "links": []}
    item |= {"properties": {"datetime": "2024-06-01T10:20:30Z"}, "assets": {}}
    item["assets"]["B04"] = {"href": "./B04.tif", "bands": [{"name": "B04"}]}
    (tmp_path / "thin.json").write_text(json.dumps(item))
    load = {"process_id": "load_stac", "arguments": {"url": str(tmp_path / "thin.json")}}
    local = LocalConnection(allow=[tmp_path])
    cube = local.execute({"l": load | {"result": True}})
    np.testing.assert_array_equal(cube.values.ravel(), np.arange(1, 6))
    assert cube.rio.transform() == PLACE
    halves = {"data": {"from_node": "l"}, "resolution": STEP / 2}
    halve = {"process_id": "resample_spatial", "arguments": halves, "result": True}
    halved = local.execute({"l": load, "r": halve})
    np.testing.assert_array_equal(halved[0, 0].values, cube[0, 0].values.repeat(2, 0).repeat(2, 1))


def test_a_column_of_unknown_width_is_refused():
    from lai_backend.errors import ParameterError
    from lai_backend.grids import transform_of

    column = xr.DataArray(np.zeros((3, 1)), {"y": [50, 30, 10], "x": [10]}, ("y", "x"))
    with pytest.raises(ParameterError):
        transform_of(column)
