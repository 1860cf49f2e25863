"""Shared fixtures: where the optional reference data lie, and a seeded generator."""

import gc
import os
import sqlite3  # noqa: F401 (before TensorFlow, whose own SQLite has no R*Tree and would be taken)
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

# One commit, one answer: the same examples on every machine. To look for new ones, run with
# HYPOTHESIS_PROFILE=explore. A busy machine is no fault: no deadline.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=500, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


FIRST = ("tests/end_to_end/", "tests/notebooks/", "tests/training/", "tests/backend/")
"""What takes longest: begun last, it would leave the other processes idle."""


class FoldersThenFiles(LoadFileScheduling):  # type: ignore[misc]
    """Gives whole files to the processes; those of `end_to_end` share servers and go to one."""

    def _split_scope(self, nodeid: str) -> str:
        return FIRST[0] if nodeid.startswith(FIRST[0]) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FoldersThenFiles | None:
    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # by number of tests; keep the order of the items
    return FoldersThenFiles(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than cores: a third of the time is waiting for servers."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        found = [number for number, folder in enumerate(FIRST) if item.nodeid.startswith(folder)]
        return found[0] if found else len(FIRST)

    items.sort(key=rank)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Take what the imports made out of garbage collection, which took a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


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
