"""The HTTP side: openeo-driver (the front of several public back-ends) over our engine.

The server answers, stores and supervises; it evaluates no process graph and runs no user code.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import openeo_driver.config.load
import openeo_driver.processgraph
import openeo_driver.views
from openeo_driver import backend as driver
from openeo_driver import errors
from openeo_driver.config import OpenEoBackendConfig
from openeo_driver.urlsigning import UrlSigner
from openeo_driver.users import User
from shapely import union_all
from shapely.geometry import Polygon, box, mapping

from lai_backend.access import get, refuse_private_addresses
from lai_backend.accounts import Account, read_secret
from lai_backend.batch_jobs import LocalBatchJobs, replace_job_views
from lai_backend.collections import describe_collection, find_collections, read_scenes
from lai_backend.errors import GraphError, LaiBackendError, ParameterError, SettingsError
from lai_backend.extents import (
    parse_spatial_extent,
    parse_stac_interval,
    stac_boxes,
    wrapped_boxes,
)
from lai_backend.formats import file_formats, process_specs
from lai_backend.graphs import check_definition
from lai_backend.processing import LocalProcessing, as_api_error
from lai_backend.settings import BackendSettings
from lai_backend.store import Store
from lai_backend.supervisor import Supervisor

LINK_LIFETIME_S = 7 * 24 * 3600
MAX_REQUEST_BYTES = 8 * 1024 * 1024


class Backend(driver.OpenEoBackendImplementation):
    """All parts of one back-end."""

    def __init__(self, settings: BackendSettings) -> None:
        """Open the registry and put the parts together; `supervisor.start` begins the work."""
        if not settings.private_network:
            refuse_private_addresses()
        folder = settings.data_dir
        _make_writable(folder)
        store = Store(folder / "registry.sqlite")
        secret = read_secret(folder / "secret")
        password = settings.password or read_secret(folder / "password")
        self.account = Account(settings.user, password, secret)
        processing = LocalProcessing(settings, store)
        self.supervisor = Supervisor(settings, store, processing.task_of_job)
        processing.supervisor = self.supervisor
        self.jobs = LocalBatchJobs(store, self.supervisor)
        super().__init__(
            catalog=LocalCatalog(settings),
            batch_jobs=self.jobs,
            user_defined_processes=StoredProcesses(store),
            processing=processing,
            udf_runtimes=LocalRuntimes(),
            config=OpenEoBackendConfig(
                id="lai-backend",
                capabilities_title="lai-backend",
                capabilities_description="An openEO back-end for one machine.",
                capabilities_backend_version="0.1.0",
                processing_facility="local",
                processing_software="lai-backend",
                enable_basic_auth=True,
                valid_basic_auth=self.account.accepts,
                enable_oidc_auth=False,
                oidc_providers=[],
                url_signer=UrlSigner(secret=secret, expiration=LINK_LIFETIME_S),
                flask_settings={"MAX_CONTENT_LENGTH": MAX_REQUEST_BYTES},
            ),
        )

    def postprocess_capabilities(self, capabilities: dict[str, Any]) -> dict[str, Any]:
        """Add the endpoint that is ours, and drop the terms of other people's services."""
        for endpoint in capabilities["endpoints"]:
            if endpoint["path"] == "/jobs/{job_id}":
                endpoint["methods"] = sorted({*endpoint["methods"], "PATCH"})
        capabilities["endpoints"].append({"path": "/jobs/{job_id}/estimate", "methods": ["GET"]})
        links, foreign = capabilities["links"], {"terms-of-service", "privacy-policy"}
        return {**capabilities, "links": [link for link in links if link["rel"] not in foreign]}

    def file_formats(self) -> dict[str, Any]:
        """Return the answer to `GET /file_formats`."""
        return file_formats()


def _make_writable(folder: Path) -> None:
    """Make a folder where it is missing; refuse one that takes no file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"Cannot keep jobs in {folder} ({error.strerror}): choose a folder that can be "
            "written with --data."
        ) from error


class LocalCatalog(driver.AbstractCollectionCatalog):
    """The collections in the folders of the operator."""

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings

    def get_all_metadata(self) -> list[dict[str, Any]]:
        """Describe all collections."""
        found = find_collections(self._settings.collection_dirs)
        return [describe_collection(path, self._settings.readable_roots) for path in found.values()]

    def get_collection_metadata(self, collection_id: str) -> dict[str, Any]:
        """Describe one collection."""
        return describe_collection(self._find(collection_id), self._settings.readable_roots)

    def get_collection_items(
        self, collection_id: str, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the items of a collection in folders, without their files: what there is, when."""
        span = parse_stac_interval(str(parameters.get("datetime") or ".."))
        boxes = _boxes(parameters.get("bbox"))
        features: list[dict[str, Any]] = [
            {
                "type": "Feature",
                "stac_version": "1.1.0",
                "id": scene.id,
                "collection": collection_id,
                "bbox": scene.bbox,
                "geometry": scene.bbox and mapping(union_all(stac_boxes(scene.bbox))),
                "properties": dict(scene.properties),
                "links": [],
                "assets": {},
            }
            for scene in read_scenes(self._find(collection_id), self._settings.readable_roots)
            if span.contains(scene.instant)
            and (not boxes or (scene.bbox and _touch(stac_boxes(scene.bbox), boxes)))
        ]
        return {
            "type": "FeatureCollection",
            "features": features[: int(parameters.get("limit") or 1000)],
        }

    def load_collection(self, collection_id: str, load_params: Any, env: Any) -> Any:
        """Not used: workers load."""
        raise NotImplementedError

    def _find(self, collection_id: str) -> Path:
        found = find_collections(self._settings.collection_dirs)
        if collection_id not in found:
            raise errors.CollectionNotFoundException(collection_id)
        return found[collection_id]


def _touch(boxes: list[Polygon], others: list[Polygon]) -> bool:
    return any(one.intersects(other) for one in boxes for other in others)


def _boxes(text: str | None) -> list[Polygon]:
    """Read `bbox` of a STAC request, degrees; two boxes across the antimeridian, none for none."""
    if not text:
        return []
    sides = text.split(",")
    if len(sides) not in (4, 6):
        raise ParameterError(f"bbox must be four or six numbers, not {text!r}.")
    corners = (*sides[:2], *sides[len(sides) // 2 :][:2])
    region = parse_spatial_extent(
        dict(zip(("west", "south", "east", "north"), corners, strict=True))
    )
    return [box(*bounds) for bounds in wrapped_boxes(region)] if region else []


class LocalRuntimes(driver.LegacyUdfRuntimes):
    """The Python of this environment."""

    python_libraries = (
        *("dask", "netCDF4", "numpy", "onnxruntime", "openeo", "pandas", "pyproj", "rasterio"),
        *("rioxarray", "scipy", "shapely", "xarray"),
    )

    def get_udf_runtimes(self) -> dict[str, Any]:
        """Return the answer to `GET /udf_runtimes`."""
        return {"Python": self._get_python_udf_runtime_metadata()}


class StoredProcess(driver.UserDefinedProcessMetadata):
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


class StoredProcesses(driver.UserDefinedProcesses):
    """User-defined processes in the registry."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def get(self, user_id: str, process_id: str) -> driver.UserDefinedProcessMetadata | None:
        """Return one process."""
        spec = self._store.process(user_id, process_id)
        return None if spec is None else StoredProcess.read(spec)

    def list_for_user(self, user_id: str) -> driver.UserDefinedProcessesListing:
        """List the processes of a user."""
        stored = [StoredProcess.read(spec) for spec in self._store.processes_of(user_id)]
        return driver.UserDefinedProcessesListing(udps=stored)

    def save(self, user_id: str, process_id: str, spec: dict[str, Any]) -> None:
        """Store a process; predefined ones cannot be replaced."""
        if process_id in process_specs():
            message = f"{process_id!r} is a predefined process; choose another name."
            raise errors.OpenEOApiException(message, "PredefinedProcessExists", 400)
        check_definition(process_id, spec)
        self._store.save_process(user_id, process_id, spec)

    def delete(self, user_id: str, process_id: str) -> None:
        """Delete a process."""
        if not self._store.remove_process(user_id, process_id):
            raise errors.ProcessGraphNotFoundException(process_id)


def build_app(backend: Backend) -> flask.Flask:
    """Return the WSGI application of a back-end."""
    # openeo-driver reads its configuration through a process-wide getter, from a Python file; the
    # configuration is made here instead.
    openeo_driver.config.load._backend_config_getter._config = backend.config
    # It fetches remote processes by itself, before a graph is ours to look at.
    openeo_driver.processgraph.requests = SimpleNamespace(get=get)
    app: flask.Flask = openeo_driver.views.build_app(backend_implementation=backend)
    replace_job_views(app, backend.jobs)
    handler = app.extensions["auth_handler"]
    handler.build_basic_access_token = backend.account.make_token

    @app.before_request
    def check_limit() -> None:
        limit = flask.request.args.get("limit")
        if limit is not None and (not limit.isdecimal() or int(limit) == 0):
            raise ParameterError(f"limit must be a whole number above 0, not {limit!r}.")

    @app.before_request
    def check_body() -> None:
        if flask.request.method not in ("POST", "PUT") or not flask.request.is_json:
            return
        try:
            body = flask.request.get_json()
        except RecursionError:
            raise GraphError("The body is nested too deeply.") from None
        if not isinstance(body, dict):
            raise ParameterError("The body must be a JSON object.")

    def user_of_token(access_token: str) -> User:
        user = backend.account.user_of(access_token)
        if user is None:
            raise errors.TokenInvalidException
        return User(user_id=user, internal_auth_data={"authentication_method": "Basic"})

    handler.resolve_basic_access_token = user_of_token
    app.register_error_handler(
        LaiBackendError, lambda error: (as_api_error(error).to_dict(), error.status)
    )
    return app
