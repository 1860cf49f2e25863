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


FIRST = (
    "tests/backend/",
    "tests/end_to_end/",
    "tests/notebooks/",
    "tests/training/",
    "tests/udf/",
    "tests/service/",
)
"""What takes longest: begun last, it would leave the other processes idle."""
TOGETHER = ("tests/backend/", "tests/end_to_end/")
"""Folders whose files share a server: a second process would start it again."""
APART = ("tests/backend/test_sandbox.py",)
"""Files of them that start their own."""


class FoldersThenFiles(LoadFileScheduling):  # type: ignore[misc]
    """Gives whole files to the processes, and what shares servers to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        if file in APART:
            return file
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)


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


ONE_THREAD = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Give each process one thread: there are more processes than cores, and threads would spin."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""

    def rank(item: pytest.Item) -> int:
        numbers = (n for n, folder in enumerate(FIRST) if item.nodeid.startswith(folder))
        return next(numbers, len(FIRST))

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
    folder = Path(os.environ.get("LAI_SHARED_DATA", "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}; set LAI_SHARED_DATA to run this test")
    return folder
