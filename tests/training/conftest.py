"""Small land for the training tests: pools of patches, a run folder, field pairs, a scene."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from lai_udf.grid import Grid
from lai_udf.predict import BANDS

LEAF = np.array([0.03, 0.06, 0.03, 0.1, 0.25, 0.3, 0.32, 0.33, 0.17, 0.08], np.float32)
SOIL = np.array([0.07, 0.09, 0.12, 0.15, 0.17, 0.19, 0.2, 0.21, 0.27, 0.22], np.float32)


def _make_land(count: int, size_px: int, seed: int) -> np.ndarray:
    """Parcels of leaf and soil with some texture, (n, 10, y, x) reflectance."""
    rng = np.random.default_rng(seed)
    cover = rng.uniform(0.2, 1, (count, 1, size_px // 8, size_px // 8)).repeat(8, 2).repeat(8, 3)
    cover = cover + 0.02 * rng.standard_normal(cover.shape)
    mixed = cover * LEAF[:, None, None] + (1 - cover) * SOIL[:, None, None]
    return mixed.astype("float16")


@pytest.fixture(scope="session")
def land() -> np.ndarray:
    """Clean patches, shape (16, 10, 32, 32)."""
    return _make_land(16, 32, seed=7)


@pytest.fixture(scope="session")
def pools(tmp_path_factory: pytest.TempPathFactory, land: np.ndarray) -> Path:
    """A folder with a training and a validation pool, so that no test has to simulate."""
    folder = tmp_path_factory.mktemp("pools")
    np.save(folder / "patches-16x32-seed7.npy", land)
    np.save(folder / "patches-8x32-seed8.npy", _make_land(8, 32, seed=8))
    return folder


@pytest.fixture
def field_pairs(made_pairs: pd.DataFrame) -> pd.DataFrame:
    """Return pairs that a test may change."""
    return made_pairs.copy()


@pytest.fixture(scope="session")
def made_pairs() -> pd.DataFrame:
    """Sixty field pairs of twelve site-dates, measured LAI rising with leaf cover."""
    rng, n = np.random.default_rng(20201121), 60
    cover = rng.uniform(0.1, 1, n)
    spectra = cover[:, None] * LEAF + (1 - cover[:, None]) * SOIL
    site_date = np.arange(n) % 12
    return pd.DataFrame(dict(zip(BANDS, spectra.T.round(4), strict=True))).assign(
        source="made",
        site=[f"site {place // 3}" for place in site_date],
        date=[f"2020-06-{1 + place:02d}" for place in site_date],
        dt_days=0,
        crop="wheat",
        lai=(5 * cover + rng.normal(0, 0.3, n)).clip(0.1),
        green_brown="",
        sensor="S2A",
    )


@pytest.fixture(scope="session")
def scene() -> xr.DataArray:
    """Clear land of 48 x 48 px as `read_scene` gives it."""
    grid = Grid(CRS.from_epsg(32631), Affine(20, 0, 340_000, 0, -20, 4_830_000), 48, 48)
    values = _make_land(1, 48, seed=9)[0].astype("float32")
    attributes = {"datetime": "2020-06-08T10:56:21+00:00", "platform": "Sentinel-2A"}
    return grid.to_data_array(values, list(BANDS), attributes)
