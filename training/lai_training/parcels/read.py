"""Parcels from vector files: the French register (RPG), or any table of polygons.

Input: GeoParquet, GeoPackage, Shapefile or GeoJSON, in any CRS (`lai_udf.polygons`). Output: a
table with columns `parcel`, `crop` and `geometry`, its polygons valid.
"""

from pathlib import Path

import geopandas as gpd
import shapely

from lai_training.errors import ParcelsError
from lai_udf.errors import PolygonFileError
from lai_udf.polygons import LEFT_OUT, read_polygons

CROP_COLUMNS = ("code_cultu", "crop", "crop_code")
"""Columns that name a crop, the first that is there, in any case; the register has the first."""


def read_parcels(
    path: Path,
    *,
    id_column: str | None = None,
    crop_column: str | None = None,
    inner_buffer_m: float = 0.0,
    within: gpd.GeoSeries | None = None,
) -> gpd.GeoDataFrame:
    """Read parcels from a vector file.

    Args:
        path: see `lai_udf.polygons.read_polygons`.
        id_column: name of the parcel, unique; None: see `lai_udf.polygons.ID_COLUMNS`.
        crop_column: crop code; None: see `CROP_COLUMNS`.
        inner_buffer_m: metres to keep away from the border, where pixels are mixed.
        within: with a CRS; parcels outside its bounds are not read (`means.outline_items`), as
            the register of a country holds ten million.

    Returns:
        Columns `parcel` (text), `crop` (text, empty where unknown), `geometry`; the file's CRS, or
        a metric one if a buffer is asked for. What has no area, or is eaten up by the buffer, is
        left out and listed in `attrs["left_out"]`, name and reason.

    Raises:
        ParcelsError: it cannot be read, lacks a column or CRS, names a parcel twice, or has none
            within the bounds, or none with an area.
    """
    try:
        table = read_polygons(path, id_column, within=within, leave_out_broken=True)
    except PolygonFileError as error:
        raise ParcelsError(error.word()) from error
    left_out = list(table.attrs[LEFT_OUT])
    columns = {str(name).lower(): name for name in table.columns}
    wanted = [crop_column.lower()] if crop_column else CROP_COLUMNS
    crop = next((columns[name] for name in wanted if name in columns), None)
    crops = table[crop].fillna("").astype(str) if crop else ""
    parcels = table[["id", "geometry"]].rename(columns={"id": "parcel"})
    parcels.insert(1, "crop", crops)
    if inner_buffer_m > 0:
        metric = parcels.to_crs(parcels.estimate_utm_crs())
        parcels = metric.set_geometry(metric.buffer(-inner_buffer_m))
        gone = shapely.is_empty(parcels.geometry.to_numpy())
        left_out += [(name, "the buffer leaves nothing") for name in parcels["parcel"][gone]]
        parcels = parcels[~gone].reset_index(drop=True)
    if parcels.empty:
        raise ParcelsError(f"{path}: the buffer leaves nothing of any parcel")
    parcels.attrs[LEFT_OUT] = left_out
    return parcels
