"""Which files and addresses a worker may read.

A request names files in `load_stac` and in `udf-dependency-archives`. Local ones must lie below a
folder that the operator allowed; addresses must be http or https. Symbolic links are resolved
before they are judged.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlparse

import requests

from lai_backend.errors import AccessError, SourceError

HTTP_TIMEOUT_S = 60


def is_web_address(href: str) -> bool:
    """Return whether an address is http or https."""
    return urlparse(href).scheme in {"http", "https"}


def download(address: str, file: IO[bytes], most_bytes: int) -> None:
    """Fetch a file from the web into an open one.

    Raises:
        SourceError: it cannot be fetched, or is too large.
    """
    try:
        with requests.get(address, timeout=HTTP_TIMEOUT_S, stream=True) as response:
            response.raise_for_status()
            for chunk in response.iter_content(1 << 20):
                file.write(chunk)
                if file.tell() > most_bytes:
                    raise SourceError(f"{address} is larger than {most_bytes} bytes.")
        file.flush()
    except OSError as error:  # of the request (requests.RequestException is one) or of the disk
        raise SourceError(f"Cannot fetch {address}: {error}.") from error


def allowed_path(href: str, roots: Sequence[Path]) -> Path:
    """Return the local path behind a `file://` address or plain path, if it may be read.

    Args:
        href: what the client wrote.
        roots: resolved folders below which reading is allowed.

    Returns:
        The resolved path; it may not exist.

    Raises:
        AccessError: another scheme, another host, or a path outside the roots.
    """
    parts = urlparse(href)
    if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
        raise AccessError(f"{href} names a file on another host; only local files can be read.")
    if parts.scheme not in {"", "file"}:
        raise AccessError(f"{href}: only http, https and file addresses can be read.")
    path = Path(unquote(parts.path) if parts.scheme else href)
    if not path.is_absolute():
        raise AccessError(f"{href} is a relative path; give an absolute one.")
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root) for root in roots):
        raise AccessError(
            f"{resolved} lies outside the folders that this back-end may read "
            f"({', '.join(str(root) for root in roots) or 'none'}); "
            "start it with --allow FOLDER to add one."
        )
    return resolved
