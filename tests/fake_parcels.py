"""Parcels and LAI on a grid of 6 x 8 pixels of 20 m."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry import box

from lai_udf.cog import write_lai_cogs
from lai_udf.grid import Grid

GRID = Grid(CRS.from_epsg(32631), Affine(20, 0, 340_000, 0, -20, 4_830_000), 6, 8)
BANDS = ["LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS"]


def make_parcels(**boxes: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    """Parcels given in pixels of GRID: left, top, right, bottom."""
    west, north = 340_000, 4_830_000
    outlines = [box(west + 20 * a, north - 20 * d, west + 20 * c, north - 20 * b)
                for a, b, c, d in boxes.values()]  # fmt: skip
    return gpd.GeoDataFrame(
        {"parcel": list(boxes), "crop": "BTH"}, geometry=outlines, crs="EPSG:32631"
    )


def make_cube(lai: np.ndarray, flags: np.ndarray | None = None) -> xr.DataArray:
    flags = np.zeros_like(lai) if flags is None else flags
    layers = np.stack([lai, lai * 0 + 0.1, lai - 1, lai + 2, flags]).astype("float32")
    return GRID.to_data_array(layers, BANDS, {"DATETIME": "2020-06-08T10:56:21Z"})


def write_day(folder: Path, cube: xr.DataArray, time: str, **tags: str) -> Path:
    write_lai_cogs(cube, folder, tags={"DATETIME": time, **tags})
    return folder
