"""Compute the blocks of a lazy cube in threads, and hand each to the file that takes it."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

import dask.array as da
import dask.callbacks
import numpy as np
import numpy.typing as npt

Report = Callable[[int, int], None]
"""Told the number of finished pieces of work and of all."""


class Target(Protocol):
    """Takes the blocks of an array, in any order, one at a time."""

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        """Take one block."""


class Engine:
    """Threads of this process."""

    def __init__(self, report: Report) -> None:
        """Prepare; `report` is told the progress."""
        self._report = report

    def store(self, array: da.Array, target: Target) -> None:
        """Compute an array, block by block.

        Raises:
            LaiBackendError: what reading or the UDF raised.
        """
        anything: Any = target  # typed as an array, but Dask only sets items
        with _TaskCounter(self._report):
            da.store(array, anything, lock=threading.Lock())


class _TaskCounter(dask.callbacks.Callback):
    """Reports the finished tasks of Dask's own scheduler."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self._report = report

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:  # noqa: ANN401
        done = len(state["finished"])
        self._report(done, sum(len(state[name]) for name in ("ready", "waiting", "running")) + done)
