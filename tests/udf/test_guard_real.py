"""The guard on real dates and scenes: false alarms and catches, offset unknown."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from lai_udf.guard import CLEAR_SCENE_CLASSES, find_wrong_scaling
from lai_udf.predict import BANDS

pytestmark = pytest.mark.shared
OFFSET = np.float32(0.1)  # what a forgotten offset of baseline 04.00 adds


@pytest.fixture(scope="module")
def series(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance (t, 10, y, x) and scene classes (t, y, x) of 118 real dates."""
    (path,) = (shared_data / "timeseries").glob("0000280663*.nc")
    with xr.open_dataset(path) as cube:
        reflectance = np.stack([cube[band].values for band in BANDS], axis=1)
        return reflectance.astype("float32"), cube["SCL"].values


@pytest.fixture(scope="module")
def chips(shared_data: Path) -> list[np.ndarray]:
    """Reflectance (10, y, x) of 78 real chips, NaN = no data."""
    found = []
    for path in sorted((shared_data / "chips").glob("*.tif")):
        with rasterio.open(path) as dataset:
            order = [dataset.descriptions.index(band) for band in BANDS]
            stored = dataset.read([number + 1 for number in order], masked=True)
            scale = np.array(dataset.scales)[order, None, None]
            offset = np.array(dataset.offsets)[order, None, None]
        found.append((stored * scale + offset).filled(np.nan).astype("float32"))
    return found


def is_green(reflectance: np.ndarray, seen: np.ndarray) -> bool:
    """Return whether a tenth of the valid pixels has an NDVI above 0.4."""
    red, near_infrared = (reflectance[BANDS.index(band)] for band in ("B04", "B08"))
    valid = seen & np.isfinite(reflectance).all(axis=0)
    green = near_infrared - red > 0.4 * (near_infrared + red)
    return bool(valid.sum() >= 64 and green[valid].mean() >= 0.1)


def test_single_dates_with_scene_classes(series: tuple[np.ndarray, np.ndarray]) -> None:
    dates = list(zip(*series, strict=True))
    false = sum(find_wrong_scaling(date, scl) is not None for date, scl in dates)
    green = [(d, scl) for d, scl in dates if is_green(d, np.isin(scl, CLEAR_SCENE_CLASSES))]
    caught = sum(find_wrong_scaling(date + OFFSET, scl) is not None for date, scl in green)
    print(f"with SCL: {false} false of {len(dates)}, {caught} caught of {len(green)}")
    assert false <= 0.02 * len(dates)
    assert caught >= 0.9 * len(green)


def test_single_dates_without_scene_classes(series: tuple[np.ndarray, np.ndarray]) -> None:
    dates = list(series[0])
    false = sum(find_wrong_scaling(date) is not None for date in dates)
    green = [date for date in dates if is_green(date, np.ones(date.shape[1:], dtype=bool))]
    caught = sum(find_wrong_scaling(date + OFFSET) is not None for date in green)
    print(f"without SCL: {false} false of {len(dates)}, {caught} caught of {len(green)}")
    assert false <= 0.04 * len(dates)
    assert caught >= 0.8 * len(green)


def test_a_whole_series_judged_together(series: tuple[np.ndarray, np.ndarray]) -> None:
    reflectance, scene_class = np.moveaxis(series[0], 1, 0), series[1]
    assert find_wrong_scaling(reflectance, scene_class) is None
    assert find_wrong_scaling(reflectance) is None
    wrong = find_wrong_scaling(reflectance + OFFSET, scene_class)
    assert wrong is not None
    assert wrong.parameter == "reflectance_offset"


def test_single_chips(chips: list[np.ndarray]) -> None:
    false = sum(find_wrong_scaling(chip) is not None for chip in chips)
    green = [chip for chip in chips if is_green(chip, np.ones(chip.shape[1:], dtype=bool))]
    caught = sum(find_wrong_scaling(chip + OFFSET) is not None for chip in green)
    print(f"chips: {false} false of {len(chips)}, {caught} caught of {len(green)}")
    assert false == 0
    assert caught >= 0.8 * len(green)
