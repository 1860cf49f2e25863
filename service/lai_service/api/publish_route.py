"""`POST /publish`: an item with its files, COGs, or the results of an openEO job."""

from fastapi import Depends, FastAPI
from stac_fastapi.types.requests import get_base_url
from starlette.requests import Request
from starlette.responses import JSONResponse

from lai_service.api.documents import served_item
from lai_service.api.limits import known_query, turns
from lai_service.catalogue.items import Document
from lai_service.files.intake import Intake, PublishRequest

AT_ONCE = 2  # products that are taken in at the same time
OUTCOME = "LAI-Publish-Outcome"
"""Header of the answer: `created`, `updated` or `unchanged`, one word per item."""


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
