"""Time series of places: `GET|POST /timeseries` as JSON, CSV, GeoParquet or a plot."""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

import cachetools
import shapely
from fastapi import Depends, FastAPI, Query
from pydantic import Field, model_validator
from rasterio.errors import RasterioError
from shapely.geometry import mapping
from starlette.responses import JSONResponse, Response

from lai_service.api.limits import check_json, known_query, turns
from lai_service.api.places import Place, read_places
from lai_service.api.stac_api import parse_json, search_of
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue, Search, SortKey, all_items
from lai_service.errors import BadRequestError, BrokenFileError, CatalogueBusyError, NotFoundError
from lai_service.files.curves import (
    MAX_STEP_DAYS,
    SmoothedDate,
    SmoothedPlace,
    narrowed,
    shared_part,
    smooth_place,
)
from lai_service.files.observations import (
    MAX_PIXELS,
    Observation,
    PublishedResult,
    ResultGroup,
    Wanted,
    choose,
    observe,
    result_of,
)
from lai_udf.errors import LaiUdfError
from lai_udf.longitudes import cut
from lai_udf.predict import UNUSABLE_FLAGS
from lai_udf.zonal import MIN_VALID_SHARE

MAX_ITEMS = 5000
MAX_ROWS = 200_000  # most observations of an answer: items times places
_ATTEMPTS = 12
_AT_ONCE = 2  # series that are read at the same time
_MAX_EXTENT_DEG = 10.0


class _Options(Wanted):
    """What a GET and a POST request have in common."""

    datetime: str | None = None
    """Time or interval, as in a STAC search."""
    exclude_flags: int | None = Field(default=None, ge=0, le=255)
    """Bits of LAI_FLAGS that make a pixel unusable; if not given, those of all statistics (249) for
    observations, and impossible LAI alone (8) for a curve, which weighs the rest."""
    min_valid_fraction: float = Field(default=MIN_VALID_SHARE, ge=0, le=1)
    """Least usable share of a place that has a mean."""
    smooth: int | None = Field(default=None, ge=1, le=MAX_STEP_DAYS)
    """Days from date to date of a curve through clouds and gaps; none if not given."""
    format: Literal["json", "csv", "parquet", "png"] = "json"
    """Answer as JSON, CSV, GeoParquet or a PNG plot."""


class TimeSeriesRequest(_Options):
    """What to read."""

    geometry: dict[str, Any]
    """GeoJSON Point, Polygon, MultiPolygon, Feature or FeatureCollection in degrees."""
    collections: list[str] | None = None
    """Collections; all where not given."""
    filter: dict[str, Any] | str | None = None
    """CQL2 as JSON or text, as in a STAC search."""

    @model_validator(mode="before")
    @classmethod
    def _check_size(cls, values: object) -> object:
        check_json(values)
        return values


class _Query(_Options):
    """The same as parameters of an address."""

    lon: float | None = Field(default=None, ge=-180, le=180)
    """Longitude of a point, degrees."""
    lat: float | None = Field(default=None, ge=-90, le=90)
    """Latitude of a point, degrees."""
    geometry: str | None = None
    """GeoJSON in place of a point."""
    collections: str | None = None
    """Ids, comma-separated; all where not given."""
    filter: str | None = None
    """CQL2 text or JSON."""
    filter_lang: Literal["cql2-text", "cql2-json"] = Field(default="cql2-text", alias="filter-lang")
    """Which of the two it is."""

    def request(self) -> TimeSeriesRequest:
        """Return the body that asks for the same."""
        as_json = self.filter_lang == "cql2-json"
        return TimeSeriesRequest(
            **{name: getattr(self, name) for name in _Options.model_fields},
            geometry=_place(self.lon, self.lat, self.geometry),
            collections=self.collections.split(",") if self.collections else None,
            filter=parse_json(self.filter, "filter") if as_json else self.filter,
        )


@dataclass(frozen=True)
class Series:
    """What was read."""

    places: list[Place]  # where
    observations: list[list[Observation]]  # by place, in order of time
    settings: ResultGroup  # of all items
    others: list[ResultGroup]  # of further items there, which were left out
    interval: str  # what the bounds are
    smoothed: list[SmoothedPlace] | None = None  # curves by place, where asked for


_KEPT: cachetools.LRUCache[bytes, list[list[Observation]]] = cachetools.LRUCache(
    maxsize=10_000, getsizeof=lambda rows: 1 + sum(map(len, rows))
)
"""Observations by what was asked of which files, some 3 MB: numbers, no array and no geometry."""
_KEPT_LOCK = Lock()


def time_series(
    catalogue: Catalogue, data: Path, asked: TimeSeriesRequest, bundles: tuple[Path, ...] = ()
) -> Series:
    """Read the LAI of places from every item that matches.

    Args:
        catalogue: where the items are.
        data: data root.
        asked: what to read.
        bundles: models known here; none = the shipped one.

    Raises:
        BadRequestError: the places are none, too large or too many.
        NotFoundError: no item meets them.
        BrokenFileError: files that the catalogue names cannot be read.
        CatalogueBusyError: the items are replaced all the time.
    """
    places = read_places(asked.geometry)
    search = _search(places, asked)
    count = catalogue.count(search)
    if count == 0:
        raise NotFoundError(_why_nothing(catalogue, places, asked))
    if count > MAX_ITEMS or count * len(places) > MAX_ROWS:
        raise BadRequestError(
            f"{count} items match; {MAX_ITEMS} items and {MAX_ROWS} dates of places are read at "
            "once: give a shorter time or fewer places"
        )
    seen: list[object] = []
    while len(seen) < _ATTEMPTS:  # an item may be removed, or its grid changed, while it is read
        items = list(all_items(catalogue, search))
        try:
            return _read(catalogue, items, data, places, asked, bundles)
        except (LaiUdfError, RasterioError) as error:
            versions = [item["assets"] for item in items]
            if seen.count(versions) > 1:  # they are not being replaced: they are damaged
                raise BrokenFileError(
                    "a raster of the items here cannot be read; run lai-service repair"
                ) from error
            seen.append(versions)
    raise CatalogueBusyError("the items here are replaced faster than they are read; try again")


def _search(places: list[Place], asked: TimeSeriesRequest) -> Search:
    geometries = [cut(place.geometry) for place in places]
    if any(_span(geometry) > _MAX_EXTENT_DEG for geometry in geometries):
        raise BadRequestError(
            f"a place spans more than {_MAX_EXTENT_DEG:g} degrees (at most {MAX_PIXELS} pixels are "
            "read); give a field, not a country"
        )
    search = search_of(
        collections=asked.collections, datetime=asked.datetime, filter_expr=asked.filter
    )
    around = shapely.union_all(geometries) if len(geometries) > 1 else geometries[0]
    return replace(search, intersects=mapping(around), sort=(SortKey("datetime"),))


def _span(geometry: shapely.Geometry) -> float:
    """Return the longest side of the boxes of a geometry's parts, degrees."""
    boxes = [part.bounds for part in shapely.get_parts(geometry)]
    return max(float(max(east - west, north - south)) for west, south, east, north in boxes)


def _read(
    catalogue: Catalogue,
    items: list[Document],
    data: Path,
    places: list[Place],
    asked: TimeSeriesRequest,
    bundles: tuple[Path, ...],
) -> Series:
    replaced: list[Document] = []

    def latest(item: Document) -> Document | None:
        replaced.append(item)
        return catalogue.find_item(item["collection"], item["id"])

    found = (result_of(item, data, latest) for item in items)
    results = [result for result in found if result is not None]
    if not results:
        raise NotFoundError("the items here have no LAI raster that lies in this service")
    # Where single dates are beside series made of them, the dates: `smooth` makes a series of them.
    observed = [result for result in results if "gap_days" not in result.item["assets"]]
    results = observed or results
    chosen, settings, others = choose(results, asked)
    shared = shared_part(chosen, bundles)

    def read(unusable: int) -> list[list[Observation]]:
        exclude = unusable if asked.exclude_flags is None else asked.exclude_flags
        what = chosen, places, exclude, asked.min_valid_fraction
        rows = _observed(*what)
        if replaced:  # rows of a newer version are not those of the files that were asked for
            with _KEPT_LOCK:
                _KEPT.pop(_key(*what), None)
        if shared is None:
            return rows
        pixel = float(settings.resolution.removesuffix(" m"))
        return [narrowed(own, shared, pixel) for own in rows]

    rows, smoothed = read(UNUSABLE_FLAGS), None
    if not any(rows):
        raise NotFoundError("no pixel of any item lies in the place")
    if asked.smooth is not None and observed:  # a series is smooth
        from lai_udf.series import IMPOSSIBLE_FLAGS  # imports xarray

        counted = read(IMPOSSIBLE_FLAGS)
        smoothed = [smooth_place(own, asked.smooth, settings.level) for own in counted]
    percent = f"{100 * settings.level:g} %"
    interval = f"mean of the pixels' {percent} intervals"
    if shared is not None:
        why = "what pixels share stays, what is their own averages out"
        interval = f"{percent} interval of the mean: {why}"
    return Series(places, rows, settings, others, interval, smoothed)


def _key(
    results: Sequence[PublishedResult], places: list[Place], exclude_flags: int, least: float
) -> bytes:
    digest = hashlib.sha256(f"{exclude_flags} {least}".encode())
    for result in results:
        digest.update(str(result.path).encode())
    for place in places:
        digest.update(shapely.to_wkb(place.geometry))
    return digest.digest()


@cachetools.cached(_KEPT, key=_key, lock=_KEPT_LOCK)
def _observed(
    results: Sequence[PublishedResult], places: list[Place], exclude_flags: int, least: float
) -> list[list[Observation]]:
    return observe(results, [place.geometry for place in places], exclude_flags, least)


def _why_nothing(catalogue: Catalogue, places: list[Place], asked: TimeSeriesRequest) -> str:
    """Return why no item matches: wrong place, swapped coordinates, or wrong time and filter."""
    anywhere = _search(places, TimeSeriesRequest(geometry={}))
    if catalogue.count(anywhere):
        return "there are items here, but none of that time, collection and filter"
    box = shapely.total_bounds([place.geometry for place in places]).round(4).tolist()
    text = f"no item meets {box} (west, south, east, north)"
    swapped = [shapely.transform(place.geometry, lambda xy: xy[:, ::-1]) for place in places]
    if all(abs(edge) <= 90 for edge in (box[0], box[2])):
        turned = replace(anywhere, intersects=mapping(shapely.union_all(swapped)))
        if catalogue.count(turned):
            return f"{text}; with longitude and latitude swapped there are items: give lon, lat"
    return text


def add_timeseries(
    app: FastAPI, catalogue: Catalogue, data: Path, bundles: tuple[Path, ...] = ()
) -> None:
    """Add the time series to an application."""

    def answer(asked: TimeSeriesRequest) -> Response:
        return _WRITERS[asked.format](time_series(catalogue, data, asked, bundles))

    turn = Depends(turns(_AT_ONCE), scope="function")

    @app.post("/timeseries", tags=["Time series"], dependencies=[Depends(known_query), turn])
    def post_timeseries(body: TimeSeriesRequest) -> Response:
        """Return the LAI of points or parcels for every date: mean, interval, valid fraction."""
        return answer(body)

    @app.get("/timeseries", tags=["Time series"], dependencies=[turn])
    def get_timeseries(asked: Annotated[_Query, Query()]) -> Response:
        """Return the LAI of a point (`lon`, `lat`) or a `geometry` for every date."""
        return answer(asked.request())


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
_SMOOTHED_COLUMNS = tuple(field.name for field in fields(SmoothedDate))


def _as_json(series: Series) -> Response:
    head = {
        "unit": "m2 m-2",
        "interval": series.interval,
        "settings": asdict(series.settings),
        "others": [asdict(other) for other in series.others],
    }
    parts = [_document(series, number) for number in range(len(series.places))]
    if len(parts) == 1:
        return JSONResponse({**head, **parts[0]})
    pairs = zip(series.places, parts, strict=True)
    return JSONResponse({**head, "series": [{"place": place.id, **own} for place, own in pairs]})


def _document(series: Series, number: int) -> dict[str, Any]:
    """Return what JSON holds of one place."""
    rows = [asdict(observation) for observation in series.observations[number]]
    if series.smoothed is None:
        return {"observations": rows}
    curve = series.smoothed[number]
    judged = [row | {"rejected": no} for row, no in zip(rows, curve.rejected, strict=True)]
    return {"observations": judged, "smoothed": [asdict(date) for date in curve.dates]}


def _rows(series: Series) -> Sequence[Sequence[Observation | SmoothedDate]]:
    """Return what tables hold, by place: observations, or the curve where asked for."""
    if series.smoothed is None:
        return series.observations
    return [curve.dates for curve in series.smoothed]


def _table(series: Series) -> list[dict[str, Any]]:
    pairs = zip(series.places, _rows(series), strict=True)
    return [{"place": place.id, **asdict(row)} for place, own in pairs for row in own]


def _as_csv(series: Series) -> Response:
    text = io.StringIO()
    columns = _COLUMNS if series.smoothed is None else _SMOOTHED_COLUMNS
    writer = csv.DictWriter(text, ("place", *columns))
    writer.writeheader()
    writer.writerows(_table(series))
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


def _as_parquet(series: Series) -> Response:
    import geopandas  # takes a second to import
    import pandas

    rows = _table(series)
    counts = [len(own) for own in _rows(series)]
    pairs = zip(series.places, counts, strict=True)
    shapes = [place.geometry for place, count in pairs for _ in range(count)]
    table = geopandas.GeoDataFrame(rows, geometry=shapes, crs="EPSG:4326")
    time = "datetime" if series.smoothed is None else "date"
    table[time] = pandas.to_datetime(table[time], utc=True, format="ISO8601")
    target = io.BytesIO()
    table.to_parquet(target)
    return Response(target.getvalue(), media_type="application/vnd.apache.parquet")


def _as_png(series: Series) -> Response:
    import pandas  # takes half a second to import, as matplotlib does

    from lai_udf.field.plot import draw_field

    if len(series.places) > 1:
        raise BadRequestError("a plot shows one place; ask for CSV, GeoParquet or JSON of several")
    table = pandas.DataFrame(map(asdict, series.observations[0])).rename(columns={"lai": "mean"})
    table["mean"] = table["mean"].astype(float)
    table["datetime"] = pandas.to_datetime(table["datetime"], utc=True, format="ISO8601")
    curve = None
    if series.smoothed is not None:
        table["rejected"] = series.smoothed[0].rejected
        curve = pandas.DataFrame(map(asdict, series.smoothed[0].dates))
        curve = curve.rename(columns={name: f"lai_{name}" for name in ("lower", "upper", "sd")})
    return Response(draw_field(series.places[0].id, table, curve), media_type="image/png")


_WRITERS = {"json": _as_json, "csv": _as_csv, "parquet": _as_parquet, "png": _as_png}
