"""Listen on a port and serve a back-end by waitress until it is stopped.

One process answers, in threads; it also looks after the workers.
"""

import fcntl
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import waitress

from lai_backend.collections import COLLECTION_FILE
from lai_backend.errors import SettingsError
from lai_backend.limits import control_groups_work
from lai_backend.sandbox import weaknesses
from lai_backend.server import Backend, build_app
from lai_backend.settings import BackendSettings

_log = logging.getLogger(__name__)
THREADS = 16
LOCK_PATIENCE_S = 10


def serve(settings: BackendSettings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then stop the workers; their jobs wait for the next server.

    Args:
        settings: what the operator decided.
        on_ready: called with the address once requests are answered.
    """
    for name in ("openeo_driver", "openeo", "waitress"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _warn_of_empty_folders(settings.collection_dirs)
    backend = Backend(settings)
    with (settings.data_dir / "lock").open("w") as lock:
        _lock(lock, settings)
        try:
            server = waitress.create_server(
                build_app(backend),
                host=settings.host,
                port=settings.port,
                ipv4=":" not in settings.host,
                ipv6=":" in settings.host,
                threads=THREADS,
                channel_request_lookahead=1,  # so that it notices clients that hang up
                clear_untrusted_proxy_headers=False,  # openeo-driver reads them
            )
        except OSError as error:
            raise SettingsError(
                f"Cannot listen on {settings.host}:{settings.port}; choose another --port."
            ) from error
        for weakness in weaknesses(control_groups_work()):
            _log.warning("%s", weakness)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
        try:
            backend.supervisor.start()
            on_ready(f"http://{settings.host}:{settings.port or server.effective_port}")
            if not settings.password:
                where = settings.data_dir / "password"
                _log.warning("User %s, password in %s", settings.user, where)
            server.run()
        finally:
            backend.supervisor.stop()
            server.close()


def _lock(file: IO[str], settings: BackendSettings) -> None:
    """Make sure that one server alone works in the data folder."""
    until = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if time.monotonic() > until:
                raise SettingsError(
                    f"Another server works in {settings.data_dir}; choose another --data."
                ) from error
            time.sleep(0.1)


def _warn_of_empty_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if next(folder.rglob(COLLECTION_FILE), None) is None:
            _log.warning(
                "No %s lies below %s: there is no collection to load until one is put there",
                COLLECTION_FILE,
                folder,
            )
