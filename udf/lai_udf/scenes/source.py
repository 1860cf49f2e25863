"""A scene described before it is read: where each band lies, how it is scaled, on which grid.

The readers of the three kinds of product (`geotiff`, `stac`, `safe`)
only *describe* a scene as a `SceneSource`. Reading happens here and nowhere else, for the whole
scene or for a window of it, so that a tile can be streamed. Relies on rasterio and rioxarray.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import rasterio
import rioxarray  # noqa: F401  (registers DataArray.rio)
import xarray as xr
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from lai_udf.errors import (
    EmptySceneError,
    GridError,
    MissingBandError,
    UndeclaredScaleError,
    UnreadableProductError,
)
from lai_udf.grid import Grid
from lai_udf.longitudes import crosses_antimeridian
from lai_udf.predict import BANDS
from lai_udf.scenes.angles import AngleGrid
from lai_udf.scenes.jpeg2000 import require_whole

LOG = logging.getLogger("lai_udf")

REFLECTANCE_BANDS = BANDS
"""Reflectance bands that every scene must have, in the order of the model's inputs."""

SCENE_CLASS_BAND = "SCL"
"""Label of the L2A scene classification; it keeps its class numbers, 0 is no data."""

PIXEL_SIZE_M = 20.0
"""Side of a pixel of every scene; 10 m bands are averaged 2 by 2."""

STRIP_ROWS = 512
"""Rows of the 20 m grid that are averaged at once: a row of JPEG 2000 tiles is 1024 px of 10 m."""

REMOTE_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` after each band."""


@dataclass(frozen=True)
class Scaling:
    """How digital numbers become reflectance: `dn * scale + offset` (GDAL's convention)."""

    scale: float
    """Reflectance per digital number, 0.0001 for L2A."""

    offset: float
    """Reflectance at digital number 0: -0.1 from processing baseline 04.00 on, 0 before."""

    def __post_init__(self) -> None:
        """Refuse an offset that is meant in digital numbers."""
        if not (np.isfinite(self.scale) and self.scale > 0 and np.isfinite(self.offset)):
            raise UndeclaredScaleError(
                f"reflectance scale {self.scale} and offset {self.offset} cannot be used: "
                "the scale must be above 0 and both finite"
            )
        if abs(self.offset) > 1:
            raise UndeclaredScaleError(
                f"reflectance offset {self.offset} is no reflectance; it seems to be in digital "
                f"numbers: set OFFSET={self.offset * self.scale:g} (reflectance_offset), "
                "as in dn * scale + offset"
            )


@dataclass(frozen=True)
class SceneMetadata:
    """What is known of a scene beside its pixels."""

    datetime: str
    """Time of acquisition, ISO 8601, UTC, with a trailing Z."""

    platform: str = ""
    """`sentinel-2a`, `sentinel-2b` or `sentinel-2c`; empty when unknown."""

    product_id: str = ""
    """Name of the product, without `.SAFE`; empty when unknown."""

    processing_baseline: str = ""
    """For example `05.09`; empty when unknown."""


@dataclass(frozen=True)
class BandSource:
    """One band of a scene: a file, the band in it, and what its numbers mean."""

    label: str
    """Band label of the scene, for example `B8A`."""

    path: str
    """What rasterio opens: a path, an http href, a `/vsi` path."""

    index: int = 1
    """Number of the band in the file, from 1."""

    scaling: Scaling | None = None
    """Scaling to apply; None where the numbers are used as they are (SCL)."""

    nodata: float | None = 0.0
    """Digital number of no data; None where there is none. NaN is always no data."""

    decimation: int = 1
    """2 where the file has pixels of 10 m, that are averaged 2 by 2 (SCL: upper left one)."""


@contextmanager
def open_raster(path: str, label: str) -> Iterator[DatasetReader]:
    """Open a raster, and turn what rasterio raises in the meantime into one clear error.

    Raises:
        UnreadableProductError: the file is missing, foreign, truncated or not served.
    """
    options = REMOTE_OPTIONS if "://" in path or path.startswith("/vsi") else {}
    require_whole(path, label)
    try:
        with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", **options), rasterio.open(path) as dataset:
            yield dataset
    except (RasterioIOError, RasterioError) as error:
        reason = str(error.__cause__ or error)
        raise UnreadableProductError(
            f"{label}: cannot read {path} ({reason}); the file may be missing, truncated or "
            "behind a login: fetch it again or sign its href"
        ) from error


@dataclass(frozen=True)
class SceneSource:
    """A scene that can be read, whole or by windows."""

    name: str
    """How messages call the scene: its path or href."""

    grid: Grid
    """The 20 m grid of all bands."""

    bands: tuple[BandSource, ...]
    """Reflectance bands, then SCL where there is one, then angle rasters where there are."""

    metadata: SceneMetadata
    """Time, platform, product and baseline."""

    angles: Mapping[str, AngleGrid] = field(default_factory=dict)
    """Coarse grids of sun and view angles by label, interpolated when a window is read."""

    def __post_init__(self) -> None:
        """Check that the reflectance bands are complete and the grid is one for LAI."""
        require_bands([band.label for band in self.bands], self.name)
        self.grid.require_metric(PIXEL_SIZE_M, self.name)

    @property
    def labels(self) -> tuple[str, ...]:
        """Band labels of what `read` returns, in order."""
        return (*(band.label for band in self.bands), *self.angles)

    def read(self, window: Window | None = None, progress: Progress | None = None) -> xr.DataArray:
        """Read a window, or all of the scene.

        Args:
            window: part of the 20 m grid, in pixels; None for the whole scene.
            progress: called as `progress(done, total)` after each band.

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
        self.read_into(cut, values, progress)
        return grid.to_data_array(values, self.labels, self._attributes())

    def read_into(self, window: Window, out: FloatArray, progress: Progress | None = None) -> None:
        """Read a window into `out`, shape (labels, y, x); as `read` does, without labels."""
        grid = self.grid.crop(window, self.name)
        for number, band in enumerate(self.bands):
            read_band(band, window, out=out[number])
            if progress is not None:
                progress(number + 1, len(self.labels))
        for number, angle in enumerate(self.angles.values(), start=len(self.bands)):
            out[number] = angle.interpolate(grid.x, grid.y)
            if progress is not None:
                progress(number + 1, len(self.labels))

    def window(self, bbox: Sequence[float]) -> Window:
        """Return the smallest window that covers a bounding box.

        Args:
            bbox: west, south, east, north in degrees (WGS 84), as in STAC and openEO; west > east
                across ±180°.

        Raises:
            GridError: the box is empty or upside down, or does not touch the scene.
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


def read_band(band: BandSource, window: Window, *, out: FloatArray) -> None:
    """Read one band of a window into `out`, shape (y, x) of the 20 m grid, float32."""
    step = STRIP_ROWS if band.decimation > 1 else max(int(window.height), 1)
    with open_raster(band.path, band.label) as dataset:
        for start in range(0, int(window.height), step):
            rows = min(step, int(window.height) - start)
            part = Window(
                window.col_off * band.decimation,
                (window.row_off + start) * band.decimation,
                window.width * band.decimation,
                rows * band.decimation,
            )
            dn = dataset.read(band.index, window=part)
            if band.label == SCENE_CLASS_BAND:
                out[start : start + rows] = dn[:: band.decimation, :: band.decimation]
            else:
                out[start : start + rows] = average_2x2(decode(dn, band), band.decimation)


def decode(dn: npt.NDArray[np.generic], band: BandSource) -> FloatArray:
    """Turn digital numbers, shape (y, x), into float32 values with NaN where there is no data.

    Source: Sentinel-2 L2A product metadata (BOA_ADD_OFFSET, BOA_QUANTIFICATION_VALUE).
    """
    values = dn.astype(np.float32)  # cast first: uint16 - 1000 overflows
    missing = None if band.nodata is None or np.isnan(band.nodata) else dn == band.nodata
    if band.scaling is not None:
        values *= np.float32(band.scaling.scale)
        values += np.float32(band.scaling.offset)
    if missing is not None:
        np.copyto(values, np.float32(np.nan), where=missing)
    return values


def average_2x2(values: FloatArray, decimation: int) -> FloatArray:
    """Average blocks of `decimation`×`decimation` pixels, over those that hold data.

    Shape (y·d, x·d) -> (y, x); a block without data is NaN.
    """
    if decimation == 1:
        return values
    rows, columns = (size // decimation for size in values.shape)
    blocks = values.reshape(rows, decimation, columns, decimation)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(1, 3), dtype=np.float32)
    total = np.where(valid, blocks, np.float32(0)).sum(axis=(1, 3), dtype=np.float32)
    mean: FloatArray = np.full((rows, columns), np.nan, np.float32)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


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
    missing = [label for label in REFLECTANCE_BANDS if label not in labels]
    if missing:
        raise MissingBandError(
            f"{where} lacks {', '.join(missing)} (found: {', '.join(labels) or 'no named band'}); "
            "LAI needs all of " + " ".join(REFLECTANCE_BANDS) + ", named in the band descriptions"
        )


def require_data(scene: xr.DataArray, where: str) -> None:
    """Raise `EmptySceneError` unless some pixel holds data in every reflectance band."""
    reflectance = scene.sel(bands=list(REFLECTANCE_BANDS)).values
    if not np.isfinite(reflectance).all(axis=0).any():
        raise EmptySceneError(
            f"{where}: no pixel holds data in all of {' '.join(REFLECTANCE_BANDS)}; "
            "choose another scene or extent"
        )
