"""Seeded series of fields in time, with clouds that the scene classification missed."""

from pathlib import Path

import numpy as np
import xarray as xr

from lai_udf.bundle import open_bundle
from lai_udf.cog import write_lai_cogs

START = np.datetime64("2024-01-03")
BANDS = ("LAI", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS", "B02", "B04", "B8A", "B11", "SCL")


def crop_lai(day: np.ndarray) -> np.ndarray:
    """LAI of a summer crop by day of the year: 0.4, 4.6 in July, 0.4 again."""
    rise, fall = 1 / (1 + np.exp(-(day - 140) / 10)), 1 / (1 + np.exp((day - 235) / 9))
    return 0.4 + 4.2 * rise * fall


def mown_lai(day: np.ndarray, cuts: tuple[float, ...] = (140.0, 190.0)) -> np.ndarray:
    """LAI of a meadow: 3.5, and 0.7 after each cut, back in about 30 days."""
    since = np.min([np.where(day >= cut, day - cut, np.inf) for cut in cuts], axis=0)
    return np.where(np.isfinite(since), 0.7 + 2.8 / (1 + np.exp(-(since - 18) / 5)), 3.5)


def spectrum(lai: np.ndarray) -> dict[str, np.ndarray]:
    """Reflectance of a canopy over bright soil: soil fades as exp(-LAI / 2)."""
    gap = np.exp(-0.5 * lai)
    ends = {"B02": (0.09, 0.02), "B04": (0.15, 0.02), "B8A": (0.24, 0.48), "B11": (0.32, 0.18)}
    return {band: gap * soil + (1 - gap) * leaf for band, (soil, leaf) in ends.items()}


def fake_series(
    rng: np.random.Generator,
    lai_of_day: object = crop_lai,
    *,
    size: tuple[int, int] = (3, 4),
    dates: int = 60,
    haze: tuple[int, ...] = (),
) -> xr.DataArray:
    """A cube (t, bands, y, x), one date every five days; LAI of hazy dates is off by 1.2."""
    days = 5.0 * np.arange(dates) + 3
    lai = np.broadcast_to(lai_of_day(days)[:, None, None], (dates, *size)).copy()  # type: ignore[operator]
    bands = {band: v + rng.normal(0, 0.002, lai.shape) for band, v in spectrum(lai).items()}
    lai = np.maximum(np.exp(np.log(lai + 1.2) + rng.normal(0, 0.03, lai.shape)) - 1.2, 0)
    for date in haze:
        lai[date] = np.abs(lai[date] + (1.2 if date % 2 else -1.2))
        for band, cloud in (("B02", 0.09), ("B04", 0.08), ("B8A", 0.02), ("B11", 0.02)):
            bands[band][date] += cloud
    bands |= {
        "LAI": lai,
        "LAI_LOWER": np.maximum(lai - 1.3, 0),
        "LAI_UPPER": lai + 1.5,
        "LAI_FLAGS": np.zeros_like(lai),
        "SCL": np.full_like(lai, 4),
    }
    return xr.DataArray(
        np.stack([bands[band] for band in BANDS], axis=1).astype("float32"),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": (START + (days - 3).astype("timedelta64[D]")).astype("datetime64[ns]"),
            "bands": list(BANDS),
            "y": 5e6 - 20.0 * np.arange(size[0]),
            "x": 5e5 + 20.0 * np.arange(size[1]),
        },
    )


def write_dates(cube: xr.DataArray, directory: Path) -> list[Path]:
    """Write the dates of a cube with CRS as `lai-udf run` does; return their folders."""
    bundle, folders = open_bundle(), []
    for date in cube.sel(bands=["LAI", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS"]):
        time = np.datetime_as_string(date["t"].values, unit="s")
        name = f"lai_s2_field_{str(time)[:10]}"
        tags = {"DATETIME": f"{time}Z", "TARGET": "sl2p", "RESULT_ID": name}
        tags |= {"MODEL_ID": bundle.model_id, "MODEL_VERSION": bundle.version}
        tags |= {"MODEL_CHECKSUM": bundle.checksum, "SAMPLES": "0"}
        lai = date.drop_vars("t").rio.write_crs(cube.rio.crs)
        write_lai_cogs(lai, directory / name, tags=tags)
        folders.append(directory / name)
    return folders
