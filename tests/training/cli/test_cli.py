"""Errors of `lai-train` before any work begins."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer import BadParameter
from typer.main import get_command
from typer.testing import CliRunner, Result

from lai_training.cli import app


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused_parameter(*words: str | Path) -> str:
    """Return the name of the parameter that a command refuses as misuse."""
    with pytest.raises(BadParameter) as refusal:
        get_command(app).main([str(word) for word in words], standalone_mode=False)
    assert refusal.value.exit_code == 2
    assert refusal.value.param is not None
    return str(refusal.value.param.name)


def test_the_version_is_that_of_the_distribution() -> None:
    assert run("--version").output == f"lai-train {version('sentinel2-lai')}\n"


@pytest.mark.parametrize(("option", "value"), [("size", 15), ("clouds", 91)])
def test_what_cannot_be_simulated_is_misuse(tmp_path: Path, option: str, value: int) -> None:
    assert refused_parameter("simulate", tmp_path / "scene.tif", f"--{option}={value}") == option
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "parameter"),
    [("fit", "config"), ("export", "run")],
)
def test_a_missing_input_is_misuse(tmp_path: Path, command: str, parameter: str) -> None:
    outputs = ["out"] if command != "fit" else []
    assert refused_parameter(command, tmp_path / "nowhere", *outputs) == parameter


def test_a_wrong_config_is_refused_before_keras_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("network: mlp")
    script = (
        "import sys; from lai_training.cli import app;"
        f"sys.argv = ['lai-train', 'fit', {str(tmp_path / 'wrong.yaml')!r}];"
        "code = 0\n"
        "try: app()\n"
        "except SystemExit as end: code = end.code\n"
        "sys.exit(10 if 'keras' in sys.modules else code)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert ended.returncode == 1, ended.stderr
    assert "key seed is missing" in ended.stderr
