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
