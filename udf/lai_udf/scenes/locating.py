"""Georeference of an xarray object: its CRS and its grid, from any library."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError

from lai_udf.errors import GridError
from lai_udf.grid import Grid

CRS_NAMES = ("crs", "epsg", "proj:code", "proj:epsg", "proj:wkt2", "crs_wkt")
"""Attributes and scalar coordinates that hold a CRS."""


def find_crs(data: xr.Dataset | xr.DataArray, name: str) -> CRS:
    """Return the CRS of a Dataset or DataArray.

    Raises:
        GridError: there is none, it is not understood, or the bands differ.
    """
    texts = [str(data.attrs[key]) for key in CRS_NAMES if data.attrs.get(key) is not None]
    old = any(text.startswith("+init=") for text in texts)  # GDAL complains of it on stderr
    candidates: list[Any] = [None if old else _rio_crs(data)]
    scalars = [data.coords[key] for key in CRS_NAMES if key in data.coords]
    candidates += [c.item() for c in scalars if c.ndim == 0 and c.dtype.kind != "M"]
    candidates += texts
    for array in data.data_vars.values() if isinstance(data, xr.Dataset) else [data]:
        candidates += [array.attrs.get(key) for key in CRS_NAMES]
        eopf = array.attrs.get("_eopf_attrs") or {}
        candidates += [eopf.get("proj:epsg"), eopf.get("proj:code")]
    for candidate in candidates:
        crs = _parse(candidate, name)
        if crs is not None:
            return crs
    raise GridError(f"{name} has no CRS: write one (rioxarray: write_crs) or an attribute crs")


def _rio_crs(data: xr.Dataset | xr.DataArray) -> CRS | None:
    try:
        crs: CRS | None = data.rio.crs
    except Exception as error:  # rioxarray passes on what pyproj and rasterio raise
        raise GridError(f"the CRS of the cube is not understood ({error})") from error
    if crs is None and isinstance(data, xr.Dataset):
        mappings = {v.attrs.get("grid_mapping") for v in data.data_vars.values()}
        for mapping in (*mappings, "crs", "spatial_ref"):
            if mapping in data.variables:
                attributes = data[mapping].attrs
                return _parse(attributes.get("crs_wkt", attributes.get("spatial_ref")), "the cube")
    return crs


def _parse(value: object, name: str) -> CRS | None:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, CRS):
        return value
    text = str(value).strip().removeprefix("+init=")
    if re.fullmatch(r"\d+(\.0)?", text):
        text = f"EPSG:{int(float(text))}"
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise GridError(f"{name}: CRS {value!r} is not understood ({error})") from error


def find_grid(
    bands: dict[str, xr.DataArray],
    data: xr.Dataset | xr.DataArray,
    crs: CRS | None,
    name: str,
    pixel: float | None = None,
) -> tuple[Grid, dict[str, xr.DataArray]]:
    """Return the grid of bands, and the bands north up on it; `pixel` is the side of a lone one.

    Raises:
        GridError: no dims y and x, no coordinates, uneven ones, or bands of different grids.
    """
    image = next((band for band in bands.values() if {"y", "x"} <= set(band.dims)), None)
    if image is None:
        raise GridError(
            f"{name}: no band has the dimensions y and x: select a single pixel by lists, as in "
            'sel(y=[…], x=[…], method="nearest")'
        )
    for label, band in bands.items():
        sizes = {dim: band.sizes[dim] for dim in ("y", "x") if dim in band.dims}
        if any(size != image.sizes[dim] for dim, size in sizes.items()):
            raise GridError(f"{name}: band {label} has {sizes}, others {dict(image.sizes)}")
        if foreign := set(band.dims) - {"t", "y", "x"}:
            raise GridError(f"{name}: band {label} has a dimension {', '.join(map(str, foreign))}")
    if "y" not in image.coords or "x" not in image.coords:
        raise GridError(
            f"{name}: need coordinates x and y, got {', '.join(map(str, image.coords))}"
        )
    y, x = image["y"].values.astype(float), image["x"].values.astype(float)
    rows = slice(None, None, -1 if len(y) > 1 and y[0] < y[-1] else 1)
    columns = slice(None, None, -1 if len(x) > 1 and x[0] > x[-1] else 1)
    transform = _stated_transform(data)
    grid = Grid.of_coordinates(x[columns], y[rows], crs, name, pixel)
    if transform is not None and len(y) > 1 and len(x) > 1:
        grid = _of_corners(grid, transform)
    turned = {
        label: band.isel({d: s for d, s in (("y", rows), ("x", columns)) if d in band.dims})
        for label, band in bands.items()
    }
    return grid, turned


def _stated_transform(data: xr.Dataset | xr.DataArray) -> tuple[float, ...] | None:
    """Return the attribute `transform` that stackstac and xarray's old reader write."""
    stated = data.attrs.get("transform")
    try:
        numbers = tuple(float(number) for number in stated or ())
    except (TypeError, ValueError):
        return None
    return numbers[:6] if len(numbers) >= 6 else None


def _of_corners(grid: Grid, transform: tuple[float, ...]) -> Grid:
    """Return the grid moved by half a pixel where its coordinates are upper left corners.

    stackstac labels pixels by their corners by default.
    """
    t = grid.transform
    same = abs(t.a - transform[0]) < 1e-6 * t.a and abs(t.e - transform[4]) < 1e-6 * t.a
    corner = (t.c + t.a / 2, t.f + t.e / 2)  # what the first coordinates are
    whole = [(corner[0] - transform[2]) / t.a, (corner[1] - transform[5]) / t.e]
    if same and all(abs(steps - round(steps)) < 1e-3 for steps in whole):
        return replace(grid, transform=t @ Affine.translation(0.5, 0.5))
    return grid
