"""Polygons of users: fields, parcels and areas from GeoJSON, GeoPackage or GeoParquet."""

from pathlib import Path

import geopandas as gpd

from lai_udf.errors import GeometryError, PolygonFileError
from lai_udf.zones import repair

ID_COLUMNS = ("id", "field", "parcel", "area", "name", "fid")
"""Columns that name a polygon, the first that has a different value for each; any case."""


def read_polygons(path: Path, id_column: str | None = None) -> gpd.GeoDataFrame:
    """Read polygons, each with a name of its own.

    Args:
        path: GeoParquet, or what pyogrio reads (GeoJSON, GeoPackage, Shapefile); any CRS.
        id_column: column with the names; None: see `ID_COLUMNS`, else they are numbered from 1.

    Returns:
        Columns `id` (text) and `geometry` (valid polygons, in degrees unrolled across ±180°), in
        the CRS of the file. All other columns stay.

    Raises:
        PolygonFileError: the file cannot be read, has no CRS, no polygon, an invalid polygon that
            cannot be repaired (all of them are named), or no or repeated names in `id_column`.
    """
    try:
        is_parquet = path.suffix.lower() in (".parquet", ".geoparquet")
        table = gpd.read_parquet(path) if is_parquet else gpd.read_file(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise PolygonFileError(f"{path} cannot be read as polygons ({error})") from error
    if not isinstance(table, gpd.GeoDataFrame) or table.empty:
        raise PolygonFileError(f"{path} holds no polygon")
    if table.crs is None:
        raise PolygonFileError(f"{path} does not say its CRS: write it with one")
    names = _names(table, id_column, path)
    repaired, broken = [], []
    for name, geometry in zip(names, table.geometry, strict=True):
        try:
            if geometry is None:
                raise GeometryError("there is no geometry")
            repaired.append(repair(geometry, table.crs))
        except GeometryError as error:
            broken.append(f"{name}: {error}")
    if broken:
        raise PolygonFileError(f"{path}: {'; '.join(broken)}")
    other = table.drop(columns=[table.geometry.name, "id"], errors="ignore")
    return gpd.GeoDataFrame({"id": names, **other}, geometry=repaired, crs=table.crs)


def _names(table: gpd.GeoDataFrame, id_column: str | None, path: Path) -> list[str]:
    """Return the name of each polygon."""
    columns = {str(column).lower(): column for column in table.columns}
    if id_column is not None:
        if id_column.lower() not in columns:
            raise PolygonFileError(
                f"{path} has no such column",
                parameter="id_column",
                value=id_column,
                expected=f"one of {', '.join(map(str, table.columns))}",
            )
        names = table[columns[id_column.lower()]]
        if names.isna().any() or names.duplicated().any():
            raise PolygonFileError(
                f"{path}: names are missing or occur twice",
                parameter="id_column",
                value=id_column,
                expected="a column with a different value for each polygon",
            )
        return [str(name) for name in names]
    for candidate in ID_COLUMNS:
        if candidate in columns:
            names = table[columns[candidate]]
            if not names.isna().any() and not names.duplicated().any():
                return [str(name) for name in names]
    return [str(number) for number in range(1, len(table) + 1)]
