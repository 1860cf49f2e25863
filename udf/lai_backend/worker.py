"""The worker process: one job folder in, files and an outcome out.

Layout of a job folder::

    task.json       what to do (`settings.Task`)
    work/           current folder of the worker; dependency archives are unpacked here
    results/        the files of the result
    log.jsonl       one log entry a line, as `GET /jobs/{id}/logs` serves them
    progress.json   percent done
    output.txt      what user code prints
    outcome.json    written last: finished with its files, or an error with its sentence

Users' code runs here and nowhere else.
"""

import contextlib
import logging
import os
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from lai_backend.errors import LaiBackendError, MemoryLimitError, describe_error
from lai_backend.files import read_json, write_json
from lai_backend.joblog import JobLogHandler, Progress
from lai_backend.limits import memory_error_sentence
from lai_backend.settings import Task

_log = logging.getLogger("lai_backend.worker")
OPTIONS_USED = frozenset({"udf-dependency-archives", "task-cpus", "python-memory"})
GDAL_CACHE_MB = "128"
"""Enough for the tiles in work; GDAL's own choice is 5 % of all memory, for every job."""
NO_OUTCOME_EXIT = 28  # exit code where the outcome cannot be written: ENOSPC


def run_job(job_folder: str) -> None:
    """Run the task of a job folder in this process; entry point of the worker.

    Never raises: the outcome is written to `outcome.json`.
    """
    folder = Path(job_folder)
    sys.dont_write_bytecode = True  # Python keeps what a full disk cuts off (python/cpython#126606)
    _detach(folder)
    task = Task.model_validate(read_json(folder / "task.json"))
    handler = JobLogHandler(folder / "log.jsonl", task.log_level)
    os.environ["OMP_NUM_THREADS"] = str(task.threads_per_call)  # for the model of a UDF
    os.environ.setdefault("GDAL_CACHEMAX", GDAL_CACHE_MB)
    try:
        result = execute(task, folder)
        _log.info("Finished: %s", ", ".join(asset["name"] for asset in result["assets"]))
        outcome: dict[str, Any] = {"status": "finished", **result}
    except BaseException as raised:  # the outcome is the only way to report anything
        error = raised
        if isinstance(raised, MemoryError):
            error = MemoryLimitError(memory_error_sentence(raised))
            error.__cause__ = raised
        described = describe_error(error)
        if isinstance(error, LaiBackendError):
            _log.error(described["message"])
            cause = error.__cause__ or error
            _log.info("Traceback:\n%s", "".join(traceback.format_exception(cause)))
        else:
            _log.error(described["message"], exc_info=error)
        outcome = {"status": "error", "error": described}
        shutil.rmtree(folder / "results", ignore_errors=True)  # nothing half-written
    handler.close()
    try:
        write_json(folder / "outcome.json", outcome)
    except OSError:
        os._exit(NO_OUTCOME_EXIT)


def _detach(folder: Path) -> None:
    """Make this process a group of its own, in its folder, printing into a file."""
    os.setsid()
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(output, stream.fileno())
    os.close(output)


def execute(task: Task, folder: Path) -> dict[str, Any]:
    """Evaluate the process graph of a task and write its result into the job folder.

    Returns:
        `assets`: descriptions of the files in `results/`; `links`: to the items they come from.
    """
    import dask
    from rasterio.errors import NotGeoreferencedWarning  # seconds to import: worker only

    from lai_backend.access import refuse_private_addresses
    from lai_backend.archives import OPTION, unpack_archives
    from lai_backend.formats import write_value
    from lai_backend.processes import build_registry, evaluate
    from lai_backend.sandbox import Sandbox
    from lai_backend.saving import as_saved, derived_from, write_results
    from lai_backend.sources import Scene
    from lai_backend.udf_process import UdfProcess

    # rasterio's reproject warns of the array it writes into, sometimes
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    if ignored := sorted(set(task.job_options) - OPTIONS_USED):
        _log.info("Job options without effect on this back-end: %s.", ", ".join(ignored))
    if not task.private_network:
        refuse_private_addresses()
    work = Path.cwd()
    unpack_archives(task.job_options.get(OPTION), work, task.readable_roots)
    loaded: list[Scene] = []
    data = folder.parent.parent  # with the jobs of others, and the password
    sandbox = Sandbox(
        work,
        readable=tuple(root for root in task.readable_roots if root != data / "jobs"),
        hidden=data,
        threads=task.threads_per_call,
        scratch_bytes=task.scratch_bytes,
        network=task.network,
    )
    udfs = UdfProcess(sandbox, task.parallel_calls, folder / "output.txt")
    with (
        contextlib.closing(udfs),
        Progress(folder / "progress.json"),
        dask.config.set(scheduler="threads", num_workers=task.parallel_calls),
    ):
        if any("udf" in node["arguments"] for node in task.graph.values()):
            udfs.start()  # it imports while the graph is built and files are opened
        result = evaluate(task.graph, build_registry(task, udfs, loaded))
        if saved := as_saved(result):
            assets = write_results(saved, folder / "results", task.single_file)
        else:
            assets = write_value(result, folder / "results", truth=_is_truth(task.graph))
    return {"assets": assets, "links": derived_from(loaded)}


def _is_truth(graph: dict[str, Any]) -> bool:
    """Return whether a graph ends in a process that answers with true, false or null."""
    from lai_backend.formats import process_specs

    (end,) = (node["process_id"] for node in graph.values() if node.get("result"))
    schema = process_specs().get(end, {}).get("returns", {}).get("schema", {})
    return isinstance(schema, dict) and schema.get("type") in ("boolean", ["boolean", "null"])
