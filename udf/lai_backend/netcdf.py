"""A cube as one netCDF file: a variable per band, float32, NaN = no data, CF metadata.

The CRS is a variable that the bands name as their `grid_mapping`, as CF wants and as the netCDF
files of the cloud back-ends have it: `xarray.open_dataset(path, decode_coords="all")` hides it.
Blocks stream into the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import netCDF4
import numpy as np
import numpy.typing as npt
import xarray as xr

from lai_backend.cogs import StoreBlocks
from lai_backend.files import replacing

CHUNK_PX = 512
AXES = {
    "projected": {
        "x": {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"},
        "y": {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"},
    },
    "geographic": {
        "x": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
        "y": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    },
}


def write_netcdf(cube: xr.DataArray, path: Path, store: StoreBlocks) -> None:
    """Write a cube (t, bands, y, x); without `t` where its only label is NaT."""
    labels, names = cube["t"].values, [str(name) for name in cube["bands"].values]
    has_t = labels.dtype.kind != "M" or not np.isnat(labels).all()
    side = [min(CHUNK_PX, cube.sizes[name]) for name in ("y", "x")]
    encoding = {"zlib": True, "complevel": 1, "chunksizes": (1, *side) if has_t else tuple(side)}
    empty = da.full(cube.shape[:1] + cube.shape[2:], np.nan, dtype=np.float32, chunks=-1)
    layers = dict.fromkeys(names, (("t", "y", "x"), empty, {"grid_mapping": "spatial_ref"}))
    crs = ((), np.int64(0), cube["spatial_ref"].attrs)
    coords = {name: cube[name].variable for name in ("t", "y", "x")}
    dataset = xr.Dataset({**layers, "spatial_ref": crs}, coords, {"Conventions": "CF-1.8"})
    for name, attrs in AXES["geographic" if cube.rio.crs.is_geographic else "projected"].items():
        dataset[name].attrs |= attrs
    for name in names:
        dataset[name].attrs["long_name"] = name
    dataset = dataset if has_t else dataset.isel(t=0, drop=True)
    with replacing(path) as temporary:
        with dask.config.set(scheduler="threads"):  # it only writes metadata
            dataset.to_netcdf(
                temporary, engine="netcdf4", encoding=dict.fromkeys(names, encoding), compute=False
            )
        with netCDF4.Dataset(temporary, "a") as file:
            file.set_auto_mask(False)
            variables = [file.variables[name] for name in names]
            store(da.asarray(cube.data), _Layers(variables, has_t))


class _Layers:
    """One writable variable per band, as a target of blocks (t, bands, y, x)."""

    def __init__(self, variables: Sequence[Any], has_t: bool) -> None:
        self._variables, self._has_t = variables, has_t

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        dates, bands, rows, columns = key
        for number, variable in enumerate(self._variables[bands]):
            if self._has_t:
                variable[dates, rows, columns] = block[:, number]
            else:
                variable[rows, columns] = block[0, number]
