"""`POST /publish`: an item with its files, COGs of `lai-udf run`, or results of an openEO job.

The folder lies below an allowed root; metadata is read, never followed to an address elsewhere.
Items that are not there yet are made in a temporary folder and then published as every other item
(`publishing`), one by one: a crash between two dates leaves whole items, and publishing again
adds the rest and changes nothing else.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict, model_validator
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse

from lai_service.api.documents import served_item
from lai_service.api.limits import known_query, turns
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue
from lai_service.errors import InvalidItemError, SettingsError
from lai_service.files.publishing import Published, Publisher, load_json
from lai_service.files.storage import check_size, resolve_below, source_folder
from lai_service.settings import Settings
from lai_stac.cog_items import describe_cogs
from lai_stac.errors import LaiStacError
from lai_stac.job_items import describe_job
from lai_stac.job_results import JOB_FILE
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import ENCODINGS
from lai_udf.predict import LaiModelError

AT_ONCE = 2  # products that are taken in at the same time
OUTCOME = "LAI-Publish-Outcome"
"""Header of the answer: `created`, `updated` or `unchanged`, one word per item."""
_COGS = tuple(f"{encoding.key}.tif" for encoding in ENCODINGS.values())


class PublishRequest(BaseModel):
    """Body of `POST /publish`; every folder lies below an allowed root of the service."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    directory: Path | None = None
    """Folder that holds one STAC item beside its files."""
    item: dict[str, Any] | None = None
    """STAC item whose asset hrefs are relative to `root`."""
    root: Path | None = None
    """Folder of the files of `item`."""
    cogs: Path | None = None
    """Folder of COGs as `lai-udf run` writes them: `lai.tif` and its neighbours."""
    results: Path | None = None
    """Folder of the downloaded results of an openEO batch job."""
    metadata: dict[str, Any] | None = None
    """What `job.get_results().get_metadata()` answers; else `job-results.json` of the folder."""
    job: dict[str, Any] | None = None
    """What `job.describe()` answers, with the process graph; else `job.json` of the folder."""
    collection: str | None = None
    """Collection to publish into; else the item's own, else the default one."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "PublishRequest":
        given = [self.directory, self.item, self.cogs, self.results]
        if sum(one is not None for one in given) != 1:
            raise ValueError("give either 'directory', 'item' with its 'root', 'cogs' or 'results'")
        if (self.item is None) != (self.root is None):
            raise ValueError("'item' and 'root' belong together")
        if self.results is None and (self.metadata or self.job):
            raise ValueError("'metadata' and 'job' belong to 'results'")
        return self


@dataclass(frozen=True)
class Intake:
    """Publishes what a request names into one data root and one catalogue."""

    catalogue: Catalogue  # where items are stored
    settings: Settings  # data root, allowed roots, default collection and models

    def publish(self, asked: PublishRequest) -> list[Published]:
        """Publish an item, or those of the dates of a job in order of time.

        Raises:
            ForbiddenPathError: the folder lies outside the allowed roots.
            NotFoundError: the folder is missing.
            InvalidItemError: item, metadata, graph, model or rasters do not make an item.
            ConflictError: another result has the same id.
            CatalogueBusyError: the catalogue stayed locked.
        """
        if asked.results is None and asked.cogs is None:
            folder, roots = asked.directory or asked.root, self.settings.allowed_roots
            assert folder is not None
            return [self._publisher(*roots).publish(folder, asked.item, asked.collection)]
        with tempfile.TemporaryDirectory(prefix="lai-results-") as work, _described():
            out = Path(work)
            folders = self._describe_job(asked, out) if asked.cogs is None else [out]
            if asked.cogs is not None:
                self._describe_cogs(asked.cogs, out)
            publisher = self._publisher(out)
            return [publisher.publish(folder, collection=asked.collection) for folder in folders]

    def _publisher(self, *roots: Path) -> Publisher:
        settings = self.settings
        return Publisher(self.catalogue, settings.data, roots, settings.default_collection)

    def _describe_job(self, asked: PublishRequest, out: Path) -> list[Path]:
        assert asked.results is not None
        folder = source_folder(asked.results, self.settings.allowed_roots)
        for path in sorted(folder.glob("*.tif*")):
            check_size(path, path.name)
        job = asked.job or _job_of_manager(folder)
        return describe_job(folder, out, bundles=self._models, metadata=asked.metadata, job=job)

    def _describe_cogs(self, cogs: Path, out: Path) -> None:
        folder = source_folder(cogs, self.settings.allowed_roots)
        for path in (folder / name for name in _COGS if (folder / name).exists()):
            # A text file called lai.tif could make GDAL open what it names.
            check_size(resolve_below(path, [folder]), f"{path.name} in {folder.name}")
            shutil.copyfile(path, out / path.name)
        describe_cogs(out, bundles=self._models)

    @cached_property  # opened when the first results arrive
    def _models(self) -> tuple[Bundle, ...]:
        try:
            return tuple(map(open_bundle, self.settings.models)) or (open_bundle(),)
        except LaiModelError as error:
            raise SettingsError(f"LAI_SERVICE_MODELS: {error}") from error


def _job_of_manager(folder: Path) -> dict[str, Any] | None:
    """Return the description of a job as openEO's job manager leaves it, `job_<id>.json`."""
    found = [] if (folder / JOB_FILE).exists() else sorted(folder.glob("job_*.json"))
    return load_json(found[0]) if len(found) == 1 else None


@contextmanager
def _described() -> Iterator[None]:
    """Turn what cannot be described into a fault of the request."""
    try:
        yield
    except LaiStacError as error:
        raise InvalidItemError(str(error)) from error


def add_publish(app: FastAPI, intake: Intake) -> None:
    """Add the route to an application."""

    @app.post(
        "/publish",
        tags=["Publish"],
        status_code=201,
        dependencies=[Depends(known_query), Depends(turns(AT_ONCE), scope="function")],
    )
    def publish(body: PublishRequest, request: Request) -> JSONResponse:
        """Take in an item with its rasters, COGs, or the results of an openEO job.

        201 where something is new, 200 where all was known. An item is answered as an item, the
        items of a job as a FeatureCollection.
        """
        published = intake.publish(body)
        outcomes = [one.outcome for one in published]
        items = [served_item(one.item, get_base_url(request)) for one in published]
        served: Document = {"type": "FeatureCollection", "features": items}
        headers = {OUTCOME: ", ".join(outcomes)}
        if body.results is None:
            (served,) = items
            headers["Location"] = served["links"][0]["href"]
        status = 201 if "created" in outcomes else 200
        return JSONResponse(served, status, headers, media_type="application/geo+json")
