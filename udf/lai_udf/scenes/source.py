"""A scene described before it is read: where each band is, how it is scaled, on which grid.

The readers of each kind of product (`geotiff`, `folder`, `stac`, `safe`, `eopf`, `cubes`) only
*describe* a scene as a `SceneSource`. Reading happens here and nowhere else, for the whole scene or
for a window of it, so that a tile can be streamed. Relies on rasterio and rioxarray.

The grid of a scene is of 20 m or 10 m. A file of half the pixel is averaged 2 by 2, one of twice
the pixel is repeated, one of a foreign CRS or pixel is reprojected where the caller asks for it.
"""

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window

from lai_udf.errors import (
    EmptySceneError,
    GridError,
    MetadataError,
    MissingBandError,
    UnreadableProductError,
)
from lai_udf.grid import TOLERANCE, Grid
from lai_udf.longitudes import crosses_antimeridian
from lai_udf.predict import BANDS, LaiError
from lai_udf.scenes.bands import AngleGrid, BandSource, FloatArray, read_band
from lai_udf.scenes.metadata import Declared, Scaled, Scaling, SceneMetadata

LOG = logging.getLogger("lai_udf")
RESOLUTIONS_M = (20, 10)
"""Sides of a pixel of a scene: 20 m, 10 m bands averaged 2 by 2; or 10 m, 20 m bands repeated."""


@dataclass(frozen=True)
class SceneSource(Scaled):
    """A scene that can be read, whole or by windows."""

    name: str  # how messages call the scene: its path or href
    grid: Grid  # the grid of all bands, 20 m or 10 m
    bands: tuple[BandSource, ...]
    """Reflectance bands, then SCL where there is one, then angle rasters where there are."""
    metadata: SceneMetadata  # time, platform, product and baseline
    angles: Mapping[str, AngleGrid] = field(default_factory=dict)
    """Coarse grids of sun and view angles by label, interpolated when a window is read."""
    origin: tuple[int, int] = (0, 0)
    """Row and column, in the grid of the files, of its upper left pixel."""

    def __post_init__(self) -> None:
        """Check that the reflectance bands are complete and the grid is one for LAI."""
        require_bands([band.label for band in self.bands], self.name)
        self.grid.require_metric(RESOLUTIONS_M, self.name)

    @classmethod
    def of_files(
        cls,
        name: str,
        bands: Sequence[tuple[BandSource, Grid]],
        metadata: SceneMetadata,
        declared: Declared,
        angles: Mapping[str, AngleGrid] | None = None,
    ) -> "SceneSource":
        """Return the scene of bands that lie on grids of their own; the first decides its grid.

        Raises:
            GridError: the grids do not fit each other, or LAI is not computed on them.
        """
        grid = scene_grid(bands[0][1], declared, name)
        fitted = tuple(fit_band(band, grid_of_file, grid, declared) for band, grid_of_file in bands)
        return cls(name, grid, fitted, metadata, angles or {})

    @property
    def labels(self) -> tuple[str, ...]:
        """Band labels of what `read` returns, in order."""
        return (*(band.label for band in self.bands), *self.angles)

    @property
    def resolution_m(self) -> int:
        """Side of a pixel, m."""
        return round(self.grid.transform.a)

    @property
    def scalings(self) -> list[Scaling]:
        """Of the reflectance bands."""
        return [band.scaling for band in self.bands if band.label in BANDS]

    @property
    def block_px(self) -> tuple[int, int]:
        """Rows and columns, in pixels of the scene, of the largest blocks of its files."""
        sides = [band.find_block() for band in {band.path: band for band in self.bands}.values()]
        return max(rows for rows, _ in sides), max(columns for _, columns in sides)

    def digest(self) -> str:
        """Return what distinguishes the input of a run: names, sizes and times of its files."""
        (row, column), (height, width) = self.origin, self.grid.shape
        window = Window(column, row, width, height)
        parts = [[row, column, height, width], *(band.digest(window) for band in self.bands)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def read(self, window: Window | None = None) -> xr.DataArray:
        """Read a window, or all of the scene.

        Returns:
            Dims (bands, y, x), float32, y from north to south. Reflectance (unit 1) and angles
            (degrees): NaN is no data. SCL: class number, 0 is no data. CRS in `.rio`, and
            the metadata in attrs. It may be all NaN: the edge of a tile is.

        Raises:
            GridError: the window does not lie in the scene.
            UnreadableProductError: a file is truncated or gone.
        """
        grid = self.grid if window is None else self.grid.crop(window, self.name)
        cut = Window(0, 0, grid.width, grid.height) if window is None else window
        values = np.empty((len(self.labels), grid.height, grid.width), np.float32)
        self.read_into(cut, values)
        return grid.to_data_array(values, self.labels, self._attributes())

    def read_into(self, window: Window, out: FloatArray) -> None:
        """Read a window into `out`, shape (labels, y, x); as `read` does, without labels."""
        grid = self.grid.crop(window, self.name)
        row, column = self.origin
        moved = Window(window.col_off + column, window.row_off + row, window.width, window.height)
        for number, band in enumerate(self.bands):
            read_band(band, moved, out=out[number])
        for number, angle in enumerate(self.angles.values(), start=len(self.bands)):
            out[number] = angle.interpolate(grid.x, grid.y)

    def crop(self, window: Window) -> "SceneSource":
        """Return the scene of a window; nothing is read.

        Raises:
            GridError: the window does not lie in the scene.
        """
        row, column = self.origin
        return replace(
            self,
            grid=self.grid.crop(window, self.name),
            origin=(row + int(window.row_off), column + int(window.col_off)),
        )

    def window(self, bbox: Sequence[float]) -> Window:
        """Return the smallest window that covers west, south, east, north in degrees (WGS 84).

        Raises:
            GridError: the box is empty or upside down (west > east is across ±180°), or outside.
        """
        west, south, east, north = bbox
        east += 360 if crosses_antimeridian(west, east) else 0
        if not (west < east and south < north):
            raise GridError(f"bbox {list(bbox)} is empty: give west < east and south < north")
        here = transform_bounds(self.grid.crs, "EPSG:4326", *self.grid.bounds)
        clipped = _clip((west, south, east, north), here)
        if clipped is not None:
            bounds = transform_bounds("EPSG:4326", self.grid.crs, *clipped)
            window = self.grid.covering(bounds)
            if window is not None:
                return window
        raise GridError(
            f"bbox {list(bbox)} does not touch {self.name}, which covers "
            f"{[round(degrees, 4) for degrees in here]} (west, south, east, north)"
        )

    def _attributes(self) -> dict[str, str | bool]:
        return {
            "datetime": self.metadata.datetime,
            "platform": self.metadata.platform,
            "product_id": self.metadata.product_id,
            "processing_baseline": self.metadata.processing_baseline,
            "reflectance_offset_applied": True,
        }


@dataclass(frozen=True)
class SceneEntry:
    """A scene among several, described when its turn comes."""

    name: str  # of the file, Item or date
    describe: Callable[[], SceneSource]

    def open(self) -> SceneSource:
        """Describe it.

        Raises:
            ProductError: it cannot be used, or its metadata hold other things than they should.
        """
        try:
            return self.describe()
        except LaiError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise MetadataError(f"{self.name}: the metadata cannot be read ({error!r})") from error


def failing_entry(name: str, error: LaiError) -> SceneEntry:
    """Return an entry that raises an error when it is opened."""

    def fail() -> SceneSource:
        raise error

    return SceneEntry(name, fail)


def _clip(
    bbox: tuple[float, float, float, float], scene: tuple[float, float, float, float]
) -> tuple[float, float, float, float] | None:
    """Clip a box to the scene's, both in degrees; None where they do not touch.

    A box much larger than the scene has no meaningful bounds in the scene's UTM zone. A scene on
    the antimeridian has west > east, and a box may name its longitudes from either side.
    """
    scene_east = scene[2] + (360 if scene[2] < scene[0] else 0)
    for turn in (0, 360, -360):
        west, east = max(bbox[0] + turn, scene[0]), min(bbox[2] + turn, scene_east)
        south, north = max(bbox[1], scene[1]), min(bbox[3], scene[3])
        if west < east and south < north:
            return west, south, east, north
    return None


def require_scheme(href: str, what: str, *schemes: str) -> None:
    """Raise `UnreadableProductError` unless an href is a path or of one of the schemes."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/", href)  # a Path has one slash left
    if scheme and scheme[1] not in schemes:
        known = ", ".join(["a path", *(f"{name}://" for name in schemes)])
        raise UnreadableProductError(
            f"{href}: {what} is read from {known}, not from {scheme[1]}://: fetch it first"
        )


def require_bands(labels: Sequence[str], where: str) -> None:
    """Raise `MissingBandError` with the names of the reflectance bands that are not there."""
    missing = [label for label in BANDS if label not in labels]
    if missing:
        raise MissingBandError(
            f"{where} lacks {', '.join(missing)} (found: {', '.join(labels) or 'no named band'}); "
            f"LAI needs all of {' '.join(BANDS)}",
            parameter="bands" if not labels else None,
            expected="the names of its bands in order",
        )


def require_data(scene: xr.DataArray, where: str) -> None:
    """Raise `EmptySceneError` unless some pixel holds data in every reflectance band."""
    reflectance = scene.sel(bands=list(BANDS)).values
    if not np.isfinite(reflectance).all(axis=0).any():
        raise no_data_error(where)


def no_data_error(where: str) -> EmptySceneError:
    """Return the error of a scene without a pixel that holds data in every band."""
    what = f"no pixel holds data in all of {' '.join(BANDS)}"
    return EmptySceneError(f"{where}: {what}; choose another scene or extent")


def scene_grid(own: Grid, declared: Declared, where: str) -> Grid:
    """Return the grid of a scene from that of its first file.

    Raises:
        GridError: no CRS, or a CRS or pixel that LAI is not computed on and `reproject` is not set.
    """
    size = declared.resolution
    if own.crs is None:
        own.require_metric([size], where)  # raises
    factor = pixel_ratio(own, size)
    if factor is not None and own.is_metric:
        return own.zoom(1 / factor)
    if declared.reproject:
        return utm_grid(own, size)
    try:
        own.require_metric([size], where)
    except GridError as error:
        error.parameter, error.value = "reproject", False
        error.expected = "true, or do it yourself"
        raise
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
    x, y = t * (own.width / 2, own.height / 2)
    (east,), (north,) = transform(own.crs, "EPSG:4326", [x], [y])
    zone = int((east + 180) // 6) % 60 + 1
    crs = CRS.from_epsg((32600 if north >= 0 else 32700) + zone)
    xs, ys = zip(*(t * (i, j) for i in (0, own.width) for j in (0, own.height)), strict=True)
    covered = (min(xs), min(ys), max(xs), max(ys))  # the rows may run north, and be turned
    left, bottom, right, top = transform_bounds(own.crs, crs, *covered)
    left, top = math.floor(left / size_m) * size_m, math.ceil(top / size_m) * size_m
    width, height = math.ceil((right - left) / size_m), math.ceil((top - bottom) / size_m)
    return Grid(crs, Affine(size_m, 0, left, 0, -size_m, top), height, width)


def fit_band(band: BandSource, own: Grid, grid: Grid, declared: Declared) -> BandSource:
    """Return a band with what takes it from the grid of its file to that of the scene.

    Raises:
        GridError: the grids do not fit each other.
    """
    where = f"{band.label} ({PurePosixPath(band.path).name})"
    factor = pixel_ratio(own, grid.transform.a)
    if factor is not None and own.crs == grid.crs:
        grid.require_same(own.zoom(1 / factor), where)
        decimation, repetition = (max(1, round(ratio)) for ratio in (1 / factor, factor))
        return replace(band, decimation=decimation, repetition=repetition)
    if not declared.reproject:
        grid.require_same(own, where)
    return replace(band, warp=grid)
