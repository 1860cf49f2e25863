"""The pixels of cubes: their projection and grid, and cubes brought onto other grids.

Centres of pixels, the labels of y and x, give the size of a pixel only where there are two of them;
of a single row or column it is known from the transform that travels beside the projection.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the `rio` accessor
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rioxarray.exceptions import OneDimensionalRaster

from lai_backend.errors import NoDataError, ParameterError
from lai_backend.extents import bounds_in, parse_crs, parse_spatial_extent, snap_outward
from lai_backend.files import Json

_log = logging.getLogger(__name__)
METHODS: Mapping[str, str] = {
    "near": "nearest",
    "cubicspline": "cubic_spline",
    **{name: name for name in ("bilinear", "cubic", "lanczos", "average", "mode", "max", "min")},
    **{name: name for name in ("med", "q1", "q3", "rms", "sum")},
}
"""Names of GDAL by those of openEO."""
SPAN_TOLERANCE_PX = 1e-6  # A grid that fits this well gets no further pixel


def check_dimension(cube: xr.DataArray, name: str) -> None:
    """Refuse the name of a dimension that a cube does not have."""
    if name not in cube.dims:
        raise ParameterError(f"There is no dimension {name!r}; the cube has {cube.dims}.")


def transform_of(cube: xr.DataArray) -> Affine:
    """Return the transform of a cube, from its labels where they give it.

    Args:
        cube: dims y and x among others.
    """
    try:
        cube.rio.resolution(recalc=True)  # its `transform` would be the identity without a word
    except OneDimensionalRaster as error:
        raise ParameterError(
            "The size of the pixels of a cube with a single row or column is not known any more: "
            "ask for an extent of two rows and columns or more."
        ) from error
    transform: Affine = cube.rio.transform(recalc=True)
    return transform


def georeference(cube: xr.DataArray, crs: object, transform: Affine) -> xr.DataArray:
    """Write projection and transform into a cube; both replace those it had."""
    written: xr.DataArray = cube.rio.write_crs(crs).rio.write_transform(transform)
    return written


def georeference_like(cube: xr.DataArray, source: xr.DataArray) -> xr.DataArray:
    """Copy the georeference of a source into a cube on the same pixels, and nothing else."""
    if source.rio.crs is None:
        return cube
    name = source.rio.grid_mapping
    if name in source.coords:
        cube = cube.assign_coords({name: source[name].variable})
    written: xr.DataArray = cube.rio.write_crs(source.rio.crs, name)
    return written


def grid_of(cube: xr.DataArray) -> GeoBox:
    """Return the pixels of a cube."""
    if not {"y", "x"} <= set(cube.dims) or cube.rio.crs is None:
        raise ParameterError(f"A cube with y, x and a projection is needed, not {cube.dims}.")
    crs = parse_crs(cube.rio.crs.to_wkt())
    return GeoBox((cube.sizes["y"], cube.sizes["x"]), transform_of(cube), crs)


def resample_spatial(
    data: xr.DataArray,
    resolution: Json = 0,
    projection: Json = None,
    method: str = "near",
    align: str = "upper-left",
) -> xr.DataArray:
    """Bring a cube onto another grid, which starts at one corner of the input and covers it.

    Args:
        data: with y, x and a CRS; other dimensions are kept.
        resolution: pixel size in units of the target CRS, one number or `[x, y]`; 0 or None keeps
            it (or, in another CRS, takes what keeps the pixels about as large).
        projection: EPSG code or WKT; None keeps it.
        method: name of openEO.
        align: corner of the input at which the new grid starts.

    Returns:
        Lazy cube on the new grid, NaN where the input has no data.
    """
    source = grid_of(data)
    new_crs = source.crs if projection is None else parse_crs(projection)
    assert new_crs is not None  # grid_of refuses cubes without one
    return _reproject(data, _target_grid(source, new_crs, resolution, align), method)


def on_grid_of(
    data: xr.DataArray, target: xr.DataArray, method: str = "near", what: str | None = None
) -> xr.DataArray:
    """Return a cube, with or without y and x, on the pixels of another: `resample_cube_spatial`.

    Args:
        data: any cube.
        target: has the pixels wanted.
        method: name of openEO, where the pixels differ.
        what: the cube's name for a warning, where no resampling was asked for.
    """
    if not {"y", "x"} <= set(data.dims) or not {"y", "x"} <= set(target.dims):
        return data
    here, wanted = grid_of(data), grid_of(target)
    places = {name: target[name].values for name in ("y", "x")}
    if here.crs == wanted.crs and here.shape == wanted.shape and _close(here, wanted):
        return data.assign_coords(places)
    assert here.crs is not None  # grid_of refuses cubes without one
    if not here.extent.intersects(wanted.extent.to_crs(here.crs)):
        raise ParameterError(
            f"{what or 'The cube'} and the one it meets lie apart: no pixel is in both."
        )
    if what:
        _log.warning(
            "%s has pixels of %g (EPSG %s) and is brought to those of %g (EPSG %s) that it meets, "
            "by nearest neighbour; resample_spatial before chooses otherwise.",
            what,
            *(abs(here.affine.a), here.crs.epsg),
            *(abs(wanted.affine.a), wanted.crs and wanted.crs.epsg),
        )
    numbers = data.astype("float32") if data.dtype == bool else data
    return _reproject(numbers, wanted, method).assign_coords(places)


def cut(data: xr.DataArray, y: slice, x: slice) -> xr.DataArray:
    """Return some rows and columns of a cube."""
    corner = grid_of(data).affine * Affine.translation(x.start, y.start)
    return georeference(data.isel(y=y, x=x), data.rio.crs, corner)


def crop_to_extent(data: xr.DataArray, request: dict[str, Any]) -> xr.DataArray:
    """Cut off what was loaded beyond the extent asked for (see `margins.add_margins`)."""
    region = parse_spatial_extent(request["spatial_extent"])
    assert region is not None  # only inserted for requests with an extent
    grid = grid_of(data)
    roi: Any = grid.overlap_roi(snap_outward(grid, region))
    return cut(data, *roi)


def filter_bbox(data: xr.DataArray, request: dict[str, Any]) -> xr.DataArray:
    """Keep the pixels whose centres lie in a box in any projection; upstream may keep none."""
    region, grid = parse_spatial_extent(request["spatial_extent"]), grid_of(data)
    if region is None or grid.crs is None:
        raise ParameterError("filter_bbox needs an extent.")
    area = bounds_in(region, grid.crs)
    rows = np.flatnonzero((data["y"] >= area.bottom) & (data["y"] <= area.top))
    columns = np.flatnonzero((data["x"] >= area.left) & (data["x"] <= area.right))
    if not (rows.size and columns.size):
        raise NoDataError("No centre of a pixel of the cube lies in the extent of filter_bbox.")
    return cut(data, *(slice(int(kept[0]), int(kept[-1]) + 1) for kept in (rows, columns)))


def _close(one: GeoBox, other: GeoBox) -> bool:
    pixel = abs(one.affine.a)
    pairs = zip(one.affine, other.affine, strict=True)
    return all(abs(first - second) < SPAN_TOLERANCE_PX * pixel for first, second in pairs)


def _reproject(cube: xr.DataArray, target: GeoBox, method: str) -> xr.DataArray:
    assert target.crs is not None
    source = grid_of(cube)
    ordered = cube.transpose(..., "y", "x").assign_coords(xr_coords(source, always_yx=True))
    moved = ordered.odc.reproject(target, resampling=METHODS[method])
    names = zip(moved.dims[-2:], ("y", "x"), strict=True)
    renamed = moved.rename({old: new for old, new in names if old != new})
    return georeference(renamed.transpose(*cube.dims), target.crs.to_wkt(), target.affine)


def _target_grid(source: GeoBox, crs: CRS, resolution: Json, align: str) -> GeoBox:
    box = source if crs == source.crs else source.to_crs(crs)
    step = _read_resolution(resolution) or (abs(box.affine.a), abs(box.affine.e))
    area = box.extent.boundingbox
    columns, rows = (
        max(1, math.ceil(span / pixel - SPAN_TOLERANCE_PX))
        for span, pixel in zip((area.span_x, area.span_y), step, strict=True)
    )
    left = area.left if align.endswith("left") else area.right - columns * step[0]
    top = area.top if align.startswith("upper") else area.bottom + rows * step[1]
    return GeoBox((rows, columns), Affine(step[0], 0, left, 0, -step[1], top), crs)


def _read_resolution(value: Json) -> tuple[float, float] | None:
    x, y = value if isinstance(value, list | tuple) else [value or 0] * 2
    if (x == 0) != (y == 0):
        raise ParameterError(f"resolution must be one number above 0 or [x, y], not {value!r}.")
    return None if x == 0 else (x, y)
