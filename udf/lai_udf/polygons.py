"""Polygons of users: fields, parcels and areas from GeoJSON, GeoPackage or GeoParquet."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from lai_udf.errors import GeometryError, PolygonFileError
from lai_udf.zones import repair

ID_COLUMNS = ("id", "id_parcel", "field", "parcel", "area", "name", "fid")
"""Columns that name a polygon, the first that has a different value for each; any case."""
LEFT_OUT = "left_out"
"""Key of `attrs` under which the polygons lie that were left out: name and reason of each."""


def read_polygons(
    path: Path,
    id_column: str | None = None,
    *,
    within: gpd.GeoSeries | None = None,
    leave_out_broken: bool = False,
) -> gpd.GeoDataFrame:
    """Read polygons, each with a name of its own.

    Args:
        path: GeoParquet, or what pyogrio reads (GeoJSON, GeoPackage, Shapefile); any CRS.
        id_column: column with the names; None: see `ID_COLUMNS`, else they are numbered from 1.
        within: with a CRS; polygons outside the bounds of each of its parts are not read, as the
            register of a country holds ten million.
        leave_out_broken: leave out what cannot be repaired, and list it in `attrs["left_out"]`.

    Returns:
        Columns `id` (text) and `geometry` (valid polygons, in degrees unrolled across ±180°), in
        the CRS of the file. All other columns stay.

    Raises:
        PolygonFileError: the file cannot be read, has no CRS, no polygon, none within the bounds,
            an invalid polygon that cannot be repaired (all of them are named), or no or repeated
            names in `id_column`.
    """
    table = _read_table(path, within)
    names = _names(table, id_column, path)
    repaired: list[BaseGeometry | None] = []
    broken: list[tuple[str, str]] = []
    for name, geometry in zip(names, table.geometry, strict=True):
        try:
            if geometry is None:
                raise GeometryError("there is no geometry")
            repaired.append(repair(geometry, table.crs))
        except GeometryError as error:
            repaired.append(None)
            broken.append((name, str(error)))
    if broken and (not leave_out_broken or len(broken) == len(names)):
        raise PolygonFileError(f"{path}: {'; '.join(': '.join(each) for each in broken)}")
    other = table.drop(columns=[table.geometry.name, "id"], errors="ignore")
    polygons = gpd.GeoDataFrame({"id": names, **other}, geometry=repaired, crs=table.crs)
    polygons = polygons[polygons.geometry.notna()].reset_index(drop=True)
    polygons.attrs[LEFT_OUT] = broken
    return polygons


def _read_table(path: Path, within: gpd.GeoSeries | None) -> gpd.GeoDataFrame:
    """Read the file as it is; only what meets the bounds of `within`."""
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".geoparquet")
        layers = [] if is_parquet else _layers_of_areas(path)
        if is_parquet:
            table = gpd.read_parquet(path)
        else:
            table = gpd.read_file(path, bbox=within, layer=next(iter(layers), None))
    except (OSError, RuntimeError, ValueError) as error:
        raise PolygonFileError(f"{path} cannot be read as polygons ({error})") from error
    if len(layers) > 1:
        raise PolygonFileError(
            f"{path} holds several layers of polygons ({', '.join(layers)}): write one into a file"
        )
    if not isinstance(table, gpd.GeoDataFrame) or (table.empty and within is None):
        raise PolygonFileError(f"{path} holds no polygon")
    if table.crs is None:
        raise PolygonFileError(f"{path} does not state its CRS: write it with one")
    if within is not None:
        table = table[_meets(table, within.to_crs(table.crs))].reset_index(drop=True)
        if table.empty:
            raise PolygonFileError(f"{path}: no polygon lies within the bounds of the rasters")
    return table


def _layers_of_areas(path: Path) -> list[str]:
    """Return the layers that may hold polygons; others, such as styles of QGIS, do not."""
    layers = gpd.list_layers(path)
    kinds = layers["geometry_type"].astype(str)
    return list(layers["name"][kinds.str.contains("Polygon|Unknown|Collection")])


def _meets(table: gpd.GeoDataFrame, within: gpd.GeoSeries) -> NDArray[np.bool_]:
    """Return which rows meet the bounds of any part of `within`; rows without geometry do."""
    bounds = table.bounds
    meets = bounds.isna().any(axis=1).to_numpy()
    for west, south, east, north in within.bounds.to_numpy():
        inside = (bounds["minx"] <= east) & (bounds["maxx"] >= west)
        inside &= (bounds["miny"] <= north) & (bounds["maxy"] >= south)
        meets |= inside.to_numpy()
    return np.asarray(meets, dtype=bool)


def _names(table: gpd.GeoDataFrame, id_column: str | None, path: Path) -> list[str]:
    """Return the name of each polygon."""
    columns = {str(column).lower(): column for column in table.columns}
    for candidate in ID_COLUMNS if id_column is None else (id_column.lower(),):
        if candidate in columns:
            names = table[columns[candidate]]
            if not names.isna().any() and not names.duplicated().any():
                return _spell(names)
    if id_column is not None:
        problem, rule = f"{path} has no such column", f"one of {', '.join(map(str, table.columns))}"
        if id_column.lower() in columns:
            problem = f"{path}: names are missing or occur twice"
            rule = "a column with a different value for each polygon"
        raise PolygonFileError(problem, parameter="id_column", value=id_column, expected=rule)
    return [str(number) for number in range(1, len(table) + 1)]


def _spell(names: pd.Series) -> list[str]:
    """Return names as text; whole numbers that a file holds as floats without `.0`."""
    if names.dtype.kind == "f" and (names % 1 == 0).all():
        names = names.astype("int64")
    return [str(name) for name in names]
