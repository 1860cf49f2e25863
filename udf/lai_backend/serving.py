"""Listen on a port and serve a back-end until told to stop, by gunicorn.

One process answers, in threads; it also looks after the workers.
"""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import flask
from gunicorn.app.base import BaseApplication

from lai_backend.collections import COLLECTION_FILE
from lai_backend.errors import SettingsError
from lai_backend.launcher import warm_up
from lai_backend.limits import control_groups_work
from lai_backend.sandbox import weaknesses
from lai_backend.server import Backend, build_app
from lai_backend.settings import BackendSettings

_log = logging.getLogger(__name__)
THREADS = 16
LOCK_PATIENCE_S = 10
GRACE_S = 3


class Application(BaseApplication):
    """Gunicorn over one back-end."""

    def __init__(self, backend: Backend, listener: int, on_ready: Callable[[], None]) -> None:
        """Prepare; `run` serves until SIGINT or SIGTERM."""
        self._backend, self._listener, self._on_ready = backend, listener, on_ready
        super().__init__()

    def load_config(self) -> None:
        """Set what is not gunicorn's default."""
        server = os.getpid()

        def begin(worker: Any) -> None:
            self._backend.supervisor.start()
            self._on_ready()

        def end(arbiter: Any, worker: Any) -> None:
            if os.getppid() == server:  # else it was killed, and jobs go on for the next server
                self._backend.supervisor.stop()

        for name, value in {
            "bind": f"fd://{self._listener}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": THREADS,
            "timeout": 0,
            "graceful_timeout": GRACE_S,
            "loglevel": "error",
            "post_fork": lambda arbiter, worker: warm_up(),
            "post_worker_init": begin,
            "worker_exit": end,
        }.items():
            self.cfg.set(name, value)
        if "control_socket_disable" in self.cfg.settings:
            self.cfg.set("control_socket_disable", True)

    def load(self) -> flask.Flask:
        """Return the application, in the process that serves."""
        return build_app(self._backend)


def serve(settings: BackendSettings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then stop the workers; their jobs wait for the next server.

    Args:
        settings: what the operator decided.
        on_ready: told the address once requests are answered.
    """
    for name in ("openeo_driver", "openeo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _warn_of_empty_folders(settings.collection_dirs)
    backend = Backend(settings)
    with ExitStack() as opened:
        _lock(opened.enter_context((settings.data_dir / "lock").open("w")), settings)
        listener, port = _listen(settings)
        for weakness in weaknesses(control_groups_work()):
            _log.warning("%s", weakness)

        def ready() -> None:
            on_ready(f"http://{settings.host}:{port}")
            if not settings.password:
                where = settings.data_dir / "password"
                _log.warning("User %s, password in %s", settings.user, where)

        Application(backend, listener, ready).run()


def _listen(settings: BackendSettings) -> tuple[int, int]:
    """Return the descriptor of a listening socket, which gunicorn takes over, and its port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {settings.host}:{settings.port}; choose another --port."
        ) from error
    port = int(listener.getsockname()[1])
    return listener.detach(), port


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
