"""Publish results that have no item yet: those of an openEO batch job, or COGs of `lai-udf run`.

The folder of the results lies below an allowed root; its metadata is read, never followed to an
address elsewhere. Items are made in a temporary folder and are then published as every other item
(`publishing`), one by one: a crash between two dates leaves whole items, and publishing again
adds the rest and changes nothing else.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lai_service.catalogue.port import Catalogue
from lai_service.errors import InvalidItemError, SettingsError
from lai_service.files.publishing import Published, Publisher, PublishRequest, load_json
from lai_service.files.rasters import check_size
from lai_service.files.storage import resolve_below, source_folder
from lai_service.settings import Settings
from lai_stac.cog_items import describe_cogs
from lai_stac.errors import LaiStacError
from lai_stac.job_items import describe_job
from lai_stac.job_results import JOB_FILE
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import ENCODINGS
from lai_udf.predict import LaiModelError

__all__ = ["PublishCogs", "PublishResults", "ResultsPublisher"]

_COGS = tuple(f"{encoding.key}.tif" for encoding in ENCODINGS.values())


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


class PublishCogs(BaseModel):
    """Body of `POST /publish`: a folder of COGs as `lai-udf run` writes them."""

    model_config = ConfigDict(extra="forbid")

    cogs: Path
    """Folder of `lai.tif` and its neighbours, below an allowed root of the service."""
    collection: str | None = None
    """Collection to publish into; else the default one."""


class ResultsPublisher:
    """Describes results and publishes them into one data root and one catalogue.

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
        folder = source_folder(request.results, self._settings.allowed_roots)
        for path in sorted(folder.glob("*.tif*")):
            check_size(path, path.name)
        with _work_folder() as out:
            items = describe_job(
                folder,
                out,
                bundles=self._models(),
                metadata=request.metadata,
                job=request.job or _job_of_manager(folder),
            )
            return self._publish_all(items, out, request.collection)

    def publish_cogs(self, request: PublishCogs) -> Published:
        """Publish a folder of COGs as the item that their tags tell of.

        Raises:
            ForbiddenPathError: the folder lies outside the allowed roots.
            NotFoundError: the folder is missing.
            InvalidItemError: the COGs are none, or their tags do not make an item.
            CatalogueBusyError: the catalogue stayed locked.
        """
        folder = source_folder(request.cogs, self._settings.allowed_roots)
        with _work_folder() as out:
            for path in (folder / name for name in _COGS if (folder / name).exists()):
                # A text file called lai.tif could make GDAL open what it names.
                check_size(resolve_below(path, [folder]), f"{path.name} in {folder.name}")
                shutil.copyfile(path, out / path.name)
            describe_cogs(out, bundles=self._models())
            (published,) = self._publish_all([out], out, request.collection)
            return published

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


def _job_of_manager(folder: Path) -> dict[str, Any] | None:
    """Return the description of a job as openEO's job manager leaves it, `job_<id>.json`."""
    found = [] if (folder / JOB_FILE).exists() else sorted(folder.glob("job_*.json"))
    return load_json(found[0]) if len(found) == 1 else None


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Yield a temporary folder; what cannot be described in it is a fault of the request."""
    with tempfile.TemporaryDirectory(prefix="lai-results-") as work:
        try:
            yield Path(work)
        except LaiStacError as error:
            raise InvalidItemError(str(error)) from error
