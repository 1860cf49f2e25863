"""Rasters of one result, read by rows: memory follows their width, not their size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from lai_stac.errors import RasterError
from lai_stac.statistics import observed_pixels
from lai_udf.cog import ENCODINGS, GAP_DAYS, LaiCogWriter, decode_band
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.picture import MAX_SIDE_PX, shrink
from lai_udf.predict import NO_DATA_NEAR

__all__ = ["Band", "Product", "open_product", "open_raster"]

ROWS = 256
"""Rows that are read together: those of a tile of our COGs."""
Band = tuple[Path, int]
"""A file, and the number of the band in it."""
Layers = dict[str, npt.NDArray[Any]]


def open_raster(path: Path) -> rasterio.DatasetReader:
    """Open a GeoTIFF by its own driver alone: a VRT could name files elsewhere."""
    try:
        return rasterio.open(path, driver="GTiff")
    except RasterioError as error:
        raise RasterError(f"cannot read {path.name} as a GeoTIFF ({error})") from error


@dataclass(frozen=True)
class Product:
    """Rasters of one result."""

    directory: Path
    """Of the result."""
    grid: Grid
    """Of all of them."""
    files: Mapping[str, Band]
    """By output band, in the order of the contract."""

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

    def write_cogs(self, folder: Path) -> None:
        """Write the bands as COGs, rows by rows."""
        with LaiCogWriter(folder, self.grid, bands=tuple(self.files)) as writer:
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
        directory: holds `lai.tif` and what else lies beside it.
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
