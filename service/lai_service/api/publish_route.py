"""`POST /publish`: an item with its files, COGs, or the results of an openEO job."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Discriminator, Tag
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse

from lai_service.api.documents import served_item
from lai_service.api.limits import known_query, turns
from lai_service.catalogue.port import Document
from lai_service.files.openeo_results import PublishCogs, PublishResults, ResultsPublisher
from lai_service.files.publishing import Published, Publisher, PublishRequest

__all__ = ["OUTCOME", "add_publish"]

AT_ONCE = 2
"""Products that are taken in at the same time."""
OUTCOME = "LAI-Publish-Outcome"
"""Header of the answer: `created`, `updated` or `unchanged`, one word per item."""


def _kind(body: object) -> str:
    """Distinguish the bodies, so that a fault is reported for the one that was meant."""
    given = body if isinstance(body, dict) else getattr(body, "__dict__", {})
    return next((kind for kind in ("results", "cogs") if kind in given), "item")


PublishBody = Annotated[
    Annotated[PublishRequest, Tag("item")]
    | Annotated[PublishResults, Tag("results")]
    | Annotated[PublishCogs, Tag("cogs")],
    Discriminator(_kind),
]


def add_publish(app: FastAPI, publisher: Publisher, results: ResultsPublisher) -> None:
    """Add the route to an application."""

    @app.post(
        "/publish",
        tags=["Publish"],
        status_code=201,
        dependencies=[Depends(known_query), Depends(turns(AT_ONCE), scope="function")],
    )
    def publish(body: PublishBody, request: Request) -> JSONResponse:
        """Take in an item with its rasters, COGs, or the results of an openEO job.

        201 where something is new, 200 where all was known. An item is answered as an item, the
        items of a job as a FeatureCollection.
        """
        base = get_base_url(request)
        if isinstance(body, PublishResults):
            published = results.publish(body)
            items = [served_item(one.item, base) for one in published]
            return _answer({"type": "FeatureCollection", "features": items}, published)
        if isinstance(body, PublishCogs):
            one = results.publish_cogs(body)
        else:
            one = publisher.publish(body)
        served = served_item(one.item, base)
        return _answer(served, [one], Location=served["links"][0]["href"])


def _answer(served: Document, published: Sequence[Published], **headers: str) -> JSONResponse:
    headers[OUTCOME] = ", ".join(one.outcome for one in published)
    status = 201 if any(one.outcome == "created" for one in published) else 200
    return JSONResponse(served, status, headers, media_type="application/geo+json")
