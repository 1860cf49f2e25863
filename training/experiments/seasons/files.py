"""A simulated season as files: what a user of `lai-train parcels` has, and the truth.

Seasons go through what real data go through: scene, network, COGs, parcel file, `observe_items`.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr

from experiments.seasons.fields import (
    CLOUDY_SHARE,
    SimulatedDate,
    draw_field_year,
    label_parcels,
    mean_truth,
    outline_parcels,
    simulate_season,
)
from lai_training import sl2p
from lai_training.parcels.means import find_items, observe_items, read_parcels
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_training.sl2p.scene import SL2P_FILE
from lai_udf.cog import write_lai_cogs
from lai_udf.grid import Grid
from lai_udf.identity import RunOptions
from lai_udf.results import read_lai_cogs
from lai_udf.run import predict_scene
from lai_udf.zonal import describe_pixels, take_pixels
from lai_udf.zones import weigh_zones

Progress = Callable[[int, int], None]
PARCELS_FILE = "parcels.gpkg"
TRUTH_FILE = "truth.csv"


def write_season(
    folder: Path,
    library: SpectralLibrary,
    *,
    size_px: int,
    dates: Sequence[datetime],
    seed: int,
    options: RunOptions | None = None,
    cloudy_share: float = CLOUDY_SHARE,
    progress: Progress | None = None,
) -> float:
    """Simulate a season and leave what a user of `lai-train parcels` has, and the truth.

    Args:
        folder: gets `parcels.gpkg`, `truth.csv` and an item folder per date.
        library: the spectra.
        size_px: side of the landscape, pixels of 20 m.
        dates: times of acquisition with zone.
        seed: same seed and arguments, same season.
        options: model and target; the default network and SL2P's LAI where none is given.
        cloudy_share: share of the dates with clouds, 0-1.
        progress: called after each date.

    Returns:
        Correlation of the errors of two pixels of a parcel on one date.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    year = draw_field_year(size_px, library, rng)
    truths, spreads, parcels = [], [], None
    simulated = simulate_season(year, dates, library, rng, seed=seed, cloudy_share=cloudy_share)
    for done, date in enumerate(simulated, start=1):
        if parcels is None:
            grid = Grid.of_data_array(date.scene, "the simulated scene")
            parcels = outline_parcels(year, grid)
            label_parcels(parcels).to_file(folder / PARCELS_FILE, driver="GPKG")
        item = folder / f"{date.scene.attrs['datetime'][:10]}"
        cube = predict_scene(date.scene, options)
        write_lai_cogs(cube, item, tags={"DATETIME": date.scene.attrs["datetime"]})
        lai = sl2p.predict_image(date.scene)[0]
        grid.to_data_array(lai[None], ["LAI"]).rio.to_raster(item / SL2P_FILE)
        truths.append(mean_truth(parcels, date))
        spreads.append(_spread_errors(parcels, date, read_lai_cogs(item)))
        if progress is not None:
            progress(done, len(dates))
    pd.concat(truths).to_csv(folder / TRUTH_FILE, index=False)
    return _correlation(pd.concat(spreads))


def read_season(folder: Path) -> pd.DataFrame:
    """Observe a simulated season as a user would, and put the truth beside it."""
    parcels = read_parcels(folder / PARCELS_FILE)
    observations = observe_items(parcels, find_items([folder]))
    truth = pd.read_csv(folder / TRUTH_FILE, dtype={"parcel": str}, parse_dates=["datetime"])
    return observations.merge(truth, on=["parcel", "datetime"], how="left", validate="1:1")


def _spread_errors(
    parcels: gpd.GeoDataFrame, date: SimulatedDate, cube: xr.DataArray
) -> pd.DataFrame:
    """Return mean error, mean squared error and pixels of each parcel on a date."""
    error = cube.sel(bands="LAI").values - date.true_lai
    zones = weigh_zones(list(parcels.geometry), parcels.crs, Grid.of_data_array(cube, "LAI"))
    found = describe_pixels(take_pixels(zones, {"lai": error, "squared": error**2}))
    table = {"error": found.mean["lai"], "squared": found.mean["squared"]}
    return pd.DataFrame({**table, "n_effective": found.n_effective}).dropna()


def _correlation(spreads: pd.DataFrame) -> float:
    """Return rho from errors of pixels and of parcel means, both about the overall bias."""
    bias = spreads["error"].mean()
    pixel = float(np.sqrt((spreads["squared"] - 2 * bias * spreads["error"] + bias**2).mean()))
    mean = float(np.sqrt(((spreads["error"] - bias) ** 2).mean()))
    return measure_correlation(pixel, mean, float(1 / (1 / spreads["n_effective"]).mean()))


def measure_correlation(pixel_error_sd: float, mean_error_sd: float, n: float) -> float:
    """Return rho from the spread of errors of pixels and of means over n of them, 0-1."""
    ratio = (mean_error_sd / pixel_error_sd) ** 2
    return float(np.clip((ratio - 1 / n) / (1 - 1 / n), 0.0, 1.0))
