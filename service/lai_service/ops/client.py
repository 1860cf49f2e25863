"""Ask a running service to publish folders: items, COGs, or the results of openEO jobs."""

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from tqdm import tqdm

from lai_service.errors import BadRequestError, LaiServiceError, UnauthorizedError
from lai_service.ops.sources import Source, find_sources
from lai_stac.job_results import JOB_FILE

if TYPE_CHECKING:
    import openeo  # a slow import that `lai-service publish` does without


PATIENCE_S = 600
"""So long the service may take for an answer."""
_NO_ADDRESS = "that is no address; one reads http://127.0.0.1:8080"
_WORDS = (
    (requests.Timeout, f"no response after {PATIENCE_S} s"),
    (requests.exceptions.SSLError, "it speaks no TLS, or has a certificate that is not trusted"),
    (
        requests.ConnectionError,
        "no connection, or a broken one; is `lai-service serve` running there?",
    ),
    (requests.exceptions.InvalidSchema, _NO_ADDRESS),
    (requests.exceptions.InvalidURL, _NO_ADDRESS),
    (requests.exceptions.MissingSchema, _NO_ADDRESS),
)
"""What requests and urllib3 say in names of classes, in words; the first that fits."""


@dataclass(frozen=True)
class PublishedAt:
    """What the service answered."""

    address: str
    """Address of the item."""
    outcome: str
    """`created`, `updated` or `unchanged`."""


def publish(
    source: Source, url: str, token: str | None, collection: str | None = None
) -> list[PublishedAt]:
    """Publish a folder that lies on the machine of the service, below one of its allowed roots.

    Args:
        source: see `lai_service.ops.sources`.
        url: address of the service.
        token: bearer token.
        collection: collection to publish into; the item's own, or the default one, if not given.

    Returns:
        One entry per item, in order of time.

    Raises:
        LaiServiceError: the service cannot be reached, or its refusal, word for word.
    """
    answer = _publish({source.kind: str(source.folder)}, url, token, collection)
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
    """Download a finished job with everything that publishing wants to know of it.

    Args:
        job: the finished job.
        folder: where its files go; made if missing.

    Returns:
        The folder: GeoTIFFs and Items, `job-results.json` and `job.json`.
    """
    job.get_results().download_as_collection(folder, on_download_failure="raise")
    (folder / JOB_FILE).write_text(json.dumps(job.describe()), encoding="utf-8")
    return folder


def _publish(
    body: dict[str, Any], url: str, token: str | None, collection: str | None
) -> requests.Response:
    if collection:
        body = {**body, "collection": collection}
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
    return answer


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
