"""The HTTP side: openeo-driver (the front of several public back-ends) over our engine.

The server answers, stores and supervises; it evaluates no process graph and runs no user code.
"""

import functools
import shutil
from collections.abc import Mapping
from typing import Any

import flask
import openeo_driver.config.load
import openeo_driver.views
from openeo_driver.backend import (
    AbstractCollectionCatalog,
    OpenEoBackendImplementation,
    Processing,
    UdfRuntimes,
    UserDefinedProcesses,
    UserDefinedProcessesListing,
    UserDefinedProcessMetadata,
)
from openeo_driver.config import OpenEoBackendConfig
from openeo_driver.errors import (
    CollectionNotFoundException,
    OpenEOApiException,
    ProcessGraphNotFoundException,
    TokenInvalidException,
)
from openeo_driver.processes import ProcessRegistry
from openeo_driver.processgraph import get_process_definition_from_url
from openeo_driver.urlsigning import UrlSigner
from openeo_driver.users import User
from openeo_driver.util.http import is_http_url

from lai_backend.accounts import Account, read_secret
from lai_backend.batch_jobs import LocalBatchJobs
from lai_backend.collections import describe_collection, find_collections
from lai_backend.errors import LaiBackendError
from lai_backend.formats import file_formats
from lai_backend.graphs import FindProcess, prepare_graph
from lai_backend.listing import process_specs, udf_runtimes
from lai_backend.settings import Settings, Task
from lai_backend.store import Job, Store
from lai_backend.supervisor import Supervisor
from lai_backend.validation import Problem, validate_graph

LINK_LIFETIME_S = 7 * 24 * 3600
MAX_REQUEST_BYTES = 8 * 1024 * 1024


class Backend(OpenEoBackendImplementation):
    """All parts of one back-end."""

    def __init__(self, settings: Settings) -> None:
        """Open the registry and put the parts together; `start` begins the work.

        Args:
            settings: what the operator decided.

        Raises:
            SettingsError: the data folder cannot be used.
        """
        data_dir = settings.data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(data_dir / "requests", ignore_errors=True)  # left by a killed server
        store = Store(data_dir / "registry.sqlite")
        self.settings = settings
        self.account = Account(
            settings.user,
            settings.password or read_secret(data_dir / "password"),
            read_secret(data_dir / "secret"),
        )
        processing = LocalProcessing(settings, store)
        self.supervisor = Supervisor(settings, store, processing.task_of_job)
        processing.supervisor = self.supervisor
        super().__init__(
            catalog=LocalCatalog(settings),
            batch_jobs=LocalBatchJobs(store, self.supervisor),
            user_defined_processes=LocalProcesses(store),
            processing=processing,
            udf_runtimes=LocalRuntimes(),
            config=_driver_config(self.account, read_secret(data_dir / "secret")),
        )

    def file_formats(self) -> dict[str, Any]:
        """Return the answer to `GET /file_formats`."""
        return file_formats()


class LocalCatalog(AbstractCollectionCatalog):
    """The collections in the folders of the operator."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get_all_metadata(self) -> list[dict[str, Any]]:
        """Describe all collections."""
        found = find_collections(self._settings.collection_dirs)
        return [describe_collection(path, self._settings.readable_roots) for path in found.values()]

    def get_collection_metadata(self, collection_id: str) -> dict[str, Any]:
        """Describe one collection."""
        found = find_collections(self._settings.collection_dirs)
        if collection_id not in found:
            raise CollectionNotFoundException(collection_id)
        return describe_collection(found[collection_id], self._settings.readable_roots)

    def load_collection(self, collection_id: str, load_params: Any, env: Any) -> Any:  # noqa: ANN401
        """Not used: workers load."""
        raise NotImplementedError


class LocalRuntimes(UdfRuntimes):
    """The Python of this environment."""

    def get_udf_runtimes(self) -> dict[str, Any]:
        """Return the answer to `GET /udf_runtimes`."""
        return udf_runtimes()


class StoredProcess(UserDefinedProcessMetadata):
    """A user-defined process that keeps fields openeo-driver does not know, as job options."""

    spec: Mapping[str, Any]

    @classmethod
    def read(cls, spec: Mapping[str, Any]) -> "StoredProcess":
        """Wrap a stored definition."""
        process: StoredProcess = cls.from_dict(dict(spec))
        process.spec = spec
        return process

    def to_api_dict(self, *, full: bool = True) -> dict[str, Any]:
        """Return the definition as it was stored."""
        short = {"id", "summary", "description", "parameters", "returns"}
        return {key: value for key, value in self.spec.items() if full or key in short}


class LocalProcesses(UserDefinedProcesses):
    """User-defined processes in the registry."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def get(self, user_id: str, process_id: str) -> UserDefinedProcessMetadata | None:
        """Return one process."""
        spec = self._store.process(user_id, process_id)
        return None if spec is None else StoredProcess.read(spec)

    def list_for_user(self, user_id: str) -> UserDefinedProcessesListing:
        """List the processes of a user."""
        return UserDefinedProcessesListing(
            udps=[StoredProcess.read(spec) for spec in self._store.processes_of(user_id)]
        )

    def save(self, user_id: str, process_id: str, spec: dict[str, Any]) -> None:
        """Store a process; predefined ones cannot be replaced."""
        if process_id in process_specs():
            raise OpenEOApiException(
                code="PredefinedProcessExists",
                status_code=400,
                message=f"{process_id!r} is a predefined process; choose another name.",
            )
        self._store.save_process(user_id, process_id, spec)

    def delete(self, user_id: str, process_id: str) -> None:
        """Forget a process."""
        if not self._store.remove_process(user_id, process_id):
            raise ProcessGraphNotFoundException(process_id)


class LocalProcessing(Processing):
    """Lists, validates and evaluates process graphs; evaluation happens in workers."""

    supervisor: Supervisor

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def get_process_registry(self, api_version: Any) -> ProcessRegistry:  # noqa: ANN401
        """Return the predefined processes."""
        return _driver_registry()

    def validate(self, process_graph: dict[str, Any], env: Any = None) -> list[Problem]:  # noqa: ANN401
        """Return what is wrong with a process graph."""
        catalog = LocalCatalog(self._settings).get_all_metadata()
        bands_of = {c["id"]: [band["name"] for band in c["summaries"]["bands"]] for c in catalog}
        return validate_graph(process_graph, self._finder(_user_of_request()), bands_of)

    def evaluate(self, process_graph: dict[str, Any], env: Any = None) -> flask.Response:  # noqa: ANN401
        """Run a synchronous request in a worker and answer with its one file."""
        try:
            task = self._make_task(
                process_graph, env["job_options"] or {}, env["user"].user_id, env["log_level"], True
            )
        except LaiBackendError as error:
            raise as_api_error(error) from error
        folder, outcome = self.supervisor.run_now(task)
        try:
            if outcome["status"] != "finished":
                error = outcome["error"]
                raise OpenEOApiException(error["message"], error["code"], error["status"])
            asset = outcome["assets"][0]
            response = flask.send_file(
                folder / "results" / asset["name"],
                mimetype=asset["type"],
                download_name=asset["name"],
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        response.call_on_close(functools.partial(shutil.rmtree, folder, ignore_errors=True))
        return response

    def task_of_job(self, job: Job) -> Task:
        """Return what the worker of a batch job is told."""
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
        defaults: dict[str, Any] = {}
        for node in graph.values():
            stored = self._store.process(user, str(node.get("process_id")))
            defaults.update((stored or {}).get("default_job_options") or {})
        return Task(
            graph=prepare_graph(graph, self._finder(user), margins=not settings.strict),
            job_options={**defaults, **options},
            collection_dirs=[folder.resolve() for folder in settings.collection_dirs],
            readable_roots=list(settings.readable_roots),
            strict=settings.strict,
            threads=settings.threads,
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


def as_api_error(error: LaiBackendError) -> OpenEOApiException:
    """Turn an error of ours into one that openeo-driver answers with its status."""
    return OpenEOApiException(str(error), error.code, error.status)


def build_app(backend: Backend) -> flask.Flask:
    """Return the WSGI application of a back-end.

    Args:
        backend: its parts.
    """
    # openeo-driver reads its configuration through a process-wide getter, from a Python file; the
    # configuration is made here instead.
    openeo_driver.config.load._backend_config_getter._config = backend.config
    app: flask.Flask = openeo_driver.views.build_app(backend_implementation=backend)
    handler = app.extensions["auth_handler"]
    handler.build_basic_access_token = backend.account.make_token
    handler.resolve_basic_access_token = functools.partial(_user_of_token, backend.account)
    app.register_error_handler(
        LaiBackendError, lambda error: (as_api_error(error).to_dict(), error.status)
    )
    return app


def _user_of_token(account: Account, access_token: str) -> User:
    user = account.user_of(access_token)
    if user is None:
        raise TokenInvalidException
    return User(user_id=user, internal_auth_data={"authentication_method": "Basic"})


def _user_of_request() -> str | None:
    """Return the user of a request to a public endpoint, None for an anonymous one."""
    if "Authorization" not in flask.request.headers:
        return None
    handler = flask.current_app.extensions["auth_handler"]
    try:
        return str(handler.get_user_from_bearer_token(flask.request).user_id)
    except OpenEOApiException:
        return None


@functools.cache
def _driver_registry() -> ProcessRegistry:
    registry = ProcessRegistry(target_version="2.0.0-rc.1")
    for spec in process_specs().values():
        registry.add_spec(spec)
    return registry


def _driver_config(account: Account, secret: str) -> OpenEoBackendConfig:
    return OpenEoBackendConfig(
        id="lai-backend",
        capabilities_title="lai-backend",
        capabilities_description="An openEO back-end for one machine.",
        capabilities_backend_version="0.1.0",
        processing_facility="local",
        processing_software="lai-backend",
        enable_basic_auth=True,
        valid_basic_auth=account.accepts,
        enable_oidc_auth=False,
        oidc_providers=[],
        url_signer=UrlSigner(secret=secret, expiration=LINK_LIFETIME_S),
        flask_settings={"MAX_CONTENT_LENGTH": MAX_REQUEST_BYTES},
    )
