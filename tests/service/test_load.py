"""The benchmark of load and kills, short: every promise is kept (`benchmarks/load.py`)."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_service_keeps_its_promises_under_load_and_kills(database_url: str | None) -> None:
    command = [sys.executable, str(BENCHMARKS / "load.py"), "--seconds", "3", "--kills", "3"]
    if database_url is not None:
        command += ["--database", database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kept every promise" in done.stdout
