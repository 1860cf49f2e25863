"""Where the blocks of a job are computed: threads of its process, or a Dask cluster.

`Engine.store` computes a lazy cube block by block and hands every block to a target in the job's
own process, which alone writes files. So the result is the same wherever the blocks come from:
threads, worker processes that the job starts, or the cluster behind `DASK_SCHEDULER_ADDRESS`,
whose workers need this package but no disk in common (unless collections are local files).
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import dask
import dask.array as da
import dask.callbacks
import numpy as np
import numpy.typing as npt
from dask.array.core import slices_from_chunks

from lai_backend.errors import ClusterError, LaiBackendError
from lai_backend.places import Place, pack_place
from lai_backend.settings import Task

_log = logging.getLogger(__name__)
Report = Callable[[int, int], None]
"""Told the number of finished pieces of work and of all."""
CONNECT_TIMEOUT_S = 20
WORKERS_TIMEOUT_S = 60


class Target(Protocol):
    """Takes the blocks of an array, in any order, one at a time."""

    def __setitem__(self, key: tuple[slice, ...], block: npt.NDArray[np.float32]) -> None:
        """Take one block."""


class Engine(Protocol):
    """Computes lazy cubes."""

    @property
    def place(self) -> Place | None:
        """Folder that UDFs run in on a cluster; None: the current one."""

    def store(self, array: da.Array, target: Target) -> None:
        """Compute an array, block by block.

        Raises:
            LaiBackendError: what reading or the UDF raised, or the cluster failed.
        """


@contextmanager
def open_engine(task: Task, work: Path, report: Report) -> Iterator[Engine]:
    """Yield the engine of a job; lazy cubes computed elsewhere go to the same workers.

    Args:
        task: says which engine, and how many threads.
        work: the job's folder for UDFs, already filled.
        report: told the progress.

    Raises:
        ClusterError: the cluster cannot be reached or has no worker.
    """
    if task.scheduler is None and task.workers == 1:
        with dask.config.set(scheduler="threads", num_workers=task.parallel_calls):
            yield ThreadEngine(report)
        return
    place = pack_place(work, task.threads_per_call)
    with _naming_failures(task), _open_client(task, work.with_name("scratch")) as client:
        yield ClusterEngine(client, place, report)


class ThreadEngine:
    """Threads of this process."""

    place = None

    def __init__(self, report: Report) -> None:
        self._report = report

    def store(self, array: da.Array, target: Target) -> None:
        """Compute an array, block by block."""
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


class ClusterEngine:
    """Worker processes of a Dask cluster."""

    def __init__(self, client: Any, place: Place, report: Report) -> None:  # noqa: ANN401
        self._client = client
        self._report = report
        self.place = place

    def store(self, array: da.Array, target: Target) -> None:
        """Compute an array, block by block."""
        from distributed import as_completed

        futures = self._client.compute(array.to_delayed().ravel().tolist())
        keys = [future.key for future in futures]
        slices = dict(zip(keys, slices_from_chunks(array.chunks), strict=True))
        arriving = as_completed(futures, with_results=True)
        del futures  # a worker may drop a block as soon as it has been written
        for count, (future, block) in enumerate(arriving, 1):
            if isinstance(block, BaseException):  # so a lost block arrives
                raise block
            target[slices[future.key]] = block
            self._report(count, len(keys))


@contextmanager
def _open_client(task: Task, scratch: Path) -> Iterator[Any]:
    """Connect to the cluster of the operator, or start one of this job."""
    from distributed import Client, LocalCluster

    if task.scheduler is not None:
        with Client(task.scheduler, timeout=CONNECT_TIMEOUT_S) as client:
            client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
            _log.info("Computing on the Dask cluster %s.", task.scheduler)
            yield client
        return
    with (
        LocalCluster(
            n_workers=task.workers,
            threads_per_worker=task.parallel_calls,
            memory_limit=(task.memory_bytes or 0) // task.workers,
            dashboard_address="127.0.0.1:0",
            local_directory=scratch,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _naming_failures(task: Task) -> Iterator[None]:
    """Turn the errors of the cluster itself into sentences."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    name = f"The Dask cluster {task.scheduler}" if task.scheduler else "The Dask cluster of the job"
    try:
        yield
    except LaiBackendError:
        raise
    except KilledWorker as error:
        raise ClusterError(
            f"{name} lost {error.allowed_failures + 1} worker processes in a row while they "
            "computed the same block, most often because memory ran out: give the workers more "
            "memory, fewer threads, or the UDF smaller windows."
        ) from error
    except (CancelledError, asyncio.CancelledError, CommClosedError) as error:
        raise ClusterError(f"{name} went away during the job: {error}") from error
    except (OSError, TimeoutError) as error:
        if isinstance(error, TimeoutError) or "connect" in str(error).lower():
            raise ClusterError(
                f"{name} cannot be used: {error} Start its scheduler and workers, or unset "
                "DASK_SCHEDULER_ADDRESS."
            ) from error
        raise
