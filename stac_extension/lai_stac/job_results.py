"""What an openEO batch job left behind: its files by date, and their STAC metadata.

Input: a folder as `job.get_results().download_files(folder)` or `download_as_collection(folder)`
leaves it, with `job-results.json` and, for the process graph, `job.json` (what `job.describe()`
answers). Output: one `DatedResult` per date. Read from metadata of openEO API 1.0 (an Item with
assets) and 1.1 (a Collection with assets, its Items beside it); nothing is fetched.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lai_stac.errors import DescriptionError
from lai_udf.identity import PRODUCT

Document = Mapping[str, Any]

RESULTS_FILE = "job-results.json"
"""Name under which the openEO client stores the metadata of the results."""
JOB_FILE = "job.json"
"""Name under which we look for the description of the job, with its process graph."""

SERIES_BAND = "GAP_DAYS"
"""A UDF whose text contains this band smooths LAI over time, see `lai_udf.series`."""

DAY_IN_NAME = re.compile(r"(?<!\d)(\d{4})-?([01]\d)-?([0-3]\d)(?!\d)")
FARTHEST_INPUT = dt.timedelta(hours=12)
"""An input sensed farther from the day of a date belongs to none."""
EODATA = "/eodata/"
"""Where the Copernicus Data Space mounts the bucket `s3://eodata/`, as in its links."""


@dataclass(frozen=True)
class ResultFile:
    """One GeoTIFF of a result."""

    path: Path  # path of the file
    bands: tuple[str, ...]  # names of its bands in the metadata; empty where it names none


@dataclass(frozen=True)
class DatedResult:
    """Everything of one date."""

    datetime: dt.datetime
    """Time of the observation, UTC: of the first scene that went in; midnight where only the day is
    known."""
    end_datetime: dt.datetime | None
    """Time of the last scene that went in; None where they are not known."""
    files: tuple[ResultFile, ...]  # its GeoTIFFs: one with all bands, or several
    platform: str | None  # such as `S2A`, where the inputs are known and agree
    mgrs_tile: str | None  # tile of the inputs, where they are known and lie in one
    metadata: Document  # STAC metadata of the job with the `derived_from` links of this date only


@dataclass(frozen=True)
class JobResults:
    """A finished job."""

    dates: tuple[DatedResult, ...]  # in order of time
    process_graph: Document  # the graph that was run
    job_options: Document  # options of the job, as far as known


@dataclass(frozen=True)
class _Source:
    """A `derived_from` link and the facts in the name of its product."""

    link: Document
    sensed: dt.datetime | None
    platform: str | None
    tile: str | None


@dataclass(frozen=True)
class _Asset:
    moment: dt.datetime
    file: ResultFile
    links: tuple[Document, ...]


def read_job_results(
    folder: Path, *, metadata: Document | None = None, job: Document | None = None
) -> JobResults:
    """Read what a finished job left in a folder.

    Args:
        folder: the downloaded files.
        metadata: `job.get_results().get_metadata()`; else `job-results.json` of the folder.
        job: `job.describe()`; else `job.json` of the folder.

    Raises:
        DescriptionError: metadata or graph is missing, a file it names is not there, or a file
            has no date of its own.
    """
    metadata = metadata or _read(folder / RESULTS_FILE)
    job = job or _read(folder / JOB_FILE)
    graph = (job.get("process") or {}).get("process_graph") or job.get("process_graph")
    if not graph:
        raise DescriptionError(
            f"the description of the job has no process graph: store job.describe() as {JOB_FILE}"
        )
    assets = sorted(_assets(folder, metadata), key=lambda asset: (asset.moment, asset.file.path))
    if not assets:
        raise DescriptionError(
            f"the metadata of {folder.name} names no GeoTIFF: run the job with out_format='GTiff'"
        )
    known = [*(metadata.get("links") or ()), *(link for asset in assets for link in asset.links)]
    moments = sorted({asset.moment for asset in assets})
    sources, is_series = _sources(known), read_series(graph) is not None
    by_moment = dict.fromkeys(moments, sources) if is_series else _share_sources(sources, moments)
    dates = []
    for moment in moments:
        files = tuple(asset.file for asset in assets if asset.moment == moment)
        dates.append(_dated(moment, files, by_moment[moment], metadata, is_series))
    return JobResults(tuple(dates), graph, job.get("job_options") or {})


def _share_sources(
    sources: Sequence[_Source], moments: Sequence[dt.datetime]
) -> dict[dt.datetime, list[_Source]]:
    """Give each input to the date that was made from it: the one whose day is nearest.

    The label of a date may be another day than the name of its product: of a datatake begun
    before midnight, or in another time zone. An input that names no time counts where there is
    one date only.
    """
    shared: dict[dt.datetime, list[_Source]] = {moment: [] for moment in moments}
    for source in sources:
        if source.sensed is None:
            if len(moments) == 1:
                shared[moments[0]].append(source)
            continue
        nearest = min(moments, key=partial(_distance, source.sensed))
        if _distance(source.sensed, nearest) <= FARTHEST_INPUT:
            shared[nearest].append(source)
    return shared


def _distance(sensed: dt.datetime, moment: dt.datetime) -> dt.timedelta:
    """Return how far a time lies from the day that begins at a label; from a label with a time."""
    end = moment + dt.timedelta(days=1) if _is_bare_day(moment) else moment
    return max(moment - sensed, sensed - end, dt.timedelta())


def _is_bare_day(moment: dt.datetime) -> bool:
    return moment.time() == dt.time()


def _dated(
    moment: dt.datetime,
    files: tuple[ResultFile, ...],
    own: Sequence[_Source],
    metadata: Document,
    is_series: bool,
) -> DatedResult:
    """Put one date together; a bare day, but of a series, takes the times of its inputs."""
    sensed = sorted(source.sensed for source in own if source.sensed is not None)
    by_sensing = bool(sensed) and _is_bare_day(moment) and not is_series
    platforms = {source.platform for source in own if source.platform}
    tiles = {source.tile for source in own if source.tile}
    return DatedResult(
        datetime=(sensed[0] if by_sensing else moment).astimezone(dt.UTC),
        end_datetime=sensed[-1] if by_sensing else None,
        files=files,
        platform=platforms.pop() if len(platforms) == 1 else None,
        mgrs_tile=tiles.pop() if len(tiles) == 1 else None,
        metadata={**metadata, "links": [source.link for source in own]},
    )


def _assets(folder: Path, metadata: Document) -> Iterator[_Asset]:
    """Yield the GeoTIFFs of the Items beside the metadata, else of the metadata itself."""
    documents = list(_items_beside(folder, metadata)) or [(folder, metadata)]
    for home, document in documents:
        properties = document.get("properties") or {}
        links = () if document is metadata else tuple(document.get("links") or ())
        for key, asset in (document.get("assets") or {}).items():
            if _is_geotiff(key, asset):
                file = ResultFile(_local_file(folder, home, key, asset), _band_names(asset))
                yield _Asset(_moment(key, asset, properties), file, links)


def _items_beside(folder: Path, metadata: Document) -> Iterator[tuple[Path, Document]]:
    for link in metadata.get("links") or ():
        href = str(link.get("href"))
        if link.get("rel") == "item" and not urlsplit(href).scheme:
            path = _below(folder, folder / unquote(href))
            yield path.parent, _read(path)


def _is_geotiff(key: str, asset: Document) -> bool:
    return "geotiff" in str(asset.get("type", "")) or key.lower().endswith((".tif", ".tiff"))


def _local_file(folder: Path, home: Path, key: str, asset: Document) -> Path:
    """Return the file of an asset: by its relative href, or downloaded under its own name."""
    address = urlsplit(str(asset.get("href", "")))
    names = [] if address.scheme or address.netloc else [unquote(address.path)]
    names += [key, unquote(address.path).rpartition("/")[2]]
    for name in names:
        path = home / name
        if name and path.is_file():
            return _below(folder, path)
    raise DescriptionError(
        f"the metadata names {key}, which is not in {folder.name}: download all files of the job"
    )


def _below(folder: Path, path: Path) -> Path:
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise DescriptionError(f"{path.name} lies outside the folder of the job's results")
    return real


def _band_names(asset: Document) -> tuple[str, ...]:
    """Return the names of the bands, in STAC 1.1 or under the fields used before."""
    for field in ("bands", "eo:bands", "raster:bands"):
        names = tuple(str(band.get("name", "")) for band in asset.get(field) or ())
        if any(names):
            return names
    return ()


def _moment(key: str, asset: Document, properties: Document) -> dt.datetime:
    """Return the date of an asset: its own, its Item's, or the one in its name.

    A back-end that lists its files without Items (API 1.0) has the days in their names only.
    """
    stated = asset.get("datetime") or properties.get("datetime")
    if stated:
        return _instant(str(stated))
    found = DAY_IN_NAME.search(key)
    if found:
        return _instant("-".join(found.groups()))
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if start and start == end:
        return _instant(str(start))
    raise DescriptionError(
        f"{key} has no date of its own (start {start}, end {end}): an item is one observation; "
        "publish the results of a job that keeps the dimension t"
    )


def _instant(text: str) -> dt.datetime:
    """Read a date or time, in its own zone; labels of openEO cubes without one are UTC."""
    try:
        read = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise DescriptionError(f"{text!r} is no ISO 8601 time") from error
    return read if read.tzinfo else read.replace(tzinfo=dt.UTC)


def _sources(links: Sequence[Document]) -> list[_Source]:
    """Return the inputs that the metadata names, each once."""
    found: dict[str, _Source] = {}
    for link in links:
        href = str(link.get("href", ""))
        if link.get("rel") != "derived_from" or not href:
            continue
        if href.startswith(EODATA):
            href = "s3://eodata/" + href.removeprefix(EODATA)
        name = PRODUCT.search(f"{href} {link.get('title', '')}")
        found.setdefault(
            href,
            _Source(
                link={"rel": "derived_from", "href": href, "title": name[0] if name else href},
                sensed=_instant(name["sensed"]) if name else None,
                platform=name["platform"] if name else None,
                tile=name["tile"] if name else None,
            ),
        )
    return list(found.values())


def _read(path: Path) -> Document:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DescriptionError(
            f"cannot read {path.name} in {path.parent.name} ({error.strerror}): "
            "download the results of the job with their metadata"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DescriptionError(f"{path.name} is not readable JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise DescriptionError(f"{path.name} is no JSON object")
    return document


def read_series(process_graph: Document) -> Document | None:
    """Return the context of the UDF that smooths LAI over time; None where there is none."""
    for node in nodes_of(process_graph):
        arguments = node.get("arguments") or {}
        if node["process_id"] == "run_udf" and SERIES_BAND in str(arguments.get("udf")):
            context: Document = arguments.get("context") or {}
            return context
    return None


def nodes_of(graph: object) -> Iterator[Document]:
    """Yield every node of a graph and its sub-graphs."""
    if isinstance(graph, Mapping):
        if isinstance(graph.get("process_id"), str):
            yield graph
        for value in graph.values():
            yield from nodes_of(value)
    elif isinstance(graph, list):
        for value in graph:
            yield from nodes_of(value)
