"""Rasters of one result, read by rows, and the outline of what was observed.

Memory follows the width of the rasters, not their size. A pixel was observed where it holds LAI or
is hidden by cloud. The outline is drawn without holes (a cloud-free hole of missing pixels counts
as `laiq:nodata_fraction`, not as another ring) and without specks; at most `MAX_OUTLINE_PX` blocks
a side are traced, so that a whole tile costs as little as a field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import rasterize, shapes
from rasterio.windows import Window
from shapely.geometry import MultiPolygon, Polygon, mapping, shape
from shapely.geometry.polygon import orient
from shapely.ops import unary_union

from lai_stac.errors import RasterError
from lai_stac.statistics import observed_pixels
from lai_udf import longitudes
from lai_udf.cog import ENCODINGS, GAP_DAYS, LaiCogWriter, decode_band
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.longitudes import cut
from lai_udf.picture import MAX_SIDE_PX, shrink
from lai_udf.predict import NO_DATA_NEAR
from lai_udf.zones import WGS84, repair, transform_geometry

__all__ = ["Band", "Product", "open_product", "open_raster"]

ROWS = 256  # rows that are read together: those of a tile of our COGs
Band = tuple[Path, int]  # a file, and the number of the band in it
Layers = dict[str, npt.NDArray[Any]]

MAX_OUTLINE_PX = 1024  # blocks a side that are traced; a larger raster is merged into blocks first

SPECK_SHARE = 0.001  # parts smaller than this share of the largest one are left out of the outline

EDGE_M = 5_000.0
"""Longest straight edge, in units of the CRS: longer ones bend when they become degrees."""

DEGREE_DECIMALS = 6  # 0.1 m at the equator

Outline = Polygon | MultiPolygon
Mask = npt.NDArray[np.bool_]


def open_raster(path: Path) -> rasterio.DatasetReader:
    """Open a GeoTIFF by its own driver alone: a VRT could name files elsewhere."""
    try:
        return rasterio.open(path, driver="GTiff")
    except RasterioError as error:
        raise RasterError(f"cannot read {path.name} as a GeoTIFF ({error})") from error


@dataclass(frozen=True)
class Product:
    """Rasters of one result."""

    directory: Path  # of the result
    grid: Grid  # of all of them
    files: Mapping[str, Band]  # by output band, in the order of the contract

    @property
    def is_series(self) -> bool:
        """Whether the dates of a series went in, not one observation."""
        return GAP_DAYS in self.files

    def rows(
        self, bands: Sequence[str] | None = None, rows: int = ROWS
    ) -> Iterator[tuple[slice, Layers]]:
        """Read bands, all of them if not given, so many rows at a time.

        A series has no flags: `LAI_FLAGS` is made of where it has a value.

        Yields:
            The rows, and the values by band, float32, physical units, NaN = no data, flags finite.

        Raises:
            RasterError: a file cannot be read.
        """
        wanted = {band: self.files[band] for band in bands or self.files if band in self.files}
        with ExitStack() as stack:
            files = {path for path, _ in wanted.values()}
            opened = {path: stack.enter_context(open_raster(path)) for path in files}
            for top in range(0, self.grid.height, rows):
                window = Window(0, top, self.grid.width, min(rows, self.grid.height - top))
                layers: Layers = {}
                for band, (path, index) in wanted.items():
                    try:
                        layers[band] = decode_band(opened[path], index, window)
                    except RasterioError as error:
                        raise RasterError(f"cannot read {path.name} ({error})") from error
                    if band.endswith("_FLAGS"):
                        layers[band][np.isnan(layers[band])] = NO_DATA_NEAR
                if self.is_series and "LAI" in layers:
                    known = np.isfinite(layers["LAI"])
                    layers["LAI_FLAGS"] = np.where(known, 0, NO_DATA_NEAR).astype("float32")
                yield slice(top, top + int(window.height)), layers

    def observed(self) -> npt.NDArray[np.bool_]:
        """Return where the satellite saw something, (y, x); without flags: where LAI is."""
        observed = np.zeros(self.grid.shape, bool)
        for place, layers in self.rows(("LAI", "LAI_FLAGS")):
            flags = layers.get("LAI_FLAGS", np.full_like(layers["LAI"], NO_DATA_NEAR))
            observed[place] = observed_pixels(layers["LAI"], flags.astype("uint8"))
        return observed

    def write_cogs(self, folder: Path, tags: Mapping[str, str] | None = None) -> None:
        """Write the bands as COGs, rows by rows, with GDAL metadata."""
        with LaiCogWriter(folder, self.grid, bands=tuple(self.files), tags=tags) as writer:
            for rows, layers in self.rows():
                window = Window(0, rows.start, self.grid.width, rows.stop - rows.start)
                part = self.grid.crop(window, "the raster")
                stack = np.stack([layers[band] for band in self.files])
                writer.write(part.to_data_array(stack, tuple(self.files)), window)

    def shrunk(self, max_side: int = MAX_SIDE_PX) -> npt.NDArray[np.float32]:
        """Return LAI, (y, x), averaged until no side exceeds `max_side`."""
        step = max(1, -(-max(self.grid.shape) // max_side))
        parts = self.rows(("LAI",), rows=step * max(1, ROWS // step))
        return np.concatenate([shrink(layers["LAI"], step=step) for _, layers in parts])


def open_product(directory: Path, required: Sequence[str] = ("LAI",)) -> Product:
    """Open the COGs of a folder without reading their pixels.

    Args:
        directory: holds `lai.tif` and the other files of the result.
        required: bands that must be there; of a series no flags.

    Raises:
        RasterError: one is missing or cannot be read, the grids differ, or flags have no data.
    """
    files = {band: directory / f"{encoding.key}.tif" for band, encoding in ENCODINGS.items()}
    found = {band: (path, 1) for band, path in files.items() if path.is_file()}
    if "LAI" not in found:
        raise RasterError(f"{directory} holds no lai.tif: give the folder of an LAI item")
    expected = [band for band in required if GAP_DAYS not in found or band != "LAI_FLAGS"]
    missing = [band for band in expected if band not in found]
    if missing:
        raise RasterError(
            f"{directory} lacks {', '.join(f'{band.lower()}.tif' for band in missing)}: "
            "an item needs the interval and the flags beside LAI"
        )
    grids = []
    for band, (path, _) in found.items():
        with open_raster(path) as dataset:
            grids.append(Grid.of_dataset(dataset))
            if band.endswith("_FLAGS") and dataset.nodata is not None:
                raise RasterError(f"{path} has no-data pixels; flags are data everywhere")
        try:
            grids[0].require_same(grids[-1], str(path))
        except LaiUdfError as error:
            raise RasterError(str(error)) from error
    return Product(directory, grids[0], found)


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
    return max(1, -(-max(int(height), int(width)) // MAX_OUTLINE_PX))


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
