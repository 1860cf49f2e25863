"""`load_collection` and `load_stac`: scenes on disk or on the web -> a lazy cube.

The cube has dims (t, bands, y, x), float32, NaN where there is no data, with cell-centre
coordinates and the CRS written by rioxarray. **Digital numbers stay digital numbers**, on one scale
and without offset whatever the item states (`_on_one_scale`): pass the scale to the UDF.

Grid: that of the files, the finest among the bands asked for; other bands and scenes are brought
onto it by nearest neighbour. Extents are snapped outward to whole pixels. Dates: scenes of one UTC
day are one date, labelled with its midnight, as on the cloud back-ends; where they overlap, the
first that has data wins.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from odc.geo.xr import xr_coords

from lai_backend.errors import NoDataError, ParameterError, SourceError
from lai_backend.extents import (
    TimeSpan,
    parse_spatial_extent,
    parse_temporal_extent,
    snap_outward,
    stac_boxes,
    wrapped_boxes,
)
from lai_backend.grids import georeference
from lai_backend.reading import read_day, read_grid
from lai_backend.sources import Scene

_log = logging.getLogger(__name__)
CHUNK_PX = 1024  # A multiple of the usual sides of tiles in files
HEADERS_AT_A_TIME = 8
RATIO_TOLERANCE = 1e-6
MARGIN_SEARCH_PX = 100
BBOX_MARGIN_DEG = 0.01  # items round their bbox
MAX_PX = 2e10
"""Of a date: 1400 km of 10 m; the tasks of more would fill the memory before anything is read."""


@dataclass(frozen=True)
class LoadRequest:
    """What a loading process asks for."""

    span: TimeSpan  # dates; half open
    region: Geometry | None  # area with its CRS; None: all of the scenes
    bands: tuple[str, ...] | None  # in the order wanted; None: all bands of the first scene
    margin_px: int = 0  # pixels loaded beyond the area on every side, for neighbourhoods
    pixel: float | None = None
    """Size of the pixels that follow, in units of the CRS, in which extent and margin are counted;
    None: those of the files."""


@dataclass(frozen=True)
class Plan:
    """What a cube is made of: scenes by day, bands, pixels."""

    days: Mapping[date, tuple[Scene, ...]]  # scenes of each UTC day, in order of preference
    bands: tuple[str, ...]
    grid: GeoBox  # pixels to read, margin included
    tiles: GeoBox  # grid of the finest file; its tiles start at its corner

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in order of time."""
        return tuple(scene for scenes in self.days.values() for scene in scenes)


def read_request(request: Mapping[str, Any]) -> LoadRequest:
    """Read the arguments of a loading process, and what `margins` added to them."""
    bands = request.get("bands")
    return LoadRequest(
        span=parse_temporal_extent(request.get("temporal_extent")),
        region=parse_spatial_extent(request.get("spatial_extent")),
        bands=None if bands is None else tuple(bands),
        margin_px=int(request.get("margin_px", 0)),
        pixel=request.get("pixel"),
    )


def plan_cube(scenes: Sequence[Scene], request: LoadRequest, what: str) -> Plan:
    """Choose the scenes and pixels of a request; reads the headers of the files.

    Args:
        scenes: candidates; those outside the extents are left out.
        request: extents, bands, margin.
        what: the source as the user named it, for messages.
    """
    chosen = _in_extents(scenes, request, what)
    known = list(dict.fromkeys(name for scene in scenes for name in scene.bands))
    if not known:
        raise SourceError(f"{what} holds no raster that is read: GeoTIFF or JPEG 2000.")
    bands = request.bands or tuple(chosen[0].bands) or tuple(known)
    if unknown := [name for name in bands if name not in known]:
        raise ParameterError(
            f"{what} has no band {', '.join(unknown)}; its bands are {', '.join(known)}."
        )
    footprints = _read_footprints(chosen, bands)
    grid, asked, finest = _common_grid(list(footprints.values()), request)
    if grid.width * grid.height > MAX_PX:
        raise ParameterError(
            f"The area and resolution asked for are {grid.width} x {grid.height} pixels, at most "
            f"{MAX_PX:g} can be loaded: give a smaller extent."
        )
    chosen = _on_one_scale(chosen, bands, what)
    days = _days_touching(chosen, footprints, asked)
    if not days:
        raise NoDataError(f"{what} has no data in the area asked for.")
    around = _days_touching(chosen, footprints, grid.extent)
    return Plan({day: around[day] for day in days}, bands, grid, finest)  # no date by the margin


def load_cube(plan: Plan) -> xr.DataArray:
    """Build the lazy cube (t, bands, y, x), float32, of a plan; no pixel is read yet."""
    assert plan.grid.crs is not None  # read_grid refuses files without one
    axes = xr_coords(plan.grid, always_yx=True)
    cube = xr.DataArray(
        da.stack([_lazy_day(scenes, plan) for scenes in plan.days.values()]),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array(list(plan.days), "datetime64[ns]"),
            "bands": list(plan.bands),
            **{name: axes[name].values for name in ("y", "x")},
        },
    )
    return georeference(cube.rename(None), plan.grid.crs.to_wkt(), plan.grid.affine)


def _in_extents(scenes: Sequence[Scene], request: LoadRequest, what: str) -> list[Scene]:
    """Return the scenes that lie in the extents, as far as their items state it."""
    in_span = [scene for scene in scenes if request.span.contains(scene.instant)]
    chosen = [scene for scene in in_span if _may_touch(scene, request.region)]
    if not chosen:
        dates = sorted({scene.instant.date().isoformat() for scene in scenes})
        held = f"it holds {dates[0]} to {dates[-1]}" if dates else "it holds no items"
        missing = "area" if in_span else "temporal extent"
        raise NoDataError(f"{what} has no data in the {missing} asked for; {held}.")
    return chosen


def _may_touch(scene: Scene, region: Geometry | None) -> bool:
    if region is None or scene.bbox is None:
        return True
    return any(
        one.intersects(shapely.box(*other))
        for one in stac_boxes(scene.bbox, BBOX_MARGIN_DEG)
        for other in wrapped_boxes(region)
    )


def _days_touching(
    scenes: Sequence[Scene], footprints: Mapping[str, GeoBox], area: Geometry
) -> dict[date, tuple[Scene, ...]]:
    """Return the scenes of each UTC day whose files touch an area, the days in order."""
    assert area.crs is not None
    extents = {name: grid.extent.to_crs(area.crs) for name, grid in footprints.items()}
    days: dict[date, tuple[Scene, ...]] = {}
    for scene in sorted(scenes, key=lambda scene: scene.instant.date()):
        if scene.id in extents and extents[scene.id].intersects(area):
            day = scene.instant.date()
            days[day] = (*days.get(day, ()), scene)
    return days


def _on_one_scale(scenes: Sequence[Scene], bands: Sequence[str], what: str) -> list[Scene]:
    """Give all scenes the scale of the first, without offsets, so that one scaling fits all.

    As on the Copernicus Data Space: digital numbers stay digital numbers, those of products with
    `raster:offset` are moved by it (openeo-geopyspark-driver, `S2_REFLECTANCE_SCALED_OFFSET`).
    """
    scales: dict[str, float] = {}
    moved: dict[str, float] = {}
    adjusted = []
    for scene in scenes:
        sources = dict(scene.bands)
        for name in bands:
            if name in sources:
                source = sources[name]
                own = source.scale or scales.get(name, 1.0)
                common = scales.setdefault(name, own) if source.scale else own
                if source.offset:
                    moved[name] = source.offset
                factor, shift = own / common, source.offset / common
                sources[name] = replace(source, factor=factor, shift=shift)
        adjusted.append(replace(scene, bands=sources))
    if moved:
        _log.info(
            "%s: raster:offset is applied (%s): values times raster:scale are physical values, "
            "give the UDF no offset.",
            what,
            ", ".join(f"{name} {offset:g}" for name, offset in moved.items()),
        )
    return adjusted


def _read_footprints(scenes: Sequence[Scene], bands: Sequence[str]) -> dict[str, GeoBox]:
    """Return the grid of each scene's finest file, by identifier; scenes without bands have none.

    Headers are read several at a time: on the web each of them takes a request or more.
    """
    wanted = {scene.id: [scene.bands[b] for b in bands if b in scene.bands] for scene in scenes}
    sources = dict.fromkeys(source for found in wanted.values() for source in found)
    with ThreadPoolExecutor(HEADERS_AT_A_TIME) as pool:
        grids = dict(zip(sources, pool.map(read_grid, sources), strict=True))
    sizes = {
        name: _pixel_size(grids[scene.bands[name]])
        for scene in scenes
        for name in bands
        if name in scene.bands
    }
    finest = min(sizes.values(), default=0.0)
    if coarse := [f"{name} ({size:g})" for name, size in sizes.items() if size > finest]:
        _log.warning(
            "Bands of different pixels are loaded with pixels of %g: %s are repeated, not made "
            "finer. Where a UDF needs others, use resample_spatial before it.",
            finest,
            ", ".join(coarse),
        )
    return {
        identifier: min((grids[source] for source in found), key=_pixel_size)
        for identifier, found in wanted.items()
        if found
    }


def _common_grid(
    footprints: Sequence[GeoBox], request: LoadRequest
) -> tuple[GeoBox, Geometry, GeoBox]:
    """Return the grid of the cube, the area without the margin, and the grid of the finest file."""
    usual_crs = Counter(str(grid.crs) for grid in footprints).most_common(1)[0][0]
    finest = min((grid for grid in footprints if str(grid.crs) == usual_crs), key=_pixel_size)
    whole, *parts = (snap_outward(finest, grid.extent) for grid in footprints)
    for part in parts:
        whole = whole | part
    if request.region is None:
        return whole, whole.extent, finest
    wanted = snap_outward(finest, request.region)
    if not wanted.extent.intersects(whole.extent):
        raise NoDataError("The area asked for lies outside all scenes.")
    grid = _snap(finest, request.region, request.margin_px, request.pixel)
    return grid, wanted.extent, finest


def _pixel_size(grid: GeoBox) -> float:
    return abs(float(grid.affine.a))


def _snap(grid: GeoBox, region: Geometry, margin_px: int, pixel: float | None) -> GeoBox:
    """Return the pixels to read: the region in whole pixels of the size that follows, and margin.

    The corner may move by whole pixels that follow only, because resampling starts there.
    """
    ratio = 1.0 if pixel is None else pixel / _pixel_size(grid)
    factor = round(ratio)
    if factor > 1 and abs(ratio - factor) < RATIO_TOLERANCE:
        large = GeoBox((1, 1), grid.affine * Affine.scale(factor), grid.crs)
        part = snap_outward(large, region, margin_px)
        shape = (part.height * factor, part.width * factor)
        return GeoBox(shape, part.affine * Affine.scale(1 / factor), grid.crs)
    least = math.ceil(margin_px * ratio - RATIO_TOLERANCE)
    fitting = (
        count
        for count in range(least, least + MARGIN_SEARCH_PX)
        if abs(count / ratio - round(count / ratio)) < RATIO_TOLERANCE
    )
    return snap_outward(grid, region, next(fitting, 0) if margin_px else 0)


def _lazy_day(scenes: tuple[Scene, ...], plan: Plan) -> da.Array:
    """Return the pixels of one day, (bands, y, x).

    Chunks end where tiles of the files do, so that no tile is decoded for two of them, whatever
    the corner of the grid.
    """
    grid = plan.grid
    left, top = (round(edge) for edge in ~plan.tiles.affine * (grid.affine.c, grid.affine.f))
    lazy: da.Array = da.map_blocks(
        _read_chunk,
        chunks=((len(plan.bands),), _chunks(top, grid.height), _chunks(left, grid.width)),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        scenes=scenes,
        bands=plan.bands,
        grid=grid,
    )
    return lazy


def _read_chunk(
    *, scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox, block_info: Any = None
) -> npt.NDArray[np.float32]:
    _, (top, bottom), (left, right) = block_info[None]["array-location"]
    return read_day(scenes, bands, grid[top:bottom, left:right])


def _chunks(start: int, length: int) -> tuple[int, ...]:
    """Cut one side of a grid that starts at pixel `start` of the files."""
    inner = range(CHUNK_PX - start % CHUNK_PX, length, CHUNK_PX)
    return tuple(stop - first for first, stop in pairwise([0, *inner, length]))
