"""Listen on a port and serve an application until it is stopped."""

import ctypes
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from lai_service.errors import SettingsError

_ARENAS = -8  # M_ARENA_MAX of malloc.h
_log = logging.getLogger("lai_service")


def hold_port(host: str, port: int) -> socket.socket:
    """Return a socket that holds an address, so that no other process gets it meanwhile.

    Args:
        host: name or address of this machine.
        port: 0 is a free one.

    Raises:
        SettingsError: the address is taken, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sends every part of an answer at once (TCP_NODELAY);
    # otherwise the second part waits 40 ms for the first to be acknowledged.
    held = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port"
        ) from error
    return held


def _share_memory() -> None:
    """Make the threads share two heaps of glibc: each would keep what its largest request took."""
    with suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).mallopt(_ARENAS, 2)


def serve_forever(
    app: FastAPI,
    held: socket.socket,
    trusted_proxies: Sequence[str] = ("127.0.0.1",),
    root_path: str = "",
) -> None:
    """Answer at an address that is held, until SIGINT or SIGTERM; logs the address.

    Args:
        app: the application.
        held: from `hold_port`.
        trusted_proxies: addresses whose forwarded headers name the caller and the scheme.
        root_path: path that a proxy takes off before it passes a request on; links begin with it.
    """
    _share_memory()
    sys.setswitchinterval(0.001)  # threads that read rasters let the event loop through sooner
    host, port = held.getsockname()[:2]
    _log.info("serving at http://%s:%d", f"[{host}]" if ":" in host else host, port)
    config = uvicorn.Config(
        app,
        root_path=root_path,
        proxy_headers=True,
        forwarded_allow_ips=list(trusted_proxies),
        access_log=False,
        log_config=None,
    )
    with suppress(KeyboardInterrupt):  # uvicorn passes it on when it has finished
        uvicorn.Server(config).run(sockets=[held])
