"""Ask a running service to publish what folders hold, at any depth.

folder with job-results.json     results of an openEO job, also of openEO's job manager
folder with lai.tif, no item     COGs of `lai-udf run`
folder with one item, or its JSON
any other folder                 what its folders hold
table of `lai-udf produce`       the folders of its finished jobs
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import requests
from tqdm import tqdm

from lai_service.errors import BadRequestError, LaiServiceError, UnauthorizedError
from lai_stac.fields import is_model
from lai_stac.job_results import JOB_FILE, RESULTS_FILE

Kind = Literal["results", "cogs", "directory"]


@dataclass(frozen=True)
class Source:
    """One folder to publish."""

    kind: Kind  # member of the body of `POST /publish`
    folder: Path  # the folder


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Find what can be published, each folder once, in the order given.

    Raises:
        LaiServiceError: a path holds nothing to publish.
    """
    found: dict[Path, Source] = {}
    for path in paths:
        folder = path.parent if path.is_file() else path
        some = list(_below(folder.resolve()))
        if not some:
            raise LaiServiceError(
                f"{path} holds no STAC item, no lai.tif of lai-udf run and no {RESULTS_FILE}, nor "
                "do its folders; give a folder with one of them"
            )
        found |= {source.folder: source for source in some if source.folder not in found}
    return list(found.values())


def _below(folder: Path) -> Iterator[Source]:
    kind = _kind(folder)
    if kind is not None:
        yield Source(kind, folder)
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and not child.is_symlink():
            yield from _below(child)


def _kind(folder: Path) -> Kind | None:
    if (folder / RESULTS_FILE).is_file():
        return "results"
    if any(_is_item(path) for path in sorted(folder.glob("*.json"))):
        return "directory"
    return "cogs" if (folder / "lai.tif").is_file() else None


def _is_item(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return path.stem == path.parent.name  # the service answers what is wrong with it
    is_item = isinstance(document, dict) and document.get("type") == "Feature"
    return is_item and not is_model(document)


def folders_of_table(table: Path) -> list[Path]:
    """Return the folders of the finished jobs of `lai-udf produce`.

    Args:
        table: the table, or the folder that holds `jobs.parquet`.

    Raises:
        LaiServiceError: it cannot be read, or no job has finished.
    """
    import pandas  # takes half a second to import

    path = table / "jobs.parquet" if table.is_dir() else table
    try:
        read = pandas.read_csv if path.suffix.lower() == ".csv" else pandas.read_parquet
        rows = read(path)
        finished = rows[(rows["status"] == "finished") & rows["folder"].notna()]
    except (OSError, ValueError, KeyError) as error:
        raise LaiServiceError(f"{path} is no table of lai-udf produce: {error}") from error
    if finished.empty:
        raise LaiServiceError(f"no job of {path} has finished and left its results")
    return [path.parent / str(folder) for folder in finished["folder"]]


if TYPE_CHECKING:
    import openeo  # a slow import that `lai-service publish` does without


PATIENCE_S = 600  # so long the service may take for an answer
_WORDS = (
    (requests.Timeout, f"no response after {PATIENCE_S} s"),
    (requests.exceptions.SSLError, "it serves no TLS, or has a certificate that is not trusted"),
    (
        requests.ConnectionError,
        "no connection, or a broken one; is `lai-service serve` running there?",
    ),
    (ValueError, "that is no address; one reads http://127.0.0.1:8080"),
)
"""Sentences for classes of errors of requests and urllib3; the first that fits."""


@dataclass(frozen=True)
class PublishedAt:
    """What the service answered."""

    address: str  # address of the item
    outcome: str  # `created`, `updated` or `unchanged`


def publish(
    source: Source, url: str, token: str | None, collection: str | None = None
) -> list[PublishedAt]:
    """Publish a folder that lies on the machine of the service, below one of its allowed roots.

    Args:
        source: see `find_sources`.
        url: address of the service.
        token: bearer token.
        collection: collection to publish into; the item's own, or the default one, if not given.

    Returns:
        One entry per item, in order of time.

    Raises:
        LaiServiceError: the service cannot be reached, or its refusal, word for word.
    """
    body: dict[str, str] = {source.kind: str(source.folder)}
    if collection:
        body["collection"] = collection
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.post(
            f"{url.rstrip('/')}/publish", json=body, headers=headers, timeout=PATIENCE_S
        )
    except requests.RequestException as error:
        why = next((words for kind, words in _WORDS if isinstance(error, kind)), str(error))
        raise LaiServiceError(f"the service at {url} does not answer: {why}") from error
    if answer.status_code == 401:
        raise UnauthorizedError(f"{url} answered 401: {_reason(answer)}")
    if answer.status_code not in (200, 201):
        raise BadRequestError(f"{url} answered {answer.status_code}: {_reason(answer)}")
    outcomes = answer.headers["LAI-Publish-Outcome"].split(", ")
    document = answer.json()
    items = document["features"] if source.kind == "results" else [document]
    addresses = [item["links"][0]["href"] for item in items]
    return [PublishedAt(*pair) for pair in zip(addresses, outcomes, strict=True)]


def publish_directory(
    source: Path, url: str, token: str | None, collection: str | None = None
) -> PublishedAt:
    """Publish one item or its COGs, by their folder or the JSON of the item; see `publish`."""
    (found,) = find_sources([source])
    (published,) = publish(found, url, token, collection)
    return published


def publish_results(
    source: Path, url: str, token: str | None, collection: str | None = None
) -> list[PublishedAt]:
    """Publish the results of an openEO job, as `download_job` leaves them; see `publish`."""
    return publish(Source("results", source.resolve()), url, token, collection)


def download_job(job: "openeo.BatchJob", folder: Path) -> Path:
    """Download a finished job with everything that publishing needs of it.

    Args:
        job: the finished job.
        folder: where its files go; made if missing.

    Returns:
        The folder: GeoTIFFs and Items, `job-results.json` and `job.json`.
    """
    job.get_results().download_as_collection(folder, on_download_failure="raise")
    (folder / JOB_FILE).write_text(json.dumps(job.describe()), encoding="utf-8")
    return folder


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["description"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]


_AT_ONCE = 2  # as many as the service takes in at once


def publish_many(
    sources: Sequence[Source],
    url: str,
    token: str | None,
    collection: str | None,
    write: Callable[[str], object],
) -> bool:
    """Publish folders and report each.

    Args:
        sources: what to publish.
        url: address of the service.
        token: bearer token.
        collection: collection to publish into.
        write: takes a line for each item.

    Returns:
        Whether all of them were taken; refusals are printed to standard error.

    Raises:
        LaiServiceError: the service does not answer, or refuses the token.
    """

    def one(source: Source) -> list[PublishedAt] | BadRequestError:
        try:
            return publish(source, url, token, collection)
        except BadRequestError as error:
            return error

    refused = 0
    show = len(sources) > 1 and sys.stderr.isatty()
    with ThreadPoolExecutor(_AT_ONCE) as senders:
        answers = senders.map(one, sources)
        pairs = zip(sources, answers, strict=True)
        for source, answer in tqdm(pairs, total=len(sources), unit="folder", disable=not show):
            if isinstance(answer, BadRequestError):
                refused += 1
                tqdm.write(f"lai-service: {source.folder}: {answer}", file=sys.stderr)
                continue
            for published in answer:
                write(f"{published.outcome}: {published.address}")
    if refused and len(sources) > 1:
        tqdm.write(f"lai-service: {refused} of {len(sources)} were refused", file=sys.stderr)
    return not refused
