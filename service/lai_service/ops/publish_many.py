"""Publish many folders, one after the other, with progress; a refusal of one stops none."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from lai_service.errors import BadRequestError
from lai_service.ops.client import PublishedAt, publish
from lai_service.ops.sources import Source

__all__ = ["publish_many"]

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
