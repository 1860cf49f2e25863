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


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def starting(
    command: list[str], *, ready: str, log: Path, environment: Mapping[str, str]
) -> Iterator[Callable[[], None]]:
    """Run one of our console scripts until the block ends; yield a function that waits for it.

    Args:
        command: script name and arguments; the script is looked for beside the interpreter.
        ready: address that answers 200 once the server is up.
        log: file for what it prints.
        environment: variables added to ours.

    Raises:
        LaiDemoError: on waiting: it ended, or did not answer in time; the message names the log.
    """
    name, *arguments = command
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name(name), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LaiDemoError(f"{name} ended with code {process.returncode}; see {log}")
            try:
                if requests.get(ready, timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        raise LaiDemoError(f"{name} did not answer at {ready} within {PATIENCE_S} s; see {log}")

    try:
        yield wait
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running(
    command: list[str], *, ready: str, log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Run one of our console scripts, which answers by now, until the block ends."""
    with starting(command, ready=ready, log=log, environment=environment) as wait:
        wait()
        yield


class LaiDemoError(LaiError):
    """A step did not do its work; the message says which, and where its log is."""
