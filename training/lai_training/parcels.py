"""LAI per parcel and date: area-weighted means over polygons (paper, section 5.2.2).

Comes in: parcels (GeoParquet, GeoPackage, Shapefile, GeoJSON) and LAI items, each a folder with the
COGs of a date. Goes out: a table with a row per parcel and date.

A pixel counts by the exact share of it inside the parcel (exactextract), if LAI has a value there
and no cloud, shadow, snow or gap lies within reach of the network. Means of rasters on one grid
share their weights, so a season costs little more than a date.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
import xarray as xr
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from shapely.geometry import box

from lai_training.errors import LaiTrainingError
from lai_training.parcels_crops import season_of
from lai_training.sl2p_series import SL2P_FILE
from lai_udf.errors import LaiUdfError
from lai_udf.predict import CLOUD_WITHIN_REACH, NO_DATA_WITHIN_REACH
from lai_udf.rasters import read_lai_cogs
from lai_udf.rasters_grid import Grid

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

UNUSABLE_FLAGS = CLOUD_WITHIN_REACH | NO_DATA_WITHIN_REACH
"""Flags that keep a pixel out of the mean, unless told otherwise; the service's too."""
LEAST_VALID_FRACTION = 0.5
"""Parcels of which less is seen have no mean."""
_SLIVER = 1e-6  # a share of a pixel that is rounding of coordinates, not area


class ParcelsError(LaiTrainingError, ValueError):
    """Parcels or items that cannot be read together; the message says what to do."""


@dataclass(frozen=True)
class ParcelLayout:
    """Which columns of a vector file mean what."""

    id_column: str
    """Name of the parcel; unique."""
    crop_column: str | None
    """Crop code; None where the file has none."""


LAYOUTS: Mapping[str, ParcelLayout] = {
    "rpg": ParcelLayout("ID_PARCEL", "CODE_CULTU"),
    "plain": ParcelLayout("parcel", "crop"),
}
"""Presets; `rpg` is the French register as published from 2015 on (layer PARCELLES_GRAPHIQUES)."""


def read_parcels(
    path: Path,
    layout: ParcelLayout = LAYOUTS["rpg"],
    *,
    inner_buffer_m: float = 0.0,
    within: gpd.GeoSeries | None = None,
) -> gpd.GeoDataFrame:
    """Read parcels from a vector file.

    Args:
        path: GeoParquet (`.parquet`), or what pyogrio reads: GeoPackage, Shapefile, GeoJSON.
        layout: its columns; names are compared without regard to case.
        inner_buffer_m: metres to keep away from the border, where pixels are mixed.
        within: with a CRS; parcels outside its bounds are not read (`outline_items`), as the
            register of a country holds ten million.

    Returns:
        Columns `parcel` (text), `crop` (text, empty where unknown), `geometry`; the file's CRS, or
        a metric one if a buffer is asked for. Parcels that the buffer eats up are left out.

    Raises:
        ParcelsError: it cannot be read, lacks a column or CRS, names a parcel twice, or has none
            within the bounds.
    """
    try:
        table = (
            gpd.read_parquet(path)
            if path.suffix == ".parquet"
            else gpd.read_file(path, bbox=within)
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ParcelsError(f"{path} cannot be read as parcels: {error}") from error
    if not isinstance(table, gpd.GeoDataFrame) or table.crs is None:
        raise ParcelsError(f"{path}: parcels need polygons and a CRS")
    if within is not None:
        west, south, east, north = within.to_crs(table.crs).total_bounds
        table = table.cx[west:east, south:north]
        if table.empty:
            raise ParcelsError(f"{path}: no parcel lies within the bounds of the items")
    names = {str(name).lower(): name for name in table.columns}
    if layout.id_column.lower() not in names:
        raise ParcelsError(
            f"{path} has no column {layout.id_column}, only {', '.join(map(str, table.columns))}: "
            "name the column with the parcel's id"
        )
    crop = names.get((layout.crop_column or "").lower())
    parcels = gpd.GeoDataFrame(
        {
            "parcel": table[names[layout.id_column.lower()]].astype(str),
            "crop": table[crop].fillna("").astype(str) if crop else "",
        },
        geometry=table.geometry,
        crs=table.crs,
    )
    if parcels["parcel"].duplicated().any():
        twice = parcels.loc[parcels["parcel"].duplicated(), "parcel"].iloc[0]
        raise ParcelsError(f"{path}: parcel {twice} occurs twice in {layout.id_column}")
    if inner_buffer_m > 0:
        metric = parcels.to_crs(parcels.estimate_utm_crs())
        parcels = metric.set_geometry(metric.buffer(-inner_buffer_m))
    outlines = parcels.geometry.to_numpy()
    left = ~(shapely.is_missing(outlines) | shapely.is_empty(outlines))
    return parcels[left].reset_index(drop=True)


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
    """Return the time of an item: of its JSON, else of the tag `DATETIME` of its COGs."""
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
