"""What the back-end lists, it can do."""

import pytest

from lai_backend.settings import Task

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def test_every_process_listed_is_implemented():
    from lai_backend.listing import process_specs
    from lai_backend.processes import build_registry

    registry = build_registry(Task(graph={}))
    assert [name for name in process_specs() if not _is_known(registry, name)] == []


def _is_known(registry, name: str) -> bool:
    try:
        return registry[name].implementation is not None
    except KeyError:
        return False
