"""Time series of a parcel: `GET|POST /timeseries` as JSON, CSV or a plot."""

import csv
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from rasterio.errors import RasterioError
from shapely.geometry import mapping
from starlette.responses import JSONResponse, Response

from lai_service.api.limits import check_json, turns
from lai_service.api.stac_api import parse_json, search_of
from lai_service.catalogue.port import Catalogue, Document, Search, SortKey
from lai_service.catalogue.walk import all_items
from lai_service.errors import BadRequestError, BrokenFileError, NotFoundError
from lai_service.files.parcels import DEFAULT_EXCLUDE, Observation, observe
from lai_service.files.places import Place

__all__ = ["TimeSeriesRequest", "add_timeseries", "time_series"]

MAX_ITEMS = 5000
_AT_ONCE = 2
"""Series that are read at the same time."""
_READERS = 4
"""Threads that read the items of one series."""
Format = Literal["json", "csv", "png"]


class TimeSeriesRequest(BaseModel):
    """What to read."""

    model_config = ConfigDict(extra="forbid")

    geometry: dict[str, Any]
    """GeoJSON Point, Polygon or MultiPolygon in degrees, or a Feature with one."""
    collections: list[str] | None = None
    """Collections; all where not given."""
    datetime: str | None = None
    """Time or interval, as in a STAC search."""
    filter: dict[str, Any] | None = None
    """CQL2 JSON, as in a STAC search."""
    exclude_flags: int = Field(default=DEFAULT_EXCLUDE, ge=0, le=255)
    """Bits of LAI_FLAGS that make a pixel unusable."""
    format: Format = "json"
    """Answer as JSON, CSV or a PNG plot."""

    @model_validator(mode="before")
    @classmethod
    def _check_size(cls, values: object) -> object:
        check_json(values)
        return values


def time_series(
    catalogue: Catalogue, data: Path, place: Place, search: Search, exclude_flags: int
) -> list[Observation]:
    """Read the LAI of a place from every item that matches, in order of time.

    Raises:
        BadRequestError: more than `MAX_ITEMS` items match.
    """
    search = replace(search, intersects=mapping(place.geometry), sort=(SortKey("datetime"),))
    if catalogue.count(search) > MAX_ITEMS:
        raise BadRequestError(f"more than {MAX_ITEMS} items match; give a shorter time")
    look = partial(observe, place=place, data=data, exclude_flags=exclude_flags)
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(partial(_latest, catalogue, look), all_items(catalogue, search))
        return [observation for observation in found if observation is not None]


def _latest(
    catalogue: Catalogue, look: Callable[[Document], Observation | None], item: Document
) -> Observation | None:
    """Look at an item; where its files went meanwhile, at the version that replaced it.

    Raises:
        BrokenFileError: the files that the catalogue names cannot be read.
    """
    seen: list[object] = []  # a version may come back once, not twice
    while seen.count(item["assets"]) < 2:
        seen.append(item["assets"])
        try:
            return look(item)
        except RasterioError as error:
            fault = error
            try:
                item = catalogue.item(item["collection"], item["id"])
            except NotFoundError:
                return None
    raise BrokenFileError(
        f"a raster of item {item['id']} cannot be read; run lai-service repair"
    ) from fault


def add_timeseries(app: FastAPI, catalogue: Catalogue, data: Path) -> None:
    """Add the time series to an application."""

    def answer(asked: TimeSeriesRequest) -> Response:
        place = Place.from_geojson(asked.geometry)
        search = search_of(
            collections=asked.collections, datetime=asked.datetime, filter_expr=asked.filter
        )
        series = time_series(catalogue, data, place, search, asked.exclude_flags)
        return _WRITERS[asked.format](series)

    turn = Depends(turns(_AT_ONCE), scope="function")

    @app.post("/timeseries", tags=["Time series"], dependencies=[turn])
    def post_timeseries(body: TimeSeriesRequest) -> Response:
        """Return the LAI of a point or parcel for every date: mean, interval, valid fraction."""
        return answer(body)

    @app.get("/timeseries", tags=["Time series"], dependencies=[turn])
    def get_timeseries(
        lon: Annotated[float | None, Query(ge=-180, le=180, description="Longitude")] = None,
        lat: Annotated[float | None, Query(ge=-90, le=90, description="Latitude")] = None,
        geometry: Annotated[str | None, Query(description="GeoJSON geometry")] = None,
        collections: Annotated[str | None, Query(description="Ids, comma-separated")] = None,
        datetime: Annotated[str | None, Query(description="Time or interval")] = None,
        exclude_flags: Annotated[int, Query(ge=0, le=255)] = DEFAULT_EXCLUDE,
        format: Format = "json",
    ) -> Response:
        """Return the LAI of a point (`lon`, `lat`) or a `geometry` for every date."""
        return answer(
            TimeSeriesRequest(
                geometry=_place(lon, lat, geometry),
                collections=collections.split(",") if collections else None,
                datetime=datetime,
                exclude_flags=exclude_flags,
                format=format,
            )
        )


def _place(lon: float | None, lat: float | None, geometry: str | None) -> dict[str, Any]:
    if (geometry is None) == (lon is None) or (lon is None) != (lat is None):
        raise BadRequestError("give either lon and lat, or a geometry")
    if geometry is None:
        return {"type": "Point", "coordinates": [lon, lat]}
    document = parse_json(geometry, "geometry")
    if not isinstance(document, dict):
        raise BadRequestError("geometry must be a GeoJSON object")
    return document


_COLUMNS = tuple(field.name for field in fields(Observation))


def _as_json(series: Sequence[Observation]) -> Response:
    return JSONResponse(
        {
            "unit": "m2 m-2",
            "interval": "mean of the pixels' 95 % intervals",
            "observations": [asdict(observation) for observation in series],
        }
    )


def _as_csv(series: Sequence[Observation]) -> Response:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(asdict(observation) for observation in series)
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


def _as_png(series: Sequence[Observation]) -> Response:
    from lai_service.web.plots import plot_series  # matplotlib takes half a second to import

    return Response(plot_series(series), media_type="image/png")


_WRITERS = {"json": _as_json, "csv": _as_csv, "png": _as_png}
