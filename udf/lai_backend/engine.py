"""Compute the blocks of a lazy cube in threads, and hand each to the file that takes it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.callbacks

from lai_backend.files import write_json

REPORT_EVERY_S = 1.0


class Engine(dask.callbacks.Callback):
    """Threads of this process; what they have done goes into a file, at most once a second."""

    def __init__(self, progress: Path) -> None:
        super().__init__()
        self._progress, self._written = progress, 0.0

    def store(self, array: da.Array, target: Any) -> None:
        """Compute an array block by block; `target[slices] = block` is called one at a time.

        Where a block fails it waits for those at work: the file that one of them writes into is
        closed next, and a library that writes into a closed file crashes the process.
        """
        pool = ThreadPoolExecutor(dask.config.get("num_workers", None))
        try:
            with self, dask.config.set(scheduler="threads", pool=pool):
                da.store(array, target, lock=threading.Lock())
        finally:
            pool.shutdown(cancel_futures=True)

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        """Report; Dask calls it in one thread."""
        if time.monotonic() - self._written > REPORT_EVERY_S:
            self._written = time.monotonic()
            done = len(state["finished"])
            total = done + sum(len(state[name]) for name in ("ready", "waiting", "running"))
            write_json(self._progress, {"percent": round(100 * done / total, 1)})
