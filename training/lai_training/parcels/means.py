"""Parcels from vector files: the French register (RPG), or any table of polygons.

Input: GeoParquet, GeoPackage, Shapefile or GeoJSON, in any CRS (`lai_udf.polygons`). Output: a
table with columns `parcel`, `crop` and `geometry`, its polygons valid.
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
from lai_training.reporting import read_paper
from lai_training.sl2p.scene import SL2P_FILE
from lai_udf.calibration import interval_of_mean
from lai_udf.grid import Grid
from lai_udf.longitudes import split_box
from lai_udf.polygons import LEFT_OUT, read_polygons
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.results import LaiResult, find_results, open_result, require_one_scaling
from lai_udf.zonal import ZonalStatistics, observe_zones

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
    """Read parcels from a vector file (`lai_udf.polygons.read_polygons`).

    The name of a parcel is in `id_column` (None: see `lai_udf.polygons.ID_COLUMNS`), its crop code
    in `crop_column` (None: see `CROP_COLUMNS`). `inner_buffer_m` metres are kept away from the
    border, where pixels are mixed. Parcels outside the bounds of `within`, with a CRS
    (`outline_items`), are not read, as the register of a country holds ten million.

    Returns columns `parcel` (text), `crop` (text, empty where unknown), `geometry`; the file's CRS,
    or a metric one if a buffer is asked for. What has no area, or is eaten up by the buffer, is
    listed in `attrs["left_out"]`, name and reason. Raises `ParcelsError` where nothing is left,
    `PolygonFileError` where the file cannot be read.
    """
    table = read_polygons(path, id_column, within=within, leave_out_broken=True)
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


SHORT_NAMES = {"lai_sd": "sd", "lai_lower": "lower", "lai_upper": "upper"}
"""Columns whose name leaves out the variable; those of other variables keep it."""


def find_items(sources: Sequence[Path]) -> list[LaiResult]:
    """Return the LAI results below some paths, in order of time.

    Paths are item folders, item JSON files, GeoTIFFs or folders of openEO job results, or folders
    of them such as `build/demo`. Raises `LaiUdfError` where one of them holds no LAI, or a product
    was run with several scalings.
    """
    results = find_results(sources)
    require_one_scaling(results)
    return results


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

    `parcels` are as `read_parcels` returns them, `items` as `find_items` does, or folders of items;
    `exclude_flags` are bits of `LAI_FLAGS` that keep a pixel out.

    Returns:
        Columns `parcel`, `crop`, `season`, `item`, `datetime` (UTC), `lai`, `lower`, `upper`,
        `sd` and `sl2p` where there are such layers, further variables by asset key, `spread`
        (standard deviation of LAI inside the parcel), `valid_fraction`, `n_effective`,
        `area_px` (usable area in pixels of 20 m), `flags` (those of at least half of its LAI); a
        row for every parcel that meets a raster of the overpass; ordered by parcel and time.

    Raises:
        ParcelsError: no parcel meets any item.
        LaiUdfError: an item cannot be read or does not state its time.
    """
    names, rows = pd.DataFrame(parcels[["parcel", "crop"]]), []
    names["season"] = names["crop"].map(read_paper("crops").set_index("crop")["season"])
    names["season"] = names["season"].fillna("other")
    results = [open_result(item) if isinstance(item, Path) else item for item in items]
    observed = observe_zones(
        list(parcels.geometry),
        parcels.crs,
        results,
        exclude_flags=exclude_flags,
        read_more=_read_sl2p,
    )
    for observation in observed:
        pixel_m = observation.results[0].grid.pixel_m
        table = pd.concat([names, _tabulate(observation.statistics, pixel_m)], axis=1)
        table.insert(3, "item", ";".join(result.name for result in observation.results))
        table.insert(4, "datetime", pd.Timestamp(observation.datetime))
        rows.append(table.iloc[observation.met])
    observations = pd.concat(rows, ignore_index=True)
    if observations.empty:
        raise ParcelsError(f"none of {len(parcels)} parcels meets any of {len(items)} items")
    return observations.sort_values(["parcel", "datetime"], ignore_index=True)


def missing_parcels(parcels: gpd.GeoDataFrame, observations: pd.DataFrame) -> list[str]:
    """Return the parcels that meet no item."""
    met = set(observations["parcel"])
    return [name for name in parcels["parcel"] if name not in met]


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
            "flags": statistics.flags,
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


def add_interval(
    observations: pd.DataFrame,
    correlation: float | None = None,
    *,
    shared: float | None = None,
) -> pd.DataFrame:
    """Return the observations with `parcel_lower` and `parcel_upper`, m2 m-2.

    `shared` is the part of the error's variance that all pixels of a parcel have in common, as the
    bundle was measured to have on field data (`lai_udf.calibration.shared_error`; None: all of it);
    a `correlation` of one's own, see `shrink`, goes before it. Raises `ParcelsError` where the
    items hold no intervals.
    """
    if not {"lower", "upper"} <= set(observations.columns):
        raise ParcelsError("the items hold no lai_lower.tif and lai_upper.tif")
    if correlation is not None or shared is None:
        lower, upper = shrink(observations, 1.0 if correlation is None else correlation)
    else:
        columns = ("lai", "lower", "upper", "area_px")
        lai, low, high, pixels = (observations[name].to_numpy(np.float64) for name in columns)
        lower, upper = interval_of_mean(lai, low, high, pixels, shared)
    return observations.assign(parcel_lower=lower, parcel_upper=upper)


def shrink(
    observations: pd.DataFrame, correlation: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (lower, upper) of parcel means: their pixels' mean interval, shrunk.

    A parcel's mean errs by what its pixels have in common (leaf angles, soil, haze) and by what
    they have not (noise). With a `correlation` rho between the errors of any two pixels, 0-1, and
    weights that amount to n pixels: sd(mean) = sd(pixel) sqrt(rho + (1 - rho) / n).
    """
    n = np.maximum(observations["n_effective"].to_numpy(np.float64), 1.0)
    factor = np.sqrt(correlation + (1 - correlation) / n)
    lai, lower, upper = (observations[name].to_numpy() for name in ("lai", "lower", "upper"))
    return np.maximum(lai - factor * (lai - lower), 0.0), lai + factor * (upper - lai)
