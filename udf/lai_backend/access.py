"""Which files and addresses a worker may read.

A request names files in `load_stac`, `load_url` and `udf-dependency-archives`, and so do the items
it leads to. Local ones must lie below a folder that the operator allowed, after symbolic links are
resolved; addresses must be http or https, and of a server of a back-end public ones, unless the
operator lets requests reach private networks.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urljoin, urlparse

import requests

from lai_backend.errors import AccessError, SourceError

HTTP_TIMEOUT_S = 60
_only = {"public": False}


def refuse_private_addresses() -> None:
    """Restrict this process to public addresses, from now on."""
    _only["public"] = True


def is_web_address(href: str) -> bool:
    """Return whether an address is http or https."""
    return urlparse(href).scheme in {"http", "https"}


def check_address(href: str) -> None:
    """Refuse an address of a private network, where they are refused; unknown hosts fail later."""
    host = urlparse(href).hostname
    if not _only["public"] or host is None:
        return
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return
    if not all(ipaddress.ip_address(one.partition("%")[0]).is_global for one in found):
        raise AccessError(
            f"{href} lies in a private network; the back-end reads public addresses only, unless "
            "it is started with --private-network."
        )


def get(url: str) -> requests.Response:
    """Open an address; it and what it redirects to may be public only, where that is wanted."""
    check_address(url)

    def follow(response: requests.Response, **_: Any) -> None:
        if response.is_redirect:
            check_address(urljoin(response.url, response.headers["location"]))

    response = requests.get(url, timeout=HTTP_TIMEOUT_S, stream=True, hooks={"response": follow})
    response.raise_for_status()
    return response


def check_redirects(href: str) -> None:
    """Refuse an address that leads to a private network, where they are refused.

    For what GDAL opens: it follows redirects by itself, and 3.10 has no option against it.
    """
    if _only["public"] and is_web_address(href):
        with contextlib.suppress(requests.RequestException), get(href):
            pass  # GDAL reports what does not answer


def download(address: str, file: IO[bytes], most_bytes: int) -> None:
    """Fetch a file from the web into an open one."""
    try:
        with get(address) as response:
            for chunk in response.iter_content(1 << 20):
                file.write(chunk)
                if file.tell() > most_bytes:
                    raise SourceError(f"{address} is larger than {most_bytes} bytes.")
        file.flush()
    except OSError as error:  # of the request (requests.RequestException is one) or of the disk
        raise SourceError(f"Cannot fetch {address}: {error}.") from error


def allowed_path(href: str, roots: Sequence[Path]) -> Path:
    """Return the resolved path behind a `file://` address or absolute path; it may not exist.

    Args:
        href: what the client wrote.
        roots: resolved folders below which reading is allowed.
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
