"""Start a server of ours as its user would, wait until it answers, stop it at the end."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from lai_udf.predict import LaiError

PATIENCE_S = 120


class LaiDemoError(LaiError):
    """A step did not do its work; the message names it and its log."""


@contextmanager
def starting(
    command: list[str], *, ready: str, log: Path, environment: Mapping[str, str]
) -> Iterator[Callable[[], str]]:
    """Run one of our servers on a free port of the loopback interface until the block ends.

    `command` is a script beside the interpreter and its arguments; `ready` a path that answers 200
    once the server is up; `log` a file for what it prints; `environment` is added to ours. Yields a
    function that waits for the server and returns its address, or raises `LaiDemoError`.
    """
    name, *arguments = command
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name(name), *arguments, f"--port={port}"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )

    def wait() -> str:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LaiDemoError(f"{name} ended with code {process.returncode}; see {log}")
            try:
                if requests.get(url + ready, timeout=2).ok:
                    return url
            except requests.RequestException:
                time.sleep(0.1)
        raise LaiDemoError(f"{name} did not answer at {url} within {PATIENCE_S} s; see {log}")

    try:
        yield wait
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
