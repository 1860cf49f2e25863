"""A folder of LAI COGs, read by rows: what it takes in memory follows its width, not its size."""

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
from lai_udf.cog import ENCODINGS, decode_band
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.picture import MAX_SIDE_PX, shrink
from lai_udf.predict import NO_DATA_NEAR

__all__ = ["Band", "Product", "open_product", "read_rows"]

ROWS = 256
"""Rows that are read together: those of a tile of our COGs."""
Band = tuple[Path, int]
"""A file, and the number of the band in it."""
Layers = dict[str, npt.NDArray[Any]]


def read_rows(
    bands: Mapping[str, Band], grid: Grid, rows: int = ROWS
) -> Iterator[tuple[slice, Layers]]:
    """Read rasters of one grid, so many rows at a time.

    Args:
        bands: where each output band lies.
        grid: of all of them.
        rows: at a time.

    Yields:
        The rows, and the values by band, float32, physical units, NaN = no data, flags finite.

    Raises:
        RasterError: a file cannot be read.
    """
    with ExitStack() as stack:
        files = {path for path, _ in bands.values()}
        opened = {path: stack.enter_context(_opened(path)) for path in files}
        for top in range(0, grid.height, rows):
            window = Window(0, top, grid.width, min(rows, grid.height - top))
            layers: Layers = {}
            for band, (path, index) in bands.items():
                try:
                    layers[band] = decode_band(opened[path], index, window)
                except RasterioError as error:
                    raise RasterError(f"cannot read {path.name} ({error})") from error
                if band.endswith("_FLAGS"):
                    layers[band][np.isnan(layers[band])] = NO_DATA_NEAR
            yield slice(top, top + int(window.height)), layers


def _opened(path: Path) -> rasterio.DatasetReader:
    """Open a GeoTIFF by its own driver alone: a VRT could name files elsewhere."""
    try:
        return rasterio.open(path, driver="GTiff")
    except RasterioError as error:
        raise RasterError(f"cannot read {path.name} as a GeoTIFF ({error})") from error


@dataclass(frozen=True)
class Product:
    """COGs of one result."""

    directory: Path
    """Where they lie."""
    grid: Grid
    """Of all of them."""
    files: Mapping[str, Band]
    """By output band, in the order of the contract."""

    def rows(
        self, bands: Sequence[str] | None = None, rows: int = ROWS
    ) -> Iterator[tuple[slice, Layers]]:
        """Read bands, all of them if not given, by rows; see `read_rows`."""
        wanted = {band: self.files[band] for band in bands or self.files}
        return read_rows(wanted, self.grid, rows)

    def observed(self) -> npt.NDArray[np.bool_]:
        """Return where the satellite saw something, (y, x)."""
        observed = np.zeros(self.grid.shape, bool)
        for place, layers in self.rows(("LAI", "LAI_FLAGS")):
            observed[place] = observed_pixels(layers["LAI"], layers["LAI_FLAGS"].astype("uint8"))
        return observed

    def shrunk(self, max_side: int = MAX_SIDE_PX) -> npt.NDArray[np.float32]:
        """Return LAI, (y, x), averaged until no side exceeds `max_side`."""
        step = max(1, -(-max(self.grid.shape) // max_side))
        parts = self.rows(("LAI",), rows=step * max(1, ROWS // step))
        return np.concatenate([shrink(layers["LAI"], step=step) for _, layers in parts])


def open_product(directory: Path, required: Sequence[str] = ("LAI",)) -> Product:
    """Open the COGs of a folder without reading their pixels.

    Args:
        directory: holds `lai.tif` and what else lies beside it.
        required: bands that must be there.

    Raises:
        RasterError: one is missing or cannot be read, the grids differ, or flags have no data.
    """
    files = {band: directory / f"{encoding.key}.tif" for band, encoding in ENCODINGS.items()}
    found = {band: (path, 1) for band, path in files.items() if path.is_file()}
    if "LAI" not in found:
        raise RasterError(f"{directory} holds no lai.tif: give the folder of an LAI item")
    missing = [band for band in required if band not in found]
    if missing:
        raise RasterError(
            f"{directory} lacks {', '.join(f'{band.lower()}.tif' for band in missing)}: "
            "an item needs the interval and the flags beside LAI"
        )
    grids = []
    for band, (path, _) in found.items():
        with _opened(path) as dataset:
            grids.append(Grid.of_dataset(dataset))
            if band.endswith("_FLAGS") and dataset.nodata is not None:
                raise RasterError(f"{path} has no-data pixels; flags are data everywhere")
        try:
            grids[0].require_same(grids[-1], str(path))
        except LaiUdfError as error:
            raise RasterError(str(error)) from error
    return Product(directory, grids[0], found)
