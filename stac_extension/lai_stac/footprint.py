"""Where a product has data: the outline of what was observed, not the bounding box.

A pixel was observed where it holds LAI or is hidden by cloud. The outline is drawn without
holes (a cloud-free hole of missing pixels counts as `laiq:nodata_fraction`, not as
another ring) and without specks; at most `MAX_SIDE_PX` blocks a side are traced, so that a whole
tile costs as little as a field.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes
from shapely.geometry import MultiPolygon, Polygon, mapping, shape
from shapely.geometry.polygon import orient
from shapely.ops import unary_union

from lai_udf import longitudes
from lai_udf.longitudes import cut
from lai_udf.zones import WGS84, repair, transform_geometry

MAX_SIDE_PX = 1024
"""Blocks a side that are traced; a larger raster is merged into blocks first."""

SPECK_SHARE = 0.001
"""Parts smaller than this share of the largest one are left out of the outline."""

EDGE_M = 5_000.0
"""Longest straight edge, in units of the CRS: longer ones bend when they become degrees."""

DEGREE_DECIMALS = 6
"""0.1 m at the equator."""

Outline = Polygon | MultiPolygon
Mask = npt.NDArray[np.bool_]


def outline(observed: Mask, transform: Affine) -> Outline | None:
    """Trace what was observed, in the coordinates of the raster.

    Args:
        observed: bool, (y, x).
        transform: from (column, row) to coordinates.

    Returns:
        Polygon or MultiPolygon without holes that holds every observed pixel but specks; None
        where nothing was observed.
    """
    step = _step(observed)
    merged = _merge(observed, step)
    if not merged.any():
        return None
    block = transform @ Affine.scale(step)
    traced = shapes(merged.astype("uint8"), mask=merged, connectivity=4, transform=block)
    parts = [Polygon(geometry["coordinates"][0]) for geometry, _ in traced]  # outer ring only
    largest = max(part.area for part in parts)
    whole = unary_union([part for part in parts if part.area >= SPECK_SHARE * largest])
    if step > 1:  # blocks may reach beyond the raster
        height, width = observed.shape
        whole = whole.intersection(_rectangle(transform, width, height))
    return whole if isinstance(whole, Polygon | MultiPolygon) else MultiPolygon(parts)


def inside_mask(polygon: Outline, transform: Affine, size: tuple[int, int]) -> Mask:
    """Return the pixels, (y, x), whose centre lies in the outline."""
    burnt = rasterize([(polygon, 1)], out_shape=size, transform=transform, fill=0, dtype="uint8")
    return np.asarray(burnt, dtype=bool)


def block_size(observed: Mask, transform: Affine) -> float:
    """Return the side of the blocks that `outline` traces, in units of the CRS."""
    return float(abs(transform.a) * _step(observed))


def to_wgs84(polygon: Outline, crs: CRS, tolerance: float) -> dict[str, Any]:
    """Project an outline to longitude and latitude as a GeoJSON geometry (RFC 7946).

    Rings are counter-clockwise, edges follow the projected ones, and what crosses the
    antimeridian is cut there.

    Args:
        polygon: in coordinates of `crs`.
        crs: of the raster.
        tolerance: how far the drawn line may leave the traced one, in units of the CRS; one
            block turns the stairs of a slanted edge into a line.
    """
    simple = polygon.simplify(tolerance, preserve_topology=True)
    plain = simple if isinstance(simple, Polygon | MultiPolygon) else polygon
    dense = shapely.segmentize(plain, EDGE_M if crs.is_projected else 0.05)
    moved = repair(transform_geometry(dense, crs, WGS84))  # unrolled across ±180°
    rounded = shapely.set_precision(moved, 10.0**-DEGREE_DECIMALS)
    rings = [_drop_straight_points(part) for part in shapely.get_parts(cut(rounded))]
    whole: Outline = rings[0] if len(rings) == 1 else MultiPolygon(rings)
    geometry: dict[str, Any] = _rounded(mapping(whole))
    return geometry


def bounding_box(geometry: dict[str, Any]) -> list[float]:
    """Return west, south, east, north, degrees; west > east across the antimeridian (RFC 7946)."""
    return [round(value, DEGREE_DECIMALS) for value in longitudes.bounding_box(shape(geometry))]


def _step(observed: Mask) -> int:
    height, width = observed.shape
    return max(1, -(-max(int(height), int(width)) // MAX_SIDE_PX))


def _merge(observed: Mask, step: int) -> Mask:
    """Merge `step`×`step` pixels into one that is observed where any of them is."""
    if step == 1:
        return observed
    height, width = observed.shape
    padded = np.pad(observed, [(0, -height % step), (0, -width % step)])
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(blocks.any(axis=(1, 3)), dtype=bool)


def _rectangle(transform: Affine, width: int, height: int) -> Polygon:
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    return Polygon([transform @ corner for corner in corners])


def _drop_straight_points(part: Polygon) -> Polygon:
    """Remove the points of densifying that lie on a straight line to within 1e-6 degrees."""
    simple = part.simplify(10.0**-DEGREE_DECIMALS)
    return orient(simple if isinstance(simple, Polygon) and not simple.is_empty else part, 1.0)


def _rounded(value: Any) -> Any:  # noqa: ANN401  (nested GeoJSON coordinates)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(entry) for entry in value]
    return round(value, DEGREE_DECIMALS) if isinstance(value, float) else value
