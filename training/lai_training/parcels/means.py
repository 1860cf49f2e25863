"""LAI per parcel and date: area-weighted means over polygons (paper, section 5.2.2).

Comes in: parcels (`lai_training.parcels.read`) and LAI items, each a folder with the COGs of a
date. Goes out: a table with a row per parcel and date.

A pixel counts (`lai_training.parcels.weights`) if LAI has a value there and no cloud, shadow, snow
or gap lies within reach of the network.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from shapely.geometry import box

from lai_training.errors import ParcelsError
from lai_training.parcels.crops import season_of
from lai_training.parcels.weights import ParcelWeights, average, weigh_parcels
from lai_training.sl2p.series import SL2P_FILE
from lai_udf.cog import read_lai_cogs
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.predict import CLOUD_NEAR, NO_DATA_NEAR

UNUSABLE_FLAGS = CLOUD_NEAR | NO_DATA_NEAR
"""Flags that keep a pixel out of the mean, unless told otherwise; the service's too."""


def find_items(sources: Sequence[Path]) -> list[Path]:
    """Return the item folders below some paths: those that hold `lai.tif`.

    Args:
        sources: item folders, item JSON files, or folders of them.

    Raises:
        ParcelsError: one of them holds no LAI.
    """
    found: list[Path] = []
    for source in sources:
        root = source.parent if source.is_file() else source
        pattern = "lai.tif" if source.is_file() else "**/lai.tif"
        folders = sorted(path.parent for path in root.glob(pattern))
        if not folders:
            raise ParcelsError(f"{source} holds no lai.tif: give LAI items or a folder of them")
        found += folders
    return sorted(dict.fromkeys(found))


def outline_items(folders: Sequence[Path]) -> gpd.GeoSeries:
    """Return the bounds of the LAI of items, as polygons in degrees.

    Raises:
        ParcelsError: a raster cannot be opened.
    """
    outlines = set()
    for folder in folders:
        try:
            with rasterio.open(folder / "lai.tif") as dataset:
                outlines.add(transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds))
        except RasterioError as error:
            raise ParcelsError(f"{folder / 'lai.tif'} cannot be read: {error}") from error
    boxes = shapely.segmentize([box(*bounds) for bounds in sorted(outlines)], 0.02)
    return gpd.GeoSeries(boxes, crs="EPSG:4326")  # many corners: parallels bend in other CRS


def observe_cube(
    cube: xr.DataArray,
    weights: ParcelWeights,
    sl2p: NDArray[Any] | None = None,
    *,
    exclude_flags: int = UNUSABLE_FLAGS,
) -> pd.DataFrame:
    """Average one date over parcels.

    Args:
        cube: LAI bands as `read_lai_cogs` returns them, dims (bands, y, x).
        weights: of the cube's grid.
        sl2p: LAI of SL2P on the same grid, (y, x).
        exclude_flags: bits of `LAI_FLAGS` that keep a pixel out.

    Returns:
        As `average`: `lai`, `lower`, `upper`, `sd` and `sl2p` where there are such layers.
    """
    bands = {"lai": "LAI", "lower": "LAI_LOWER", "upper": "LAI_UPPER", "sd": "LAI_SD"}
    layers = {k: cube.sel(bands=b).values for k, b in bands.items() if b in cube["bands"].values}
    usable = np.isfinite(layers["lai"])
    if "LAI_FLAGS" in cube["bands"].values:
        usable &= cube.sel(bands="LAI_FLAGS").values.astype(np.uint8) & exclude_flags == 0
    if sl2p is not None:
        layers["sl2p"] = sl2p
        usable &= np.isfinite(sl2p)
    return average(layers, usable, weights)


def observe_items(
    parcels: gpd.GeoDataFrame, folders: Sequence[Path], *, exclude_flags: int = UNUSABLE_FLAGS
) -> pd.DataFrame:
    """Average LAI items over parcels.

    Args:
        parcels: as `read_parcels` returns them.
        folders: item folders, see `find_items`.
        exclude_flags: see `observe_cube`.

    Returns:
        Columns `parcel`, `crop`, `season`, `item`, `datetime` (UTC) and those of `observe_cube`,
        for every parcel that meets the item's raster; ordered by parcel and time.

    Raises:
        ParcelsError: an item cannot be read or does not tell its time, or no parcel meets any.
    """
    rows, known = [], {}
    for folder in folders:
        try:
            cube = read_lai_cogs(folder)
            grid = Grid.of_data_array(cube, str(folder))
        except LaiUdfError as error:
            raise ParcelsError(str(error)) from error
        if grid not in known:
            known[grid] = weigh_parcels(parcels, grid)
        weights = known[grid]
        teacher = _read_sl2p(folder / SL2P_FILE, grid)
        table = observe_cube(cube, weights, teacher, exclude_flags=exclude_flags)
        table.insert(0, "datetime", read_time(folder, cube))
        table.insert(0, "item", folder.name)
        rows.append(
            pd.concat([name_parcels(parcels), table], axis=1).loc[np.unique(weights.parcel)]
        )
    observations = pd.concat(rows, ignore_index=True)
    if observations.empty:
        raise ParcelsError(f"none of {len(parcels)} parcels meets any of {len(folders)} items")
    return observations.sort_values(["parcel", "datetime"], ignore_index=True)


def name_parcels(parcels: gpd.GeoDataFrame) -> pd.DataFrame:
    """Return columns `parcel`, `crop`, `season` of a table of parcels."""
    names = pd.DataFrame({"parcel": parcels["parcel"], "crop": parcels["crop"]})
    return names.assign(season=names["crop"].map(season_of))


def read_time(folder: Path, cube: xr.DataArray) -> pd.Timestamp:
    """Return the time of an item: of its JSON, else of the tag `DATETIME` of its COGs.

    Raises:
        ParcelsError: neither tells it.
    """
    document = folder / f"{folder.name}.json"
    told: Any = cube.attrs.get("DATETIME")
    if document.is_file():
        told = json.loads(document.read_text())["properties"].get("datetime") or told
    if not told:
        raise ParcelsError(f"{folder} does not tell its time: no item JSON, no tag DATETIME")
    return pd.to_datetime(str(told), utc=True)


def _read_sl2p(path: Path, grid: Grid) -> NDArray[np.float32] | None:
    """Read the band LAI of `lai-train sl2p` on the same grid; None where there is no such file."""
    if not path.is_file():
        return None
    with rasterio.open(path) as dataset:
        grid.require_same(Grid.of_dataset(dataset), str(path))
        names = list(dataset.descriptions)
        lai: NDArray[np.float32] = dataset.read(names.index("LAI") + 1 if "LAI" in names else 1)
    return lai
