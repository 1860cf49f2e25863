"""Ask a running service to publish a folder."""

from dataclasses import dataclass
from pathlib import Path

import requests

from lai_service.errors import BadRequestError, LaiServiceError

__all__ = ["PublishedAt", "publish_directory"]


@dataclass(frozen=True)
class PublishedAt:
    """What the service answered."""

    address: str
    """Address of the item."""
    outcome: str
    """`created`, `updated` or `unchanged`."""


def publish_directory(
    source: Path, url: str, token: str | None, collection: str | None = None
) -> PublishedAt:
    """Publish an item that lies on the machine of the service.

    Args:
        source: folder of the item, or its JSON file; below an allowed root of the service.
        url: address of the service.
        token: bearer token.
        collection: collection to publish into; the item's own where not given.

    Raises:
        LaiServiceError: the service cannot be reached, or its refusal, word for word.
    """
    folder = source if source.is_dir() else source.parent
    body = {"directory": str(folder.resolve())}
    if collection:
        body["collection"] = collection
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.post(
            f"{url.rstrip('/')}/publish", json=body, headers=headers, timeout=600
        )
    except requests.RequestException as error:
        raise LaiServiceError(f"the service at {url} does not answer: {error}") from error
    if answer.status_code not in (200, 201):
        raise BadRequestError(f"{url} answered {answer.status_code}: {_reason(answer)}")
    return PublishedAt(answer.headers["Location"], answer.headers["LAI-Publish-Outcome"])


def _reason(answer: requests.Response) -> str:
    try:
        return str(answer.json()["description"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
