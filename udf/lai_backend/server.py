"""The HTTP side: openeo-driver (the front of several public back-ends) over our engine.

The server answers, stores and supervises; it evaluates no process graph and runs no user code.
"""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import flask
import openeo_driver.config.load
import openeo_driver.views
from openeo_driver.backend import (
    AbstractCollectionCatalog,
    OpenEoBackendImplementation,
    UdfRuntimes,
)
from openeo_driver.config import OpenEoBackendConfig
from openeo_driver.errors import CollectionNotFoundException, TokenInvalidException
from openeo_driver.urlsigning import UrlSigner
from openeo_driver.users import User
from shapely.geometry import box, mapping

from lai_backend.accounts import Account, read_secret
from lai_backend.batch_jobs import LocalBatchJobs
from lai_backend.collections import describe_collection, find_collections, read_scenes
from lai_backend.errors import LaiBackendError, SettingsError
from lai_backend.extents import TimeSpan, parse_instant
from lai_backend.formats import file_formats
from lai_backend.job_views import replace_job_views
from lai_backend.listing import udf_runtimes
from lai_backend.processing import LocalProcessing, as_api_error
from lai_backend.settings import BackendSettings
from lai_backend.store import Store
from lai_backend.stored_processes import StoredProcesses
from lai_backend.supervisor import Supervisor

LINK_LIFETIME_S = 7 * 24 * 3600
MAX_REQUEST_BYTES = 8 * 1024 * 1024


class Backend(OpenEoBackendImplementation):
    """All parts of one back-end."""

    def __init__(self, settings: BackendSettings) -> None:
        """Open the registry and put the parts together; `start` begins the work.

        Args:
            settings: what the operator decided.

        Raises:
            SettingsError: the data folder cannot be used.
        """
        data_dir = settings.data_dir
        _make_writable(data_dir)
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
        self.jobs = LocalBatchJobs(store, self.supervisor)
        super().__init__(
            catalog=LocalCatalog(settings),
            batch_jobs=self.jobs,
            user_defined_processes=StoredProcesses(store),
            processing=processing,
            udf_runtimes=LocalRuntimes(),
            config=_driver_config(self.account, read_secret(data_dir / "secret")),
        )

    def postprocess_capabilities(self, capabilities: dict[str, Any]) -> dict[str, Any]:
        """Add the endpoint that is ours, and drop the terms of other people's services."""
        for endpoint in capabilities["endpoints"]:
            if endpoint["path"] == "/jobs/{job_id}":
                endpoint["methods"] = sorted({*endpoint["methods"], "PATCH"})
        capabilities["endpoints"].append({"path": "/jobs/{job_id}/estimate", "methods": ["GET"]})
        foreign = {"terms-of-service", "privacy-policy"}
        capabilities["links"] = [
            link for link in capabilities["links"] if link["rel"] not in foreign
        ]
        return capabilities

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


class LocalCatalog(AbstractCollectionCatalog):
    """The collections in the folders of the operator."""

    def __init__(self, settings: BackendSettings) -> None:
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

    def get_collection_items(
        self, collection_id: str, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the items of a collection in folders, without their files: what there is, when."""
        found = find_collections(self._settings.collection_dirs)
        if collection_id not in found:
            raise CollectionNotFoundException(collection_id)
        start, _, end = str(parameters.get("datetime") or "..").partition("/")
        span = TimeSpan(parse_instant(start), parse_instant(end or start if end else ".."))
        features: list[dict[str, Any]] = [
            {
                "type": "Feature",
                "stac_version": "1.1.0",
                "id": scene.id,
                "collection": collection_id,
                "bbox": scene.bbox,
                "geometry": None if scene.bbox is None else mapping(box(*scene.bbox)),
                "properties": dict(scene.properties),
                "links": [],
                "assets": {},
            }
            for scene in read_scenes(found[collection_id], self._settings.readable_roots)
            if span.contains(scene.instant)
        ]
        return {
            "type": "FeatureCollection",
            "features": features[: int(parameters.get("limit", 1000))],
        }

    def load_collection(self, collection_id: str, load_params: Any, env: Any) -> Any:  # noqa: ANN401
        """Not used: workers load."""
        raise NotImplementedError


class LocalRuntimes(UdfRuntimes):
    """The Python of this environment."""

    def get_udf_runtimes(self) -> dict[str, Any]:
        """Return the answer to `GET /udf_runtimes`."""
        return udf_runtimes()


def build_app(backend: Backend) -> flask.Flask:
    """Return the WSGI application of a back-end.

    Args:
        backend: its parts.
    """
    # openeo-driver reads its configuration through a process-wide getter, from a Python file; the
    # configuration is made here instead.
    openeo_driver.config.load._backend_config_getter._config = backend.config
    app: flask.Flask = openeo_driver.views.build_app(backend_implementation=backend)
    replace_job_views(app, backend.jobs)
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
