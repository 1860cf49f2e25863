"""Time series of Sentinel-2 as one file: netCDF or Zarr in, a cube (t, bands, y, x) out.

Two layouts are read: one variable with a dimension `bands`, or a variable for each band. Times may
be called `t` or `time`, bands `bands` or `band`; planes without y and x, such as one angle per
date, are spread over the image.
"""

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import rioxarray  # noqa: F401  (registers DataArray.rio)
import xarray as xr
from rasterio.crs import CRS
from rasterio.errors import CRSError

from lai_udf.errors import GridError, MetadataError, MissingBandError, UnreadableProductError
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.geotiff import utc
from lai_udf.scenes.source import require_scheme

CUBE_SUFFIXES = {".nc", ".nc4", ".zarr"}
DIMENSION_NAMES = {"time": "t", "band": "bands"}
"""What others call our dimensions; a label of a single date or band may be left without one."""
LABELS = (*BANDS, "SCL", *ANGLES)


def read_cube(path: Path, datetime: str | None = None) -> xr.DataArray:
    """Open a time series; values stay on disk until they are needed.

    Args:
        path: netCDF file or Zarr folder.
        datetime: time of a cube without dimension `t`, ISO 8601, UTC where it names no zone.

    Returns:
        Dims (t, bands, y, x), values as stored, north up, with coordinates and CRS; the path is
        in `encoding["source"]`.

    Raises:
        UnreadableProductError: the file is missing, foreign or damaged.
        MissingBandError: no band has a name that we know.
        MetadataError: no time, or a second one.
        GridError: no coordinates or no CRS.
    """
    require_scheme(str(path), "a cube")
    try:
        engine = "zarr" if path.suffix == ".zarr" else None  # any reader of netCDF that is here
        dataset = xr.open_dataset(path, engine=engine)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UnreadableProductError(
            f"cannot read {path} ({error}); give a netCDF file or a Zarr folder"
        ) from error
    dataset = dataset.rename(
        {
            old: new
            for old, new in DIMENSION_NAMES.items()
            if old in {*dataset.dims, *dataset.variables} and new not in dataset.variables
        }
    )
    mappings = {variable.attrs.get("grid_mapping") for variable in dataset.data_vars.values()}
    dataset = dataset.set_coords([name for name in mappings if name in dataset.data_vars])
    cube = _with_time(_stack_bands(dataset, path), dataset, path, datetime)
    if missing := {"y", "x"} - set(cube.dims):
        raise GridError(f"{path} has no dimension {', '.join(sorted(missing))}: {cube.dims}")
    cube = cube.transpose("t", "bands", "y", "x").sortby("y", ascending=False).sortby("x")
    cube = cube.sel(bands=[label for label in LABELS if label in cube["bands"].values])
    described: xr.DataArray = cube.rio.write_crs(_find_crs(dataset, path))
    described.encoding["source"] = str(path)  # where xarray keeps it, too
    return described


def _with_time(
    cube: xr.DataArray, dataset: xr.Dataset, path: Path, datetime: str | None
) -> xr.DataArray:
    """Return a cube with the dimension t: its own, or the one time that file or caller says."""
    if "t" in cube.dims:
        if datetime is not None:
            raise MetadataError(f"{path} has times of its own (t): leave DATETIME= (datetime) away")
        return cube
    if datetime is not None:
        time: object = np.datetime64(utc(datetime, str(path)).removesuffix("Z"), "ns")
    elif "t" in dataset.variables and not dataset["t"].dims:
        time = dataset["t"].values
    else:
        raise MetadataError(
            f"{path} has no dimension t, only {', '.join(map(str, cube.dims))}: "
            "set DATETIME= (datetime)"
        )
    return cube.drop_vars("t", errors="ignore").expand_dims(t=[time])


def name_dates(cube: xr.DataArray) -> list[str]:
    """Return the time of each date, `2024-06-01T10:36:29` (UTC), which no other date has.

    Args:
        cube: dims (t, ...), `t` labelled.

    Raises:
        MetadataError: a label is no time, or missing, or two dates are of the same second.
    """
    times, where = cube["t"].values, cube.encoding.get("source", "the cube")
    if times.dtype.kind != "M":
        raise MetadataError(
            f"{where}: t is labelled with {times.dtype}, not with times: "
            "write datetime64, which netCDF and Zarr keep"
        )
    if missing := int(np.isnat(times).sum()):
        raise MetadataError(
            f"{where}: {missing} of {len(times)} dates have no time (NaT): label or drop them"
        )
    names = [str(name) for name in np.datetime_as_string(times, unit="s")]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise MetadataError(
            f"{where} has several dates of {', '.join(double)}: merge or drop all but one of each"
        )
    return names


def _stack_bands(dataset: xr.Dataset, path: Path) -> xr.DataArray:
    for variable in dataset.data_vars.values():
        if "bands" in variable.dims:
            labels = [str(label) for label in variable["bands"].values]
            return variable.assign_coords(bands=labels)
    planes = {name: dataset[name] for name in LABELS if name in dataset.data_vars}
    if not planes:
        raise MissingBandError(
            f"{path} holds {', '.join(map(str, dataset.data_vars))}: name the variables "
            f"{' '.join(BANDS)}, or give one variable with a dimension `bands`"
        )
    image = next((plane for plane in planes.values() if {"y", "x"} <= set(plane.dims)), None)
    if image is None:
        raise GridError(f"{path}: no band has the dimensions y and x")
    if any(plane.dtype.kind == "f" for plane in planes.values()):
        planes = {name: _as_float(plane) for name, plane in planes.items()}
    spread = [plane.broadcast_like(image) for plane in planes.values()]
    kept: dict[Hashable, xr.DataArray] = {dim: image[dim] for dim in image.dims}
    bare = [plane.reset_coords(drop=True).assign_coords(kept) for plane in spread]
    return xr.concat(bare, dim="bands").assign_coords(bands=list(planes))


def _as_float(plane: xr.DataArray) -> xr.DataArray:
    """Return a plane as float32; 0 is no data in integer reflectance, and NaN in floats."""
    if plane.dtype.kind != "f" and plane.name in BANDS:
        plane = plane.where(plane != 0)
    return plane.astype("float32")


def _find_crs(dataset: xr.Dataset, path: Path) -> CRS:
    said = str(dataset.attrs.get("crs") or dataset.attrs.get("epsg") or "")
    if not said.startswith("+init="):  # old PROJ syntax, about which GDAL complains on stderr
        said = dataset.rio.crs or said
    try:
        if said:
            return CRS.from_user_input(str(said).removeprefix("+init="))
    except CRSError as error:
        raise GridError(f"{path}: CRS {said!r} is not understood ({error})") from error
    raise GridError(f"{path} has no CRS: write one (rioxarray: write_crs) or an attribute crs")
