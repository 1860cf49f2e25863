"""Process graphs: listed, validated, and sent to workers.

The server resolves a graph (user-defined processes are in its registry) and hands it to a worker;
it evaluates nothing itself.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask
from openeo_driver.backend import Processing
from openeo_driver.errors import OpenEOApiException
from openeo_driver.processes import ProcessRegistry
from openeo_driver.processgraph import get_process_definition_from_url
from openeo_driver.util.http import is_http_url

from lai_backend.collections import describe_collection, find_collections
from lai_backend.errors import LaiBackendError, ParameterError
from lai_backend.files import Json
from lai_backend.formats import process_specs
from lai_backend.graphs import FindProcess, prepare_graph
from lai_backend.limits import OPTION as MEMORY_OPTION
from lai_backend.limits import default_memory, parse_memory
from lai_backend.margins import add_margins, snap_to_resampling
from lai_backend.settings import BackendSettings, Task, WorkerSettings
from lai_backend.store import Job, Store
from lai_backend.supervisor import Supervisor
from lai_backend.validation import Problem, validate_graph


class LocalProcessing(Processing):
    """Lists, validates and evaluates process graphs; evaluation happens in workers."""

    supervisor: Supervisor

    def __init__(self, settings: BackendSettings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def get_process_registry(self, api_version: Any) -> ProcessRegistry:
        """Return the predefined processes."""
        registry = ProcessRegistry(target_version="2.0.0-rc.1")
        for spec in process_specs().values():
            registry.add_spec(spec)
        return registry

    def validate(self, process_graph: dict[str, Any], env: Any = None) -> list[Problem]:
        """Return what is wrong with a process graph."""
        roots = self._settings.readable_roots
        found = find_collections(self._settings.collection_dirs)
        described = {name: describe_collection(path, roots) for name, path in found.items()}
        bands_of = {
            name: [band["name"] for band in collection["summaries"]["bands"]]
            for name, collection in described.items()
        }
        return validate_graph(process_graph, self._finder(_user_of_request()), bands_of, roots)

    def evaluate(self, process_graph: dict[str, Any], env: Any = None) -> flask.Response:
        """Run a synchronous request in a worker and answer with its one file."""
        try:
            task = self._make_task(
                process_graph, env["job_options"] or {}, env["user"].user_id, env["log_level"], True
            )
            gone = flask.request.environ.get("waitress.client_disconnected", lambda: False)
            folder, outcome = self.supervisor.run_now(task, gone)
        except LaiBackendError as error:
            raise as_api_error(error) from error
        try:
            if outcome["status"] != "finished":
                failure = outcome["error"]
                raise OpenEOApiException(failure["message"], failure["code"], failure["status"])
            return _send(folder / "results", outcome["assets"][0])
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def task_of_job(self, job: Job) -> Task:
        """Return the task of the worker of a batch job."""
        level = job.details.get("log_level", "info")
        return self._make_task(
            job.process["process_graph"], job.options, job.user, level, single_file=False
        )

    def _make_task(
        self,
        graph: dict[str, Any],
        options: dict[str, Any],
        user: str,
        log_level: str,
        single_file: bool,
    ) -> Task:
        settings = self._settings
        if not isinstance(options, Mapping):
            raise ParameterError(f"job_options must be an object, not {options!r}.")
        merged: dict[str, Any] = {}
        for node in graph.values():
            stored = self._store.process(user, str(node.get("process_id")))
            merged |= (stored or {}).get("default_job_options") or {}
        merged |= options
        most = settings.memory_bytes or default_memory()
        return Task(
            **settings.model_dump(include=set(WorkerSettings.model_fields)),
            graph=add_margins(snap_to_resampling(prepare_graph(graph, self._finder(user)))),
            job_options=merged,
            readable_roots=settings.readable_roots,
            threads_per_call=_read_cpus(merged.get("task-cpus")),
            seconds=settings.request_seconds if single_file else settings.job_seconds,
            memory_bytes=min(most, parse_memory(merged.get(MEMORY_OPTION)) or most),
            log_level=log_level,
            single_file=single_file,
        )

    def _finder(self, user: str | None) -> FindProcess:
        def find(process_id: str, namespace: str | None) -> Mapping[str, Any] | None:
            if user is not None and namespace is not None and is_http_url(namespace):
                remote = get_process_definition_from_url(process_id, namespace)
                return {"process_graph": remote.process_graph, "parameters": remote.parameters}
            if namespace in {"backend", "predefined"} or user is None:
                return None
            if namespace is None and process_id in process_specs():
                return None
            return self._store.process(user, process_id)

        return find


def _send(folder: Path, asset: Mapping[str, Any]) -> flask.Response:
    """Return a response that holds a file open, so that its folder may go before it is sent."""
    file = (folder / asset["name"]).open("rb")
    response = flask.send_file(file, mimetype=asset["type"], download_name=asset["name"])
    response.content_length = os.fstat(file.fileno()).st_size
    return response


def _read_cpus(value: Json) -> int:
    """Read the job option `task-cpus`: CPUs of one call of the UDF."""
    try:
        cpus = int(1 if value is None else value)
    except (TypeError, ValueError):
        cpus = 0
    if cpus < 1:
        raise ParameterError(f"task-cpus must be a whole number above 0, not {value!r}.")
    return cpus


def as_api_error(error: LaiBackendError) -> OpenEOApiException:
    """Turn an error of ours into one that openeo-driver answers with its status."""
    return OpenEOApiException(str(error), error.code, error.status)


def _user_of_request() -> str | None:
    """Return the user of a request to a public endpoint, None for an anonymous one."""
    if "Authorization" not in flask.request.headers:
        return None
    handler = flask.current_app.extensions["auth_handler"]
    try:
        return str(handler.get_user_from_bearer_token(flask.request).user_id)
    except OpenEOApiException:
        return None
