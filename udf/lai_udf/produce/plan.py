"""Which jobs an order takes: a row per tile and period, without what is there already.

Areas are cut into tiles of a fixed grid, so that overlapping areas are produced once.
"""

import datetime as dt
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import geopandas as gpd
import pandas as pd
import shapely
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from lai_udf.errors import ProductionError
from lai_udf.process_graph import SIDES, read_geometry
from lai_udf.udp import CREDITS_PER_KM2_AND_DATE
from lai_udf.zones import MAX_LATITUDE, MIN_LATITUDE, split_by_zone

TILE_M = 20_480.0
"""Side of a tile: 1024 pixels of 20 m, on a grid that starts at the origin of the UTM zone."""
SNAP_M = 640.0
"""Extents grow to multiples of this, so that they do not change with every digit of a polygon."""
MAX_JOB_DAYS = 92
"""Longest period of a job: a season of a full tile stays below the memory of a worker."""
DAYS_PER_DATE = 3.0  # sentinel-2 passes every 5 days, and every 2 to 3 where its orbits overlap
BYTES_PER_PIXEL = 9
"""Four int16 bands and the flags, before compression; other variables add two each."""
PIXELS_PER_CORE_SECOND = 2.5e6  # of the network at 20 m; loading the bands comes on top


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


@dataclass(frozen=True)
class Order:
    """What is wanted of every tile."""

    start: dt.date
    end: dt.date  # the day after the last one
    settings: Mapping[str, Any]  # keywords of `lai_udf.process_graph.lai_from_collection`
    model_checksum: str = ""

    def __post_init__(self) -> None:
        """Refuse a period that is empty."""
        if not self.start < self.end:
            raise ProductionError(
                parameter="end", value=str(self.end), expected=f"a day after {self.start}"
            )

    @property
    def digest(self) -> str:
        """Eight digits that distinguish these settings and this model from others."""
        facts = json.dumps([dict(self.settings), self.model_checksum], sort_keys=True, default=str)
        return hashlib.sha256(facts.encode()).hexdigest()[:8]


def plan_jobs(
    tiles: Sequence[AreaTile], order: Order, known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the rows that are missing from a table of jobs, so that an order adds new dates only.

    Args:
        tiles: see `cut_into_tiles`.
        order: period and settings.
        known: the table so far; periods that it holds for the same extent and settings stay out.

    Returns:
        Columns `title` (unique, also the title of the job), `tile`, `areas`, `epsg`, `west`,
        `south`, `east`, `north`, `start`, `end` (ISO days), `settings` (digest), `attempt`.
    """
    covered: dict[tuple[Any, ...], list[tuple[dt.date, dt.date]]] = {}
    if known is not None:
        for row in known.to_dict("records"):
            key = (row["epsg"], *(row[side] for side in SIDES), row["settings"])
            period = dt.date.fromisoformat(row["start"]), dt.date.fromisoformat(row["end"])
            covered.setdefault(key, []).append(period)
    rows = []
    for tile in tiles:
        have = covered.get((tile.epsg, *tile.bounds, order.digest), [])
        for start, end in split_period(order.start, order.end, have):
            extent = hashlib.sha256(repr(tile.bounds).encode()).hexdigest()[:4]
            rows.append(
                {
                    "title": f"lai_{tile.name}_{extent}_{start:%Y%m%d}_{end:%Y%m%d}_{order.digest}",
                    "tile": tile.name,
                    "areas": ",".join(tile.areas),
                    "epsg": tile.epsg,
                    **dict(zip(SIDES, tile.bounds, strict=True)),
                    "start": start.isoformat(),
                    "end": end.isoformat(),
                    "settings": order.digest,
                    "attempt": 1,
                }
            )
    columns = ["title", "tile", "areas", "epsg", *SIDES, "start", "end", "settings", "attempt"]
    return pd.DataFrame(rows, columns=columns)


def split_period(
    start: dt.date, end: dt.date, have: Sequence[tuple[dt.date, dt.date]] = ()
) -> Iterator[tuple[dt.date, dt.date]]:
    """Yield (first day, day after the last) of the parts that are not there yet."""
    for first, last in sorted(have):
        if start < min(first, end):
            yield from _pieces(start, min(first, end))
        start = max(start, last)
    if start < end:
        yield from _pieces(start, end)


def _pieces(start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, dt.date]]:
    while start < end:
        stop = min(start + dt.timedelta(days=MAX_JOB_DAYS), end)
        yield start, stop
        start = stop


@dataclass(frozen=True)
class Estimate:
    """What the rows of a plan will take, roughly."""

    tiles: int
    jobs: int
    area_km2: float
    dates: float  # acquisitions, summed over the tiles
    credits: float
    core_hours: float  # of the network alone
    storage_gb: float  # before compression
    left_out: tuple[tuple[str, str], ...] = ()  # areas without a usable polygon, and why

    def lines(self) -> list[str]:
        """Return one line for each figure."""
        return [
            f"{self.jobs} jobs on {self.tiles} tiles, {self.area_km2:,.0f} km2",
            f"about {self.dates:,.0f} acquisitions (one in {DAYS_PER_DATE:g} days)",
            f"about {self.credits:,.0f} credits (at {CREDITS_PER_KM2_AND_DATE:g} per km2 and "
            "acquisition, published for the comparable process BIOPAR)",
            f"about {self.core_hours:,.1f} core hours of the network, loading not counted",
            f"at most {self.storage_gb:,.1f} GB of files",
            *(f"area {name} is left out: {reason}" for name, reason in self.left_out),
        ]


def estimate(rows: pd.DataFrame, *, pixel_m: float = 20.0, variables: int = 1) -> Estimate:
    """Return what planned rows will take, at pixels of 20 or 10 m; each variable adds a band."""
    area = (rows["east"] - rows["west"]) * (rows["north"] - rows["south"]) / 1e6
    days = (pd.to_datetime(rows["end"]) - pd.to_datetime(rows["start"])).dt.days
    dates = days / DAYS_PER_DATE
    pixels = float((area * dates).sum()) * 1e6 / pixel_m**2
    places = rows.assign(area=area).drop_duplicates(["tile", *SIDES])
    return Estimate(
        tiles=int(rows["tile"].nunique()),
        jobs=len(rows),
        area_km2=float(places["area"].sum()),
        dates=float(dates.sum()),
        credits=float((area * dates).sum()) * CREDITS_PER_KM2_AND_DATE,
        core_hours=pixels / PIXELS_PER_CORE_SECOND / 3600,
        storage_gb=pixels * (BYTES_PER_PIXEL + 2 * (variables - 1)) / 1e9,
    )


def estimate_graph(graph: Mapping[str, Any]) -> Estimate:
    """Return what a flat graph takes that has extents where it loads data or calls a process.

    Raises:
        ProductionError: no node has both extents.
    """
    given = [node.get("arguments", {}) for node in graph.values()]
    loads = [a for a in given if a.get("spatial_extent") and a.get("temporal_extent")]
    try:
        extent, period = loads[0]["spatial_extent"], loads[0]["temporal_extent"]
        if "type" in extent:
            shape, crs = read_geometry(extent), 4326
        else:
            west, south, east, north = (float(extent[side]) for side in SIDES)
            east += 360 * (east < west)
            shape, crs = box(west, south, east, north), extent.get("crs") or 4326
        start, end = (dt.date.fromisoformat(str(day)[:10]) for day in period)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ProductionError(
            "the graph has no node with numbers or a geometry as spatial_extent and two days as "
            "temporal_extent: parameters of a process have no size yet"
        ) from error
    areas = gpd.GeoDataFrame({"id": ["graph"]}, geometry=[shape], crs=crs)
    rows = plan_jobs(cut_into_tiles(areas), Order(start, end, {}))
    text = json.dumps(graph)
    pixel_m = 10.0 if '"resolution": 10' in text else 20.0
    return replace(estimate(rows, pixel_m=pixel_m), jobs=1)


def cut_into_tiles(areas: gpd.GeoDataFrame) -> list[AreaTile]:
    """Return the tiles that areas meet, each with the extent that they cover together.

    Areas (`lai_udf.polygons.read_polygons`) may overlap, cross UTM zones and ±180°.

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
                f"area {name} is no polygon between {MIN_LATITUDE:g}° and {MAX_LATITUDE:g}° of "
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
