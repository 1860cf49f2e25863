"""A cube as one netCDF or Zarr file: a variable per band, float32, NaN = no data, CF metadata.

The CRS is a variable that the bands name as their `grid_mapping`, as CF wants and as the netCDF
files of the cloud back-ends have it: `xarray.open_dataset(path, decode_coords="all")` hides it.

Zarr comes as a zip store (format 2), so that a result is one file; `xarray.open_zarr` reads it as
it is, and so does everything else once it is unpacked. Blocks stream into either.
"""

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import netCDF4
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

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
    """Write a cube (t, bands, y, x) as netCDF.

    Raises:
        OSError, RuntimeError: the file cannot be written.
    """
    encoding = {"zlib": True, "complevel": 1, "chunksizes": _chunks(cube)}
    with replacing(path) as temporary:
        layers = _template(cube)
        with dask.config.set(scheduler="threads"):  # it only writes metadata
            layers.to_netcdf(
                temporary,
                engine="netcdf4",
                encoding=dict.fromkeys(_band_names(cube), encoding),
                compute=False,
            )
        with netCDF4.Dataset(temporary, "a") as file:
            file.set_auto_mask(False)
            store(da.asarray(cube.data), _Layers(file.variables, _band_names(cube), _has_t(cube)))


def write_zarr(cube: xr.DataArray, path: Path, store: StoreBlocks) -> None:
    """Write a cube (t, bands, y, x) as a zipped Zarr store.

    Raises:
        OSError: the file cannot be written.
    """
    folder = path.with_name(f".{path.stem}")
    layers = _template(cube)
    encoding = {"chunks": _chunks(cube)}
    try:
        with dask.config.set(scheduler="threads"):  # it only writes metadata
            layers.to_zarr(
                folder,
                encoding=dict.fromkeys(_band_names(cube), encoding),
                compute=False,
                zarr_format=2,
                consolidated=True,
            )
        group: Any = zarr.open_group(folder, mode="r+", zarr_format=2)
        arrays = {name: group[name] for name in _band_names(cube)}
        store(da.asarray(cube.data), _Layers(arrays, list(arrays), _has_t(cube)))
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for member in sorted(folder.rglob("*")):
                if member.is_file():
                    archive.write(member, member.relative_to(folder).as_posix())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _template(cube: xr.DataArray) -> xr.Dataset:
    """Return the dataset without its values."""
    empty = da.full(cube.shape[:1] + cube.shape[2:], np.nan, dtype=np.float32, chunks=-1)
    coords = {name: cube[name].variable for name in ("t", "y", "x")}
    grid = {"grid_mapping": "spatial_ref"}
    layers = dict.fromkeys(_band_names(cube), (("t", "y", "x"), empty, grid))
    crs = ((), np.int64(0), cube["spatial_ref"].attrs)
    dataset = xr.Dataset({**layers, "spatial_ref": crs}, coords=coords)
    dataset.attrs = {"Conventions": "CF-1.8"}
    kind = "geographic" if cube.rio.crs.is_geographic else "projected"
    for name, attributes in AXES[kind].items():
        dataset[name].attrs |= attributes
    for name in _band_names(cube):
        dataset[name].attrs["long_name"] = name
    return dataset if _has_t(cube) else dataset.isel(t=0, drop=True)


def _band_names(cube: xr.DataArray) -> list[str]:
    return [str(name) for name in cube["bands"].values]


def _has_t(cube: xr.DataArray) -> bool:
    labels = cube["t"].values
    dates = np.issubdtype(labels.dtype, np.datetime64)
    return not (dates and bool(np.isnat(labels).all()))


def _chunks(cube: xr.DataArray) -> tuple[int, ...]:
    space = (min(CHUNK_PX, cube.sizes["y"]), min(CHUNK_PX, cube.sizes["x"]))
    return (1, *space) if _has_t(cube) else space


class _Layers:
    """One writable array per band, as a target of blocks (t, bands, y, x)."""

    def __init__(self, arrays: Mapping[str, Any], names: Sequence[Any], has_t: bool) -> None:
        self._arrays = [arrays[str(name)] for name in names]
        self._has_t = has_t

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        dates, bands, rows, columns = key
        for number, array in enumerate(self._arrays[bands]):
            if self._has_t:
                array[dates, rows, columns] = block[:, number]
            else:
                array[rows, columns] = block[0, number]
