"""Start a server of ours as its user would, wait until it answers, stop it at the end."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from lai_demo.errors import LaiDemoError

PATIENCE_S = 120


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], *, ready: str, log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of our console scripts until the block ends.

    Args:
        command: script name and arguments; the script is looked for beside the interpreter.
        ready: address that answers 200 once the server is up.
        log: file for what it prints.
        environment: variables added to ours.

    Raises:
        LaiDemoError: it ended, or did not answer in time; the message names the log.
    """
    script = Path(sys.executable).with_name(command[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [script, *command[1:]],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        try:
            _wait(process, command[0], ready, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], name: str, ready: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LaiDemoError(f"{name} ended with code {process.returncode}; see {log}")
        try:
            if requests.get(ready, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise LaiDemoError(f"{name} did not answer at {ready} within {PATIENCE_S} s; see {log}")
