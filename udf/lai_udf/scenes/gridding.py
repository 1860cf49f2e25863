"""From the grids of files to the grid of a scene: 20 m or 10 m, the files' own CRS or a UTM zone.

A file of half the pixel is averaged 2 by 2, one of twice the pixel is repeated, one of a foreign
CRS or pixel is reprojected where the caller wants it.
"""

import math
from dataclasses import replace
from itertools import product

from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds

from lai_udf.errors import GridError
from lai_udf.grid import TOLERANCE, Grid
from lai_udf.scenes.bands import BandSource
from lai_udf.scenes.declared import Declared

REPROJECT = "reproject"


def scene_grid(grids: list[Grid], declared: Declared, where: str) -> Grid:
    """Return the grid of a scene from those of its files.

    Raises:
        GridError: no CRS, or a CRS or pixel that LAI is not computed on and `reproject` is not set.
    """
    size = declared.resolution_m
    own = grids[0]
    if own.crs is None:
        own.require_metric([size], where)
    factor = pixel_ratio(own, size)
    if factor is not None and own.is_metric:
        if factor < 1:
            return own.coarsen(round(1 / factor))
        return own if factor == 1 else own.refine(round(factor))
    if declared.reproject:
        return utm_grid(own, size)
    try:
        own.require_metric([size], where)
    except GridError as error:
        raise GridError(
            error.problem, parameter=REPROJECT, value=False, expected="true, or do it yourself"
        ) from error
    return own


def pixel_ratio(grid: Grid, size_m: float) -> float | None:
    """Return pixel of a grid / pixel of the scene where it is 0.5, 1 or 2, else None."""
    t = grid.transform
    if t.b or t.d or t.a <= 0 or abs(t.a + t.e) > TOLERANCE * t.a:
        return None
    for factor in (1.0, 0.5, 2.0):
        if abs(t.a - factor * size_m) <= TOLERANCE * size_m:
            return factor
    return None


def utm_grid(own: Grid, size_m: float) -> Grid:
    """Return the grid in the UTM zone of a grid that covers it."""
    t = own.transform
    middle = t * (own.width / 2, own.height / 2)
    (east,), (north,) = transform(own.crs, "EPSG:4326", [middle[0]], [middle[1]])
    zone = int((east + 180) // 6) % 60 + 1
    crs = CRS.from_epsg((32600 if north >= 0 else 32700) + zone)
    corners = [t * corner for corner in product((0, own.width), (0, own.height))]
    left, bottom, right, top = transform_bounds(
        own.crs,
        crs,
        min(x for x, _ in corners),
        min(y for _, y in corners),
        max(x for x, _ in corners),
        max(y for _, y in corners),
    )
    left, top = math.floor(left / size_m) * size_m, math.ceil(top / size_m) * size_m
    width, height = math.ceil((right - left) / size_m), math.ceil((top - bottom) / size_m)
    return Grid(crs, Affine(size_m, 0, left, 0, -size_m, top), height, width)


def fit_band(band: BandSource, own: Grid, grid: Grid, declared: Declared, where: str) -> BandSource:
    """Return a band with what takes it from the grid of its file to that of the scene.

    Raises:
        GridError: the grids do not fit each other.
    """
    size = grid.transform.a
    factor = pixel_ratio(own, size)
    if factor is not None and own.crs == grid.crs:
        whole = {0.5: own.coarsen(2), 1.0: own, 2.0: own.refine(2)}[factor]
        grid.require_same(whole, f"{band.label} ({where})")
        return replace(
            band,
            decimation=2 if factor == 0.5 else 1,
            repetition=2 if factor == 2.0 else 1,
        )
    if not declared.reproject:
        grid.require_same(own, f"{band.label} ({where})")
    return replace(band, warp=grid)
