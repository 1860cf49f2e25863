"""`save_result`: a lazy cube -> files, and what STAC says about them.

GTiff: one Cloud Optimized GeoTIFF per date, all bands in it, float32, NaN as no data, band names
as descriptions. netCDF: one file, one variable per band. Files appear whole or not at all.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import rasterio.shutil
import rioxarray  # noqa: F401 - registers the `rio` accessor
import xarray as xr
from odc.geo.geom import BoundingBox
from rasterio.windows import Window

from lai_backend.errors import LaiBackendError, ParameterError, ResultError
from lai_backend.files import replacing

GTIFF_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
NETCDF_TYPE = "application/x-netcdf"
OPTIONS = frozenset({"filename_prefix"})
PREFIX = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
TILE_PX = 512


@dataclass(frozen=True)
class SavedResult:
    """A cube and how it shall be written; what a process graph ends in."""

    cube: xr.DataArray
    """Lazy cube with y and x; t and bands optional."""
    format: str
    """`GTiff` or `netCDF`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Format options of the client."""


def write_result(result: SavedResult, folder: Path, single_file: bool) -> list[dict[str, Any]]:
    """Write a result and describe its files.

    Args:
        result: cube and format.
        folder: where the files go; made if absent.
        single_file: a synchronous request, which can carry one file only.

    Returns:
        One dictionary per file: `name`, `type`, `bands`, `datetime` or `start_datetime` and
        `end_datetime`, `bbox`, `geometry`, `proj:epsg`, `proj:shape`, `proj:bbox`.

    Raises:
        ParameterError: unknown options, or several dates where one file is needed.
        ResultError: the disk is full or not writable.
    """
    prefix = _check_options(result.options)
    cube = _normalise(result.cube)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if result.format == "netCDF":
            return [_write_netcdf(cube, folder / f"{prefix}.nc")]
        if single_file and cube.sizes["t"] > 1:
            raise ParameterError(
                f"The result has {cube.sizes['t']} dates, a synchronous GTiff request carries "
                "one: use netCDF, reduce t, or run a batch job."
            )
        return _write_gtiffs(cube, folder, prefix)
    except LaiBackendError:
        raise
    except OSError as error:
        raise ResultError(f"Cannot write the result to {folder}: {error}.") from error


def _check_options(options: Mapping[str, Any]) -> str:
    unknown = set(options) - OPTIONS
    if unknown:
        raise ParameterError(
            f"save_result does not know the option {', '.join(sorted(unknown))}; "
            f"it knows {', '.join(sorted(OPTIONS))}."
        )
    prefix = options.get("filename_prefix", "openEO")
    if not isinstance(prefix, str) or not PREFIX.match(prefix):
        raise ParameterError(f"filename_prefix {prefix!r} is not a plain file name.")
    return prefix


def _normalise(cube: xr.DataArray) -> xr.DataArray:
    """Bring a cube to (t, bands, y, x), float32; a missing t has the label NaT."""
    for axis in ("y", "x"):
        if axis not in cube.dims:
            raise ParameterError(f"save_result needs a raster cube; this one has {cube.dims}.")
    if cube.rio.crs is None:
        raise ParameterError("save_result needs a cube with a coordinate reference system.")
    crs = cube.rio.crs
    if "t" not in cube.dims:
        cube = cube.drop_vars("t", errors="ignore").expand_dims(t=[np.datetime64("NaT", "ns")])
    if "bands" not in cube.dims:
        cube = cube.drop_vars("bands", errors="ignore").expand_dims(bands=["result"])
    kept = {"t", "bands", "y", "x"}
    cube = cube.drop_vars([name for name in cube.coords if name not in kept])
    ordered = cube.transpose("t", "bands", "y", "x").astype(np.float32)
    ordered = ordered.assign_coords(bands=[str(name) for name in ordered["bands"].values])
    result: xr.DataArray = ordered.drop_attrs().rename(None).rio.write_crs(crs)
    return result


def _write_gtiffs(cube: xr.DataArray, folder: Path, prefix: str) -> list[dict[str, Any]]:
    assets = []
    for date, layer in zip(cube["t"].values, cube, strict=True):
        day = "" if np.isnat(date) else f"_{pd.Timestamp(date):%Y-%m-%dZ}"
        path = folder / f"{prefix}{day}.tif"
        _write_cog(layer, path)
        assets.append({"name": path.name, "type": GTIFF_TYPE, **_describe(cube, [date])})
    return assets


def _write_cog(layer: xr.DataArray, path: Path) -> None:
    """Write one date: blocks stream into a plain GeoTIFF, GDAL turns that into a COG."""
    plain = path.with_name(f".{path.stem}.blocks.tif")
    try:
        _write_blocks(layer, plain)
        with replacing(path) as cog:
            rasterio.shutil.copy(
                plain,
                cog,
                driver="COG",
                compress="deflate",
                predictor="floating_point",
                blocksize=TILE_PX,
                overview_resampling="nearest",
                bigtiff="if_safer",
            )
    finally:
        plain.unlink(missing_ok=True)


def _write_blocks(layer: xr.DataArray, path: Path) -> None:
    bands, height, width = layer.shape
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": bands,
        "height": height,
        "width": width,
        "crs": layer.rio.crs,
        "transform": layer.rio.transform(),
        "nodata": np.nan,
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "BIGTIFF": "IF_SAFER",
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.descriptions = tuple(layer["bands"].values)
        target: Any = _Target(dataset)  # typed as an array, but dask only sets items
        da.store(da.asarray(layer.data), target, lock=threading.Lock())


class _Target:
    """Lets `dask.array.store` write blocks into an open raster file."""

    def __init__(self, dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
        self._dataset = dataset

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        rows, columns = key[-2:]
        window = Window(columns.start, rows.start, block.shape[-1], block.shape[-2])
        self._dataset.write(block, window=window)


def _write_netcdf(cube: xr.DataArray, path: Path) -> dict[str, Any]:
    layers = {
        str(name): cube.sel(bands=name, drop=True).rename(str(name))
        for name in cube["bands"].values
    }
    dataset = xr.Dataset(layers)
    if np.isnat(cube["t"].values).all():
        dataset = dataset.isel(t=0, drop=True)
    encoding = {name: {"zlib": True, "complevel": 1} for name in layers}
    with replacing(path) as temporary:
        dataset.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
    return {"name": path.name, "type": NETCDF_TYPE, **_describe(cube, cube["t"].values)}


def _describe(cube: xr.DataArray, dates: Sequence[Any] | npt.NDArray[Any]) -> dict[str, Any]:
    box = cube.rio.bounds()
    west, south, east, north = box
    footprint = BoundingBox(west, south, east, north, crs=str(cube.rio.crs)).polygon.to_crs(
        "EPSG:4326"
    )
    description: dict[str, Any] = {
        "bands": [{"name": name} for name in cube["bands"].values.tolist()],
        "bbox": list(footprint.boundingbox.bbox),
        "geometry": footprint.json,
        "proj:epsg": cube.rio.crs.to_epsg(),
        "proj:shape": [cube.sizes["y"], cube.sizes["x"]],
        "proj:bbox": [west, south, east, north],
    }
    known = sorted(pd.Timestamp(date) for date in dates if not np.isnat(date))
    if len(known) == 1:
        description["datetime"] = f"{known[0]:%Y-%m-%dT%H:%M:%SZ}"
    elif known:
        description["start_datetime"] = f"{known[0]:%Y-%m-%dT%H:%M:%SZ}"
        description["end_datetime"] = f"{known[-1]:%Y-%m-%dT%H:%M:%SZ}"
    return description
