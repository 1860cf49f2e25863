"""A cube as files: float32, NaN = no data; blocks stream into them.

GeoTIFF: one COG per date, all bands in it. Blocks go into plain files first, of all dates at once,
because one call of a UDF may make all of them; GDAL then turns each plain file into a COG.

netCDF: one file, a variable per band, CF metadata. The CRS is a variable that the bands name as
their `grid_mapping`, as CF requires and as the netCDF files of the cloud back-ends have it:
`xarray.open_dataset(path, decode_coords="all")` hides it.
"""

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import rioxarray
import xarray as xr
from dask.base import compute
from dask.delayed import Delayed
from rasterio.enums import Resampling
from rasterio.windows import Window

from lai_backend.errors import ResultError
from lai_backend.files import replacing
from lai_backend.grids import transform_of

TILE_PX = 512
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


def write_cogs(cube: xr.DataArray, paths: Sequence[Path]) -> list[list[dict[str, Any]]]:
    """Write a cube (t, bands, y, x), float32, with a CRS, as one COG per date, in one folder.

    Returns:
        The bands of each file as `raster:bands` of STAC, with statistics.
    """
    names = [str(name) for name in cube["bands"].values]
    described = []
    plain = [path.with_name(f".{path.stem}.blocks.tif") for path in paths]
    try:
        with ExitStack() as opened:
            files = [
                opened.enter_context(rasterio.open(path, "w", **_profile(cube))) for path in plain
            ]
            for file in files:
                file.descriptions = tuple(names)
            target: Any = _Files(files)
            work = da.store(da.asarray(cube.data), target, threading.Lock(), compute=False)
            compute_in_threads(work)
        for source, path in zip(plain, paths, strict=True):
            if source.stat().st_size < cube.nbytes // len(paths):  # GDAL flushes without a word
                raise ResultError(f"Cannot write the result to {path.parent}: the disk is full.")
            described.append(_make_cog(source, path, names))
            source.unlink()
        return described
    finally:
        for path in plain:
            path.unlink(missing_ok=True)


def _profile(cube: xr.DataArray) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "dtype": "float32",
        "count": cube.sizes["bands"],
        "height": cube.sizes["y"],
        "width": cube.sizes["x"],
        "crs": cube.rio.crs,
        "transform": transform_of(cube),
        "nodata": np.nan,
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "BIGTIFF": "IF_SAFER",
    }


class _Files:
    """One open raster file per date, as a target of blocks (t, bands, y, x)."""

    def __init__(self, files: Sequence[Any]) -> None:
        self._files = files

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        dates, bands, rows, columns = key
        window = Window(columns.start, rows.start, block.shape[-1], block.shape[-2])
        numbers = [number + 1 for number in range(bands.start, bands.stop)]
        for file, layers in zip(self._files[dates], block, strict=True):
            file.write(layers, indexes=numbers, window=window)


def _make_cog(source: Path, path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Compress a plain file on all cores, and read the outcome back."""
    with rasterio.open(source, "r+") as plain:
        # The COG driver would make them by way of a compressed file, in one thread.
        levels = max(0, math.ceil(math.log2(max(plain.shape) / TILE_PX)))
        plain.build_overviews([2**level for level in range(1, levels + 1)], Resampling.nearest)
    with replacing(path) as cog:
        rasterio.shutil.copy(
            source,
            cog,
            driver="COG",
            compress="deflate",
            level=1,  # as small as 6 on LAI, in three quarters of the time
            predictor="floating_point",
            num_threads="all_cpus",
            blocksize=TILE_PX,
            bigtiff="if_safer",
        )
        opened: Any = rioxarray.open_rasterio(cog, chunks={"y": TILE_PX, "x": TILE_PX})
        with opened as written:
            return read_statistics(written.rename(band="bands").assign_coords(bands=names))


def read_statistics(layers: xr.DataArray) -> list[dict[str, Any]]:
    """Return the bands of a file as `raster:bands` of STAC, from all its pixels.

    So it also finds, as an error, a file that was cut off.

    Args:
        layers: the pixels, lazy; dims bands and any others.
    """
    over = [name for name in layers.dims if name != "bands"]
    known: Any = np.isfinite(layers)
    values, low, high = (layers.where(known, other) for other in (0, np.inf, -np.inf))
    values = values.astype(float)
    sums = [part.sum(over) for part in (known, values, values**2)]
    reduced = [*sums, low.min(over), high.max(over)]
    described = []
    numbers = [part.values.tolist() for part in compute(*reduced)]
    rows = zip(layers["bands"].values, *numbers, strict=True)
    for name, count, total, squares, low, high in rows:
        statistics = {"valid_percent": 100 * count * layers.sizes["bands"] / layers.size}
        if count:
            spread = math.sqrt(max(squares / count - (total / count) ** 2, 0))
            statistics |= {"minimum": low, "maximum": high}
            statistics |= {"mean": total / count, "stddev": spread}
        described.append({"name": str(name), "statistics": statistics})
    return described


def write_netcdf(cube: xr.DataArray, path: Path) -> list[dict[str, Any]]:
    """Write a cube (t, bands, y, x), without `t` where its only label is NaT; see `write_cogs`."""
    labels, names = cube["t"].values, [str(name) for name in cube["bands"].values]
    has_t = labels.dtype.kind != "M" or not np.isnat(labels).all()
    side = [min(TILE_PX, cube.sizes[name]) for name in ("y", "x")]
    encoding = {"zlib": True, "complevel": 1, "chunksizes": (1, *side) if has_t else tuple(side)}
    layers = {
        name: (("t", "y", "x"), layer, {"grid_mapping": "spatial_ref", "long_name": name})
        for name, layer in zip(names, da.moveaxis(da.asarray(cube.data), 1, 0), strict=True)
    }
    crs = ((), np.int64(0), cube["spatial_ref"].attrs)
    coords = {name: cube[name].variable for name in ("t", "y", "x")}
    dataset = xr.Dataset({**layers, "spatial_ref": crs}, coords, {"Conventions": "CF-1.8"})
    for name, attrs in AXES["geographic" if cube.rio.crs.is_geographic else "projected"].items():
        dataset[name].attrs |= attrs
    dataset = dataset if has_t else dataset.isel(t=0, drop=True)
    with replacing(path) as temporary:
        compressed = dict.fromkeys(names, encoding)
        work = dataset.to_netcdf(temporary, engine="netcdf4", encoding=compressed, compute=False)
        compute_in_threads(work)
        with xr.open_dataset(temporary, engine="netcdf4", chunks={}) as written:
            return read_statistics(written[names].to_dataarray("bands"))


def compute_in_threads(work: Delayed) -> None:
    """Do what is left to do, in threads.

    Where a block fails it waits for those at work: the file that one of them writes into is
    closed next, and a library that writes into a closed file crashes the process.
    """
    pool = ThreadPoolExecutor(dask.config.get("num_workers", None))
    try:
        with dask.config.set(scheduler="threads", pool=pool):
            work.compute()
    finally:
        pool.shutdown(cancel_futures=True)
