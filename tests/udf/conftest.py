"""Fixtures of the UDF tests: the text that ships, the shipped network, and one known by hand."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fake_cubes import fake_cube, make_bundle

from lai_udf import predict
from lai_udf.bundle import default_bundle_path

# Small windows on a shared machine: one thread is enough, and quicker than two.
THREADS = "1"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", THREADS)


@pytest.fixture(scope="session")
def udf_code() -> str:
    return Path(predict.__file__).read_text()


@pytest.fixture(scope="session")
def shipped() -> str:
    return str(default_bundle_path())


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the bundle of `fake_cubes.make_bundle`: LAI = 10 x 3x3 mean of B8A."""
    return str(make_bundle(tmp_path_factory.mktemp("bundle") / "known.zip"))


@pytest.fixture
def cube(rng: np.random.Generator) -> xr.DataArray:
    """Return one date of reflectance, 64 px, (bands, y, x)."""
    return fake_cube(rng).isel(t=0, drop=True)
