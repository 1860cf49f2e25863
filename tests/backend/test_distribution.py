"""The back-end's own distribution, as pip resolves it in an empty environment."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest
import requests

from backend import conftest, udfs
from backend.clients import around, load

SOURCE = Path(__file__).parents[2] / "udf" / "lai_backend"


def test_a_start_without_its_packages_is_one_sentence(tmp_path):
    blocked = tmp_path / "waitress.py"
    blocked.write_text("raise ModuleNotFoundError('No module named waitress', name='waitress')")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lai_backend.cli import app; app()"
    command = [sys.executable, "-c", code, str(tmp_path), "serve", f"--collections={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert "waitress" in done.stderr


@pytest.mark.network
@pytest.mark.timeout(1200)
def test_pip_installs_it_into_an_empty_environment_and_it_serves(tiny, tmp_path, monkeypatch):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([home / "bin" / "pip", "install", "-q", SOURCE], check=True, cwd=tmp_path)
    monkeypatch.setattr(conftest, "LAI_BACKEND", str(home / "bin" / "lai-backend"))
    server = conftest.start_server(tmp_path / "data", tiny.folder)
    try:
        connection = server.connect()
        cube = around(
            load(connection, temporal_extent=["2024-06-01", "2024-06-02"]), udfs.TWO_BANDS
        )
        cube.download(tmp_path / "udf.nc", format="netCDF")
        assert (tmp_path / "udf.nc").stat().st_size > 10_000
        means = load(connection).aggregate_temporal_period("month", "mean")
        means.download(tmp_path / "means.nc", format="netCDF")
        offered = requests.get(f"{server.url}/openeo/1.2/processes", timeout=10).json()
        assert len(offered["processes"]) > 100
    finally:
        conftest.stop_server(server)
