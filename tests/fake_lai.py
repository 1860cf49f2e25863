"""Small LAI products on disk, with a model that describes itself as a bundle would."""

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from lai_udf.cog import write_lai_cogs
from lai_udf.grid import Grid
from lai_udf.predict import OUTPUT_BANDS

SIDE_PX = 48
UTM32 = Grid(CRS.from_epsg(32632), Affine(20, 0, 600_000, 0, -20, 5_000_000), SIDE_PX, SIDE_PX)

MODEL: dict[str, Any] = {
    "type": "Feature",
    "id": "sentinel2-lai-seamless-0.1.0",
    "properties": {
        "mlm:name": "sentinel2-lai-seamless",
        "lai:contract": {
            "model_id": "sentinel2-lai-seamless",
            "model_version": "0.1.0",
            "output": {"minimum": 0.0, "maximum": 8.0, "tolerance": 0.2},
            "masks": {"count": 24, "rate": 0.2},
            "calibration": {
                "n_site_dates": 21,
                "level": 0.95,
                "method": "split-conformal",
                "n_pairs": 173,
                "variables": {"LAI": {}},
                "scores_left_out_site_dates": {
                    "sl2p": {"coverage": 0.94, "coverage_90": 0.89, "coverage_68": 0.7}
                },
            },
        },
    },
    "links": [],
    "assets": {"model": {"file:checksum": "1220" + "ab" * 32}},
}

ARGUMENTS: dict[str, Any] = {"model": MODEL, "datetime": "2024-06-21T10:36:29Z"}


def fake_layers(rng: np.random.Generator, side: int = SIDE_PX) -> dict[str, np.ndarray]:
    """LAI 0-6 with noise; the north-west corner without data, a cloud of 9 px in the south-east."""
    row, column = np.mgrid[:side, :side]
    lai = 3 + 2.5 * np.sin(column / 6) * np.cos(row / 8) + 0.1 * rng.normal(size=(side, side))
    lai = np.clip(lai, 0, 8).astype("float32")
    flags = np.where(lai > 5.2, 1, 0) + np.where(lai < 0.6, 2, 0)
    no_data = row + column < side // 3
    cloud = (np.abs(row - 36) < 5) & (np.abs(column - 36) < 5)
    lai[no_data | cloud] = np.nan
    flags = np.where(no_data, 64, np.where(cloud, 32, flags))
    return {
        "LAI": lai,
        "LAI_SD": lai * np.float32(0.05),
        "LAI_LOWER": np.maximum(lai - np.float32(0.6), 0),
        "LAI_UPPER": lai + np.float32(0.7),
        "LAI_FLAGS": flags.astype("float32"),
    }


def write_product(
    directory: Path,
    layers: dict[str, np.ndarray],
    grid: Grid = UTM32,
    without: tuple[str, ...] = (),
) -> Path:
    """Write layers as COGs; `without` leaves bands out."""
    bands = [band for band in OUTPUT_BANDS if band not in without]
    cube = np.stack([layers[band] for band in bands]).astype("float32")
    write_lai_cogs(grid.to_data_array(cube, bands), directory)
    return directory
