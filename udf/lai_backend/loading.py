"""`load_collection` and `load_stac`: scenes on disk or on the web -> a lazy cube.

The cube has dims (t, bands, y, x), float32, NaN where there is no data, with cell-centre
coordinates and the CRS written by rioxarray. **Values are delivered as they are stored** (digital
numbers stay digital numbers), as the cloud back-ends do: tell the UDF the scale and offset.

Grid: that of the files, the finest among the bands asked for; other bands and scenes are brought
onto it by nearest neighbour. Extents are snapped outward to whole pixels. Dates: scenes of one UTC
day are one date (midnight); where they overlap, the first that has data wins.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray  # noqa: F401 - registers the `rio` accessor
import xarray as xr
from affine import Affine
from dask.delayed import delayed
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox, Geometry
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject

from lai_backend.errors import NoDataError, ParameterError, SourceError
from lai_backend.extents import TimeSpan, snap_outward
from lai_backend.sources import BandSource, Scene

CHUNK_PX = 1024
RATIO_TOLERANCE = 1e-6
MARGIN_SEARCH_PX = 100
DRIVERS = ("GTiff", "JP2OpenJPEG")
"""Formats that are read; one that names other files, as VRT, could lead out of the folders."""
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """What a loading process asks for."""

    span: TimeSpan
    """Dates; half open."""
    region: Geometry | None
    """Area with its CRS; None: all of the scenes."""
    bands: tuple[str, ...] | None
    """Band names in the order wanted; None: all bands of the first scene."""
    margin_px: int = 0
    """Pixels loaded beyond the area on every side, for neighbourhoods."""
    pixel: float | None = None
    """Size of the pixels that follow, in units of the CRS, in which extent and margin are counted;
    None: those of the files."""


def load_cube(scenes: Sequence[Scene], request: Request, what: str) -> xr.DataArray:
    """Build the cube of a request.

    Args:
        scenes: candidates; those outside the extents are left out.
        request: extents, bands, margin.
        what: the source as the user named it, for messages.

    Returns:
        Lazy cube (t, bands, y, x), float32.

    Raises:
        NoDataError: no scene lies in the extents.
        ParameterError: a band is unknown.
        SourceError: a file cannot be read.
    """
    in_span = [scene for scene in scenes if request.span.contains(scene.instant)]
    chosen = [scene for scene in in_span if _may_touch(scene, request.region)]
    if not chosen:
        dates = sorted({scene.instant.date().isoformat() for scene in scenes})
        held = f"it holds {dates[0]} to {dates[-1]}" if dates else "it holds no items"
        missing = "area" if in_span else "temporal extent"
        raise NoDataError(f"{what} has no data in the {missing} asked for; {held}.")
    bands = request.bands or tuple(chosen[0].bands)
    _check_bands(bands, scenes, what)
    grid, asked, footprints = _common_grid(chosen, bands, request)
    days = sorted({s.instant.date() for s in _touching(chosen, footprints, asked)})
    if not days:
        raise NoDataError(f"{what} has no data in the area asked for.")
    by_day: dict[date, list[Scene]] = defaultdict(list)
    for scene in _touching(chosen, footprints, grid.extent):  # the margin adds no dates
        by_day[scene.instant.date()].append(scene)
    data = da.stack([_lazy_day(by_day[day], bands, grid) for day in days])
    cube = xr.DataArray(
        data,
        dims=("t", "bands", "y", "x"),
        coords={"t": np.array(days, "datetime64[ns]"), "bands": list(bands), **_axes(grid)},
    )
    result: xr.DataArray = cube.rename(None).rio.write_crs(_wkt(grid))
    return result


def _touching(
    scenes: Sequence[Scene], footprints: dict[str, GeoBox], area: Geometry
) -> list[Scene]:
    return [
        scene
        for scene in scenes
        if scene.id in footprints and footprints[scene.id].boundingbox.polygon.intersects(area)
    ]


def _wkt(grid: GeoBox) -> str:
    assert grid.crs is not None  # read_grid refuses files without one
    return str(grid.crs.to_wkt())


def _axes(grid: GeoBox) -> dict[str, Any]:
    columns, rows = np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5
    transform = grid.affine
    return {"y": transform.f + transform.e * rows, "x": transform.c + transform.a * columns}


def _may_touch(scene: Scene, region: Geometry | None) -> bool:
    if region is None or scene.bbox is None:
        return True
    box = BoundingBox(*scene.bbox, crs="EPSG:4326").buffered(0.01)
    return bool(box.polygon.intersects(region.to_crs("EPSG:4326")))


def _check_bands(bands: Sequence[str], scenes: Sequence[Scene], what: str) -> None:
    known = list(dict.fromkeys(name for scene in scenes for name in scene.bands))
    unknown = [name for name in bands if name not in known]
    if unknown:
        raise ParameterError(
            f"{what} has no band {', '.join(unknown)}; its bands are {', '.join(known)}."
        )


def _common_grid(
    scenes: Sequence[Scene], bands: Sequence[str], request: Request
) -> tuple[GeoBox, Geometry, dict[str, GeoBox]]:
    """Return the grid of the cube, the area without the margin, and the footprint of scenes."""
    footprints: dict[str, GeoBox] = {}
    for scene in scenes:
        grids = [read_grid(scene.bands[name]) for name in bands if name in scene.bands]
        if grids:
            footprints[scene.id] = min(grids, key=lambda grid: abs(grid.affine.a))
    usual_crs = Counter(str(grid.crs) for grid in footprints.values()).most_common(1)[0][0]
    candidates = [grid for grid in footprints.values() if str(grid.crs) == usual_crs]
    finest = min(candidates, key=lambda grid: abs(grid.affine.a))
    covered = [snap_outward(finest, grid.extent) for grid in footprints.values()]
    whole = covered[0]
    for part in covered[1:]:
        whole = whole | part
    if request.region is None:
        return whole, whole.extent, footprints
    wanted = snap_outward(finest, request.region)
    if not wanted.extent.intersects(whole.extent):
        raise NoDataError("The area asked for lies outside all scenes.")
    grid = _snap(finest, request.region, request.margin_px, request.pixel)
    return grid, wanted.extent, footprints


def _snap(grid: GeoBox, region: Geometry, margin_px: int, pixel: float | None) -> GeoBox:
    """Return the pixels to read: the region in whole pixels of the size that follows, and margin.

    The corner may move by whole pixels that follow only, because resampling starts there.
    """
    native = abs(grid.affine.a)
    ratio = 1.0 if pixel is None else pixel / native
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


def read_grid(source: BandSource) -> GeoBox:
    """Return the pixel grid of a raster file.

    Raises:
        SourceError: the file cannot be opened, has no CRS, or is rotated.
    """
    try:
        with rasterio.open(source.href) as dataset:
            crs, transform, shape = dataset.crs, dataset.transform, dataset.shape
            count, driver = dataset.count, dataset.driver
    except RasterioError as error:
        raise SourceError(f"Cannot open the asset {source.href}: {error}.") from error
    if driver not in DRIVERS:
        raise SourceError(f"The asset {source.href} is {driver}; GeoTIFF or JPEG 2000 is needed.")
    if crs is None:
        raise SourceError(f"The asset {source.href} has no coordinate reference system.")
    if transform.b or transform.d:
        raise SourceError(f"The asset {source.href} is rotated; north-up rasters are needed.")
    if source.index > count:
        raise SourceError(f"The asset {source.href} has {count} bands, its item says more.")
    return GeoBox(shape, transform, crs.to_wkt())


def _lazy_day(scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox) -> da.Array:
    read = delayed(read_block)
    rows = []
    for top in range(0, grid.height, CHUNK_PX):
        row = []
        for left in range(0, grid.width, CHUNK_PX):
            bottom, right = min(top + CHUNK_PX, grid.height), min(left + CHUNK_PX, grid.width)
            part = grid[top:bottom, left:right]
            shape = (len(bands), part.height, part.width)
            block = read(tuple(scenes), tuple(bands), part)
            row.append(da.from_delayed(block, shape=shape, dtype=np.float32))
        rows.append(row)
    result: da.Array = da.block(rows)
    return result


def read_block(scenes: Sequence[Scene], bands: Sequence[str], grid: GeoBox) -> FloatArray:
    """Read some bands of the scenes of one day onto a grid.

    Args:
        scenes: scenes in order of preference.
        bands: band names.
        grid: pixels to fill.

    Returns:
        Values as stored, shape (bands, y, x), float32, NaN where no scene has data.

    Raises:
        SourceError: a file cannot be read.
    """
    block = np.full((len(bands), grid.height, grid.width), np.nan, np.float32)
    for scene in scenes:
        for position, name in enumerate(bands):
            source = scene.bands.get(name)
            if source is None:
                continue
            values = _read_band(source, grid)
            empty = np.isnan(block[position])
            block[position][empty] = values[empty]
    return block


def _read_band(source: BandSource, grid: GeoBox) -> FloatArray:
    values = np.full((grid.height, grid.width), np.nan, np.float32)
    try:
        with rasterio.open(source.href) as dataset:
            reproject(
                rasterio.band(dataset, source.index),
                values,
                src_nodata=dataset.nodata if source.nodata is None else source.nodata,
                dst_transform=grid.affine,
                dst_crs=_wkt(grid),
                dst_nodata=np.nan,
                resampling=Resampling.nearest,
            )
    except RasterioError as error:
        raise SourceError(f"Cannot read the asset {source.href}: {error}.") from error
    return values
