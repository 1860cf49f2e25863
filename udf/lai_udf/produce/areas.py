"""Cut areas into tiles of a fixed grid, so that overlapping areas are produced once."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import geopandas as gpd
import shapely
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from lai_udf.errors import ProductionError
from lai_udf.zones import MAX_LATITUDE, MIN_LATITUDE, split_by_zone

TILE_M = 20_480.0
"""Side of a tile: 1024 pixels of 20 m, on a grid that starts at the origin of the UTM zone."""
SNAP_M = 640.0
"""Extents grow to multiples of this, so that they do not change with every digit of a polygon."""


@dataclass(frozen=True)
class AreaTile:
    """The part of a tile that areas ask for."""

    epsg: int  # UTM zone, such as 32631
    column: int
    row: int
    bounds: tuple[float, float, float, float]
    """West, south, east, north, metres in the zone: what the areas cover of the tile."""
    areas: tuple[str, ...]  # names of the areas

    @property
    def name(self) -> str:
        """Name of the tile on its grid; other extents of it have the same."""
        return f"{self.epsg}_{self.column}_{self.row}"

    @property
    def area_km2(self) -> float:
        """Area of the extent."""
        west, south, east, north = self.bounds
        return (east - west) * (north - south) / 1e6


def cut_into_tiles(areas: gpd.GeoDataFrame) -> list[AreaTile]:
    """Return the tiles that areas meet, each with the extent that they cover together.

    Args:
        areas: columns `id` and `geometry`, see `lai_udf.polygons.read_polygons`; they may overlap,
            cross UTM zones and ±180°.

    Raises:
        ProductionError: an area lies where UTM does not reach.
    """
    covered: dict[tuple[int, int, int], list[BaseGeometry]] = defaultdict(list)
    names: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name, geometry in zip(areas["id"], areas.geometry, strict=True):
        found = False
        for epsg, part in split_by_zone(geometry, areas.crs):
            for column, row, piece in cut_by_grid(part):
                found = True
                covered[epsg, column, row].append(piece)
                names[epsg, column, row].append(str(name))
        if not found:
            raise ProductionError(
                f"area {name} has nothing between {MIN_LATITUDE:g}° and {MAX_LATITUDE:g}° of "
                "latitude, where UTM reaches"
            )
    return [
        AreaTile(*key, _snap(covered[key], key), tuple(dict.fromkeys(names[key])))
        for key in sorted(covered)
    ]


def cut_by_grid(geometry: BaseGeometry) -> Iterator[tuple[int, int, BaseGeometry]]:
    """Yield column and row of each tile that a projected geometry meets, and its part there."""
    west, south, east, north = geometry.bounds
    shapely.prepare(geometry)
    for column in range(math.floor(west / TILE_M), math.ceil(east / TILE_M)):
        for row in range(math.floor(south / TILE_M), math.ceil(north / TILE_M)):
            tile = box(column * TILE_M, row * TILE_M, (column + 1) * TILE_M, (row + 1) * TILE_M)
            if geometry.intersects(tile):
                piece = geometry.intersection(tile)
                if piece.area > 0:
                    yield column, row, piece


def _snap(
    pieces: list[BaseGeometry], key: tuple[int, int, int]
) -> tuple[float, float, float, float]:
    """Return the bounds of the pieces, widened to the snap grid, within the tile."""
    west, south, east, north = shapely.geometrycollections(pieces).bounds
    _, column, row = key
    return (
        max(math.floor(west / SNAP_M) * SNAP_M, column * TILE_M),
        max(math.floor(south / SNAP_M) * SNAP_M, row * TILE_M),
        min(math.ceil(east / SNAP_M) * SNAP_M, (column + 1) * TILE_M),
        min(math.ceil(north / SNAP_M) * SNAP_M, (row + 1) * TILE_M),
    )
