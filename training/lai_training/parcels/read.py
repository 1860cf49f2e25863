"""Parcels from vector files: the French register (RPG), or a plain table of polygons.

Comes in: GeoParquet, GeoPackage, Shapefile or GeoJSON. Goes out: a table with columns `parcel`,
`crop` and `geometry`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import shapely

from lai_training.errors import ParcelsError


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
        within: with a CRS; parcels outside its bounds are not read (`means.outline_items`), as
            the register of a country holds ten million.

    Returns:
        Columns `parcel` (text), `crop` (text, empty where unknown), `geometry`; the file's CRS, or
        a metric one if a buffer is asked for. Parcels that the buffer eats up are left out.

    Raises:
        ParcelsError: it cannot be read, lacks a column or CRS, names a parcel twice, or has none
            within the bounds.
    """
    parcels = _name_columns(_read_table(path, within), layout, path)
    if parcels["parcel"].duplicated().any():
        twice = parcels.loc[parcels["parcel"].duplicated(), "parcel"].iloc[0]
        raise ParcelsError(f"{path}: parcel {twice} occurs twice in {layout.id_column}")
    if inner_buffer_m > 0:
        metric = parcels.to_crs(parcels.estimate_utm_crs())
        parcels = metric.set_geometry(metric.buffer(-inner_buffer_m))
    outlines = parcels.geometry.to_numpy()
    left = ~(shapely.is_missing(outlines) | shapely.is_empty(outlines))
    return parcels[left].reset_index(drop=True)


def _read_table(path: Path, within: gpd.GeoSeries | None) -> gpd.GeoDataFrame:
    """Read the file as it is; only what meets the bounds of `within`."""
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
    return table


def _name_columns(table: gpd.GeoDataFrame, layout: ParcelLayout, path: Path) -> gpd.GeoDataFrame:
    """Pick the columns of a layout and give them our names."""
    names = {str(name).lower(): name for name in table.columns}
    if layout.id_column.lower() not in names:
        raise ParcelsError(
            f"{path} has no column {layout.id_column}, only {', '.join(map(str, table.columns))}: "
            "name the column with the parcel's id"
        )
    crop = names.get((layout.crop_column or "").lower())
    return gpd.GeoDataFrame(
        {
            "parcel": table[names[layout.id_column.lower()]].astype(str),
            "crop": table[crop].fillna("").astype(str) if crop else "",
        },
        geometry=table.geometry,
        crs=table.crs,
    )
