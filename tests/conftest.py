"""Shared fixtures: where the optional reference data lie, and a seeded generator."""

import os
import sqlite3  # noqa: F401 (before TensorFlow, whose own SQLite has no R*Tree and would be taken)
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# One commit, one answer: the same examples on every machine. To look for new ones, run with
# HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("explore", max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.hookimpl(tryfirst=True)  # before the plugin reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests that share a server or a module's fixtures in one process of `make test`."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        shared = folder in ("backend", "end_to_end")
        item.add_marker(pytest.mark.xdist_group(folder if shared else str(item.path)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20201121)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of reference data (chips, field pairs, SNAP vectors); skip where absent."""
    folder = Path(os.environ.get("LAI_SHARED_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}; set LAI_SHARED_DATA to run this test")
    return folder
