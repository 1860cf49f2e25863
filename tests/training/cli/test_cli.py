"""What `lai-train` says before any work begins."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lai_training.cli import app


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_version_is_that_of_the_distribution() -> None:
    assert run("--version").output == f"lai-train {version('sentinel2-lai')}\n"


@pytest.mark.parametrize(
    ("option", "value", "limit"), [("--size", 15, "16"), ("--clouds", 91, "90")]
)
def test_what_cannot_be_simulated_is_misuse(
    tmp_path: Path, option: str, value: int, limit: str
) -> None:
    result = run("simulate", tmp_path / "scene.tif", option, str(value))

    assert result.exit_code == 2
    assert limit in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["fit", "ablation", "export", "variables"])
def test_a_missing_input_is_misuse(tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path / "nowhere", *(["out"] if command != "fit" else []))

    assert result.exit_code == 2
    assert "does not exist" in result.output


def test_a_wrong_config_is_told_before_keras_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("network: seamless")
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
