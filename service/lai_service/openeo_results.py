"""Publish what an openEO batch job left behind: its results become items, the items public.

The folder of the results lies below an allowed root; its metadata is read, never followed to an
address elsewhere. Items are made in a temporary folder and then take the road of every other item
(`publishing`), one by one: a crash between two dates leaves whole items, and publishing again
adds the rest and changes nothing else.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lai_service.catalogue import Catalogue
from lai_service.errors import InvalidItemError, SettingsError
from lai_service.publishing import Published, Publisher, PublishRequest
from lai_service.settings import Settings
from lai_service.storage import resolve_below
from lai_stac.errors import LaiStacError
from lai_stac.job_items import describe_job
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.predict import LaiModelError

__all__ = ["PublishResults", "ResultsPublisher"]


class PublishResults(BaseModel):
    """Body of `POST /publish`: the downloaded results of an openEO batch job."""

    model_config = ConfigDict(extra="forbid")

    results: Path
    """Folder of the downloaded files, below an allowed root of the service."""
    metadata: dict[str, Any] | None = None
    """What `job.get_results().get_metadata()` answers; else `job-results.json` of the folder."""
    job: dict[str, Any] | None = None
    """What `job.describe()` answers, with the process graph; else `job.json` of the folder."""
    collection: str | None = None
    """Collection to publish into; else the default one."""


class ResultsPublisher:
    """Publishes results of openEO jobs into one data root and one catalogue.

    Args:
        catalogue: where items are stored.
        settings: data root, allowed roots and models.
    """

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._bundles: tuple[Bundle, ...] | None = None

    def publish(self, request: PublishResults) -> list[Published]:
        """Publish one item per date.

        Raises:
            ForbiddenPathError: the folder lies outside the allowed roots.
            NotFoundError: the folder is missing.
            InvalidItemError: metadata, graph, model or rasters do not make an item.
            CatalogueBusyError: the catalogue stayed locked.
        """
        folder = resolve_below(request.results, self._settings.allowed_roots)
        with tempfile.TemporaryDirectory(prefix="lai-results-") as work:
            out = Path(work)
            try:
                items = describe_job(
                    folder,
                    out,
                    bundles=self._models(),
                    metadata=request.metadata,
                    job=request.job,
                )
            except LaiStacError as error:
                raise InvalidItemError(str(error)) from error
            return self._publish_all(items, out, request.collection)

    def _publish_all(
        self, items: Sequence[Path], out: Path, collection: str | None
    ) -> list[Published]:
        settings = self._settings
        publisher = Publisher(self._catalogue, settings.data, (out,), settings.default_collection)
        return [
            publisher.publish(PublishRequest(directory=folder, collection=collection))
            for folder in items
        ]

    def _models(self) -> tuple[Bundle, ...]:
        """Open the models once, when the first results arrive."""
        if self._bundles is None:
            try:
                paths = self._settings.models
                self._bundles = tuple(open_bundle(path) for path in paths) or (open_bundle(),)
            except LaiModelError as error:
                raise SettingsError(f"LAI_SERVICE_MODELS: {error}") from error
        return self._bundles
