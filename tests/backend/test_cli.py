"""Errors of `lai-backend serve` where it is started wrongly; no server runs here."""

import fcntl
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer import BadParameter
from typer.main import get_command
from typer.testing import CliRunner

from lai_backend.cli import app
from lai_backend.errors import SettingsError
from lai_backend.settings import BackendSettings

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def run(*words: str | Path):
    return CliRunner().invoke(app, [str(word) for word in words])


def start(settings: BackendSettings) -> None:
    from lai_backend.serving import serve  # its imports warn, which the filters catch here

    serve(settings, on_ready=pytest.fail)


def test_the_version_is_that_of_the_distribution():
    assert run("--version").output == f"lai-backend {version('sentinel2-lai')}\n"


def test_a_port_beyond_the_last_is_misuse(tmp_path):
    words = ["serve", f"--collections={tmp_path}", "--port=65536"]
    with pytest.raises(BadParameter) as refusal:
        get_command(app).main(words, standalone_mode=False)
    assert (refusal.value.exit_code, refusal.value.param.name) == (2, "port")


@pytest.mark.parametrize("amount", ["lots", "1k"])
def test_an_amount_of_memory_is_refused_by_the_name_of_its_option(tmp_path, amount):
    result = run("serve", "--collections", tmp_path, "--memory", amount)
    assert result.exit_code == 2
    assert result.output.startswith("Error: --memory must be ")


def test_a_data_folder_that_takes_no_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError):
        start(BackendSettings(data_dir=tmp_path / "file"))


def test_a_folder_without_collections_is_logged(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError), caplog.at_level(logging.WARNING):
        start(BackendSettings(data_dir=tmp_path / "file", collection_dirs=(tmp_path,)))
    assert f"No collection.json lies below {tmp_path}" in caplog.text


def test_a_second_server_leaves_the_requests_of_the_first_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("lai_backend.serving.LOCK_PATIENCE_S", 0)
    at_work = tmp_path / "requests" / "one"
    at_work.mkdir(parents=True)

    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SettingsError):
            start(BackendSettings(collection_dirs=(), data_dir=tmp_path, port=0))

    assert at_work.is_dir()


def test_processes_load_without_asking_for_an_extra():
    command = [sys.executable, "-c", "import lai_backend.processes"]
    assert "Did not load" not in subprocess.run(command, capture_output=True, text=True).stderr
