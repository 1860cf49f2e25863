"""Listen on a port and serve a back-end until told to stop."""

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from lai_backend.collections import COLLECTION_FILE
from lai_backend.errors import SettingsError
from lai_backend.server import Backend, build_app
from lai_backend.settings import Settings

_log = logging.getLogger(__name__)


class QuietHandler(WSGIRequestHandler):
    """A request handler that does not log every request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Leave ordinary requests out of the log."""


def make_http_server(settings: Settings, backend: Backend) -> BaseWSGIServer:
    """Return a threaded HTTP server that already holds its port.

    Raises:
        SettingsError: the address is in use or not ours.
    """
    for name in ("openeo_driver", "openeo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return make_server(
            settings.host,
            settings.port,
            build_app(backend),
            threaded=True,
            request_handler=QuietHandler,
        )
    except (OSError, SystemExit) as error:  # werkzeug exits where the port is taken
        raise SettingsError(
            f"Cannot listen on {settings.host}:{settings.port}; choose another --port."
        ) from error


def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then stop the workers.

    Args:
        settings: what the operator decided.
        on_ready: told the address once requests are answered.

    Raises:
        SettingsError: the port or the data folder cannot be used.
    """
    _warn_of_empty_folders(settings.collection_dirs)
    backend = Backend(settings)
    server = make_http_server(settings, backend)
    backend.supervisor.start()

    def stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    on_ready(f"http://{settings.host}:{server.server_port}")
    if not settings.password:
        _log.warning("User %s, password in %s", settings.user, settings.data_dir / "password")
    try:
        server.serve_forever()
    finally:
        backend.supervisor.stop()
        server.server_close()


def _warn_of_empty_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        if next(folder.rglob(COLLECTION_FILE), None) is None:
            _log.warning(
                "No %s lies below %s: there is no collection to load until one is put there",
                COLLECTION_FILE,
                folder,
            )
