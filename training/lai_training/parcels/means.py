"""LAI per parcel and date: area-weighted means over polygons (paper, section 5.2.2).

Input: parcels (`lai_training.parcels.read`) and LAI results, each of a date. Output: a table
with a row per parcel and overpass. Which pixels count, and what a mean needs, says
`lai_udf.zonal`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from shapely.geometry import box

from lai_training.errors import ParcelsError
from lai_training.parcels.crops import season_of
from lai_training.sl2p.scene import SL2P_FILE
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.longitudes import split_box
from lai_udf.observe import observe_zones
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.results import LaiResult, find_results, open_result
from lai_udf.zonal import ZonalStatistics

SHORT_NAMES = {"lai_sd": "sd", "lai_lower": "lower", "lai_upper": "upper"}
"""Columns whose name leaves out the variable; those of other variables keep it."""


def find_items(sources: Sequence[Path]) -> list[LaiResult]:
    """Return the LAI results below some paths, in order of time.

    Args:
        sources: item folders, item JSON files, GeoTIFFs or folders of openEO job results, or
            folders of them such as `build/demo`.

    Raises:
        ParcelsError: one of them holds no LAI.
    """
    try:
        return find_results(sources)
    except LaiUdfError as error:
        raise ParcelsError(str(error)) from error


def outline_items(results: Sequence[LaiResult]) -> gpd.GeoSeries:
    """Return the bounds of results as polygons in degrees, none of them across ±180°."""
    outlines = set()
    for result in results:
        bounds = transform_bounds(result.grid.crs, "EPSG:4326", *result.grid.bounds)
        outlines.update(split_box(bounds))
    boxes = shapely.segmentize([box(*bounds) for bounds in sorted(outlines)], 0.02)
    return gpd.GeoSeries(boxes, crs="EPSG:4326")  # many corners: parallels bend in other CRS


def observe_items(
    parcels: gpd.GeoDataFrame,
    items: Sequence[Path | LaiResult],
    *,
    exclude_flags: int = UNUSABLE_FLAGS,
) -> pd.DataFrame:
    """Average LAI results over parcels.

    Args:
        parcels: as `read_parcels` returns them.
        items: see `find_items`; folders of items too.
        exclude_flags: bits of `LAI_FLAGS` that keep a pixel out.

    Returns:
        Columns `parcel`, `crop`, `season`, `item`, `datetime` (UTC), `lai`, `lower`, `upper`,
        `sd` and `sl2p` where there are such layers, further variables by asset key, `spread`
        (standard deviation of LAI inside the parcel), `valid_fraction`, `n_effective`,
        `area_px` (usable area in pixels of 20 m); a row for
        every parcel that meets a raster of the overpass; ordered by parcel and time.

    Raises:
        ParcelsError: an item cannot be read or does not state its time, or no parcel meets any.
    """
    names, rows = name_parcels(parcels), []
    try:
        results = [open_result(item) if isinstance(item, Path) else item for item in items]
        observed = observe_zones(
            list(parcels.geometry),
            parcels.crs,
            results,
            exclude_flags=exclude_flags,
            read_more=_read_sl2p,
        )
        for observation in observed:
            pixel_m = abs(observation.results[0].grid.transform.a)
            table = pd.concat([names, _tabulate(observation.statistics, pixel_m)], axis=1)
            table.insert(3, "item", ";".join(result.name for result in observation.results))
            table.insert(4, "datetime", pd.Timestamp(observation.datetime))
            rows.append(table.iloc[observation.met])
    except LaiUdfError as error:
        raise ParcelsError(str(error)) from error
    observations = pd.concat(rows, ignore_index=True)
    if observations.empty:
        raise ParcelsError(f"none of {len(parcels)} parcels meets any of {len(items)} items")
    return observations.sort_values(["parcel", "datetime"], ignore_index=True)


def missing_parcels(parcels: gpd.GeoDataFrame, observations: pd.DataFrame) -> list[str]:
    """Return the parcels that meet no item."""
    met = set(observations["parcel"])
    return [name for name in parcels["parcel"] if name not in met]


def name_parcels(parcels: gpd.GeoDataFrame) -> pd.DataFrame:
    """Return columns `parcel`, `crop`, `season` of a table of parcels."""
    names = pd.DataFrame({"parcel": parcels["parcel"], "crop": parcels["crop"]})
    return names.assign(season=names["crop"].map(season_of))


def _tabulate(statistics: ZonalStatistics, pixel_m: float) -> pd.DataFrame:
    """Return a row per parcel; `area_px` counts pixels of 20 m, whatever those of the rasters."""
    columns = {SHORT_NAMES.get(name, name): mean for name, mean in statistics.mean.items()}
    return pd.DataFrame(
        {
            **columns,
            "spread": statistics.standard_deviation["lai"],
            "valid_fraction": statistics.valid_share,
            "n_effective": statistics.n_effective,
            "area_px": statistics.pixels * (pixel_m / 20) ** 2,
        }
    )


def _read_sl2p(result: LaiResult, window: Window) -> dict[str, NDArray[Any]]:
    """Read the band LAI of `lai-train sl2p` beside a result; nothing where there is no such file.

    Raises:
        GridError: it lies on another grid.
    """
    path = result.path / SL2P_FILE
    if not path.is_file():
        return {}
    with rasterio.open(path) as dataset:
        result.grid.require_same(Grid.of_dataset(dataset), str(path))
        names = list(dataset.descriptions)
        index = names.index("LAI") + 1 if "LAI" in names else 1
        return {"sl2p": dataset.read(index, window=window).astype(np.float64)}
