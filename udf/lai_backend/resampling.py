"""`resample_spatial`: a cube on another grid, lazily.

The new grid starts at one corner of the input (`align`) and covers all of it.
"""

import logging
import math
from collections.abc import Mapping

import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from lai_backend.errors import ParameterError
from lai_backend.extents import parse_crs
from lai_backend.files import Json
from lai_backend.georeference import georeference, transform_of

_log = logging.getLogger(__name__)
METHODS: Mapping[str, str] = {
    "near": "nearest",
    "cubicspline": "cubic_spline",
    **{name: name for name in ("bilinear", "cubic", "lanczos", "average", "mode", "max", "min")},
    **{name: name for name in ("med", "q1", "q3", "rms", "sum")},
}
"""Names of GDAL by those of openEO."""
CORNERS = ("lower-left", "upper-left", "lower-right", "upper-right")
SPAN_TOLERANCE_PX = 1e-6  # A grid that fits this well gets no further pixel


def resample(
    cube: xr.DataArray, resolution: Json, projection: Json, method: str, align: str
) -> xr.DataArray:
    """Bring a cube onto another grid.

    Args:
        cube: with y, x and a CRS; other dimensions are kept.
        resolution: pixel size in units of the target CRS, one number or `[x, y]`; 0 or None keeps
            it (or, in another CRS, takes what keeps the pixels about as large).
        projection: EPSG code or WKT; None keeps it.
        method: name of openEO.
        align: corner of the input at which the new grid starts.

    Returns:
        Lazy cube on the new grid, NaN where the input has no data.
    """
    if method not in METHODS:
        raise ParameterError(f"There is no resampling method {method!r}; use {', '.join(METHODS)}.")
    if align not in CORNERS:
        raise ParameterError(f"align must be one of {', '.join(CORNERS)}, not {align!r}.")
    source = grid_of(cube)
    new_crs = source.crs if projection is None else parse_crs(projection)
    assert new_crs is not None  # grid_of refuses cubes without one
    return _reproject(cube, _target_grid(source, new_crs, resolution, align), METHODS[method])


def grid_of(cube: xr.DataArray) -> GeoBox:
    """Return the pixels of a cube."""
    if not {"y", "x"} <= set(cube.dims) or cube.rio.crs is None:
        raise ParameterError(f"A cube with y, x and a projection is needed, not {cube.dims}.")
    crs = parse_crs(cube.rio.crs.to_wkt())
    return GeoBox((cube.sizes["y"], cube.sizes["x"]), transform_of(cube), crs)


def on_grid_of(
    cube: xr.DataArray, target: xr.DataArray, what: str | None, method: str = "near"
) -> xr.DataArray:
    """Return a cube, with or without y and x, on the pixels of another.

    Args:
        cube: any.
        target: has the pixels wanted.
        what: the cube's name for a warning, where nobody asked for resampling.
        method: name of openEO, where the pixels differ.
    """
    if not {"y", "x"} <= set(cube.dims) or not {"y", "x"} <= set(target.dims):
        return cube
    here, wanted = grid_of(cube), grid_of(target)
    if here.crs == wanted.crs and here.shape == wanted.shape and _close(here, wanted):
        return cube.assign_coords({name: target[name].values for name in ("y", "x")})
    assert here.crs is not None  # grid_of refuses cubes without one
    if not here.extent.intersects(wanted.extent.to_crs(here.crs)):
        raise ParameterError(
            f"{what or 'The cube'} and the one it meets lie apart: no pixel is in both."
        )
    if method not in METHODS:
        raise ParameterError(f"There is no resampling method {method!r}; use {', '.join(METHODS)}.")
    if what:
        _log.warning(
            "%s has pixels of %g (EPSG %s) and is brought to those of %g (EPSG %s) that it meets, "
            "by nearest neighbour; resample_spatial before chooses otherwise.",
            what,
            *(one for grid in (here, wanted) for one in (abs(grid.affine.a), _epsg(grid))),
        )
    numbers = cube.astype("float32") if cube.dtype == bool else cube
    moved = _reproject(numbers, wanted, METHODS[method])
    return moved.assign_coords({name: target[name].values for name in ("y", "x")})


def _epsg(grid: GeoBox) -> int | None:
    return grid.crs.to_epsg() if grid.crs else None


def _close(one: GeoBox, other: GeoBox) -> bool:
    pixel = abs(one.affine.a)
    pairs = zip(one.affine, other.affine, strict=True)
    return all(abs(first - second) < SPAN_TOLERANCE_PX * pixel for first, second in pairs)


def _reproject(cube: xr.DataArray, target: GeoBox, method: str) -> xr.DataArray:
    assert target.crs is not None
    source = grid_of(cube)
    ordered = cube.transpose(..., "y", "x").assign_coords(xr_coords(source, always_yx=True))
    moved = ordered.odc.reproject(target, resampling=method)
    names = dict(zip(moved.dims[-2:], ("y", "x"), strict=True))
    renamed = moved.rename({old: new for old, new in names.items() if old != new})
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
    pair = value if isinstance(value, list | tuple) else [value or 0] * 2
    try:
        x, y = (float(number) for number in pair)
    except (TypeError, ValueError):
        x = y = -1.0
    if x < 0 or y < 0 or (x == 0) != (y == 0):
        raise ParameterError(f"resolution must be one number above 0 or [x, y], not {value!r}.")
    return None if x == 0 else (x, y)
