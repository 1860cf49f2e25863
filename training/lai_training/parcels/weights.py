"""Means of rasters over polygons: shares of pixels in, a row per parcel out.

A pixel counts by the exact share of it inside the parcel (exactextract). Rasters on one grid share
their weights, so a season costs little more than a date.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from numpy.typing import NDArray
from shapely.geometry import box

from lai_udf.grid import Grid

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

LEAST_VALID_FRACTION = 0.5
"""Parcels of which less is seen have no mean."""
_SLIVER = 1e-6  # a share of a pixel that is rounding of coordinates, not area


@dataclass(frozen=True, eq=False)
class ParcelWeights:
    """Shares of pixels inside parcels, on one grid; a row per pixel and parcel that meet."""

    parcel: Index
    """Row of the parcel in its table, shape (k,)."""
    cell: Index
    """Place of the pixel in the flattened grid, shape (k,)."""
    share: Floats
    """Share of the pixel inside the parcel, 0-1, shape (k,)."""
    area_px: Floats
    """Area of the whole parcel in pixels, also outside the grid, shape (parcels,)."""

    def total(self, values: Floats) -> Floats:
        """Add up (k,) values per parcel, shape (parcels,)."""
        sums = np.bincount(self.parcel, weights=values, minlength=len(self.area_px))
        return sums.astype(np.float64)


def weigh_parcels(parcels: gpd.GeoDataFrame, grid: Grid) -> ParcelWeights:
    """Compute the share of every pixel of a grid inside every parcel."""
    projected = parcels.to_crs(grid.crs)
    pixel_m2 = abs(grid.transform.a * grid.transform.e)
    area = projected.area.to_numpy() / pixel_m2
    west, south, east, north = grid.bounds
    nothing = np.zeros((grid.height, grid.width), np.int8)
    source = NumPyRasterSource(nothing, west, south, east, north, srs_wkt=projected.crs.to_wkt())
    near = np.flatnonzero(projected.intersects(box(west, south, east, north)))
    if not len(near):
        return ParcelWeights(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0), area)
    shapes = projected[["geometry"]].iloc[near]
    found = exact_extract(source, shapes, ["cell_id", "coverage"], output="pandas")
    counts = [len(cells) for cells in found["cell_id"]]
    cell = np.concatenate(found["cell_id"].to_list()).astype(np.intp)
    share = np.concatenate(found["coverage"].to_list()).astype(np.float64)
    keep = share > _SLIVER
    return ParcelWeights(np.repeat(near, counts)[keep], cell[keep], share[keep], area)


def average(
    layers: Mapping[str, NDArray[Any]], usable: NDArray[np.bool_], weights: ParcelWeights
) -> pd.DataFrame:
    """Average rasters over parcels.

    Args:
        layers: name -> (y, x); NaN only where not usable.
        usable: (y, x).
        weights: of the same grid.

    Returns:
        A row per parcel: mean of each layer (NaN below `LEAST_VALID_FRACTION`), `valid_fraction`
        of the parcel's area, and `n_effective`, the number of pixels of equal weight that would
        average independent errors as well: (sum w)^2 / sum w^2.
    """
    use = usable.ravel()[weights.cell]
    share = np.where(use, weights.share, 0.0)
    total, squares = weights.total(share), weights.total(share**2)
    fraction = np.minimum(total / weights.area_px, 1.0)
    enough = (fraction >= LEAST_VALID_FRACTION) & (total > 0)
    table = {}
    for name, layer in layers.items():
        values = np.where(use, layer.ravel()[weights.cell].astype(np.float64), 0.0)
        mean = weights.total(values * share) / np.where(enough, total, 1.0)
        table[name] = np.where(enough, mean, np.nan)
    table["valid_fraction"] = fraction
    table["n_effective"] = np.where(enough, total**2 / np.where(enough, squares, 1.0), 0.0)
    return pd.DataFrame(table)
