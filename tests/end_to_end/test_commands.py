"""The contract of `make`: what its targets call, and how their variables arrive."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import lai_demo.steps
from end_to_end.scenes import read_raster, write_raster
from lai_demo.__main__ import main
from lai_demo.steps import DemoOptions, open_demo_scene, write_collection

pytestmark = [
    # rioxarray multiplies affine transforms with `*`
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

ROOT = Path(__file__).parents[2]


def command_of(*target: str) -> list[str]:
    """Return the words of the last command that `make` would run, variables in place."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    # `make test` would hand its own variables and level down to this `make`.
    bare = {"PATH": os.environ["PATH"]}
    planned = subprocess.run(
        [make, "-n", *target], cwd=ROOT, capture_output=True, text=True, env=bare, check=True
    )
    return shlex.split(planned.stdout.replace("\\\n", " ").splitlines()[-1])


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[DemoOptions]:
    """Return the options passed to `run_demo`, instead of walking."""
    heard: list[DemoOptions] = []

    def listen(options: DemoOptions, report: object) -> str:
        heard.append(options)
        return ""

    monkeypatch.setattr(lai_demo.steps, "run_demo", listen)
    return heard


def run(words: list[str]) -> None:
    command = typer.Typer()
    command.command()(main)
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output


def test_make_demo_alone_walks_the_simulated_scene_into_build_demo(passed):
    words = command_of("demo")
    assert words[:3] == [".venv/bin/python", "-m", "lai_demo"]
    run(words[3:])
    assert passed == [DemoOptions(out=Path("build/demo"))]


def test_make_demo_hands_every_variable_over(passed):
    variables = ["SCENE=a b.tif", "OUT=c d", "SCALE=0.0001", "OFFSET=-0.1", "SAMPLES=30"]
    variables += ["WINDOW=96", "DATETIME=2021-06-24T10:30:31Z", "MODEL=m.zip", "SERVE=1"]
    run(command_of("demo", *variables)[3:])
    assert passed == [
        DemoOptions(
            out=Path("c d"),
            scene="a b.tif",
            declared={
                "reflectance_scale": 0.0001,
                "reflectance_offset": -0.1,
                "datetime": "2021-06-24T10:30:31Z",
            },
            samples=30,
            window=96,
            model=Path("m.zip"),
            serve=True,
        )
    ]


def test_make_test_runs_pytest_without_what_a_laptop_lacks():
    words = command_of("test", "ARGS=tests/udf")
    assert words[:3] == [".venv/bin/python", "-m", "pytest"]
    assert words[-1] == "tests/udf"
    assert "not network and not gpu and not postgres and not slow" in words


def test_ci_runs_the_test_command_of_the_readme_and_the_checks():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines.index("make test") < lines.index("make check")
    assert "make test" in (ROOT / "README.md").read_text()


def test_declared_scale_and_offset_read_undeclared_numbers(scene, tmp_path):
    raster = read_raster(scene)
    raster.scales, raster.offsets = (1.0,) * 10, (0.0,) * 10
    path = write_raster(raster, tmp_path / "plain.tif")
    plain = open_demo_scene(str(path), reflectance_scale=0.0001, reflectance_offset=-0.1)
    declared = open_demo_scene(str(scene))
    difference = plain - declared.sel(bands=plain.bands.values)
    assert float(abs(difference).max()) < 1e-6


def test_another_scene_in_the_same_folder_replaces_the_collection(scene, tmp_path):
    first = open_demo_scene(str(scene))
    write_collection(first, tmp_path)
    raster = read_raster(scene)  # has no angles
    raster.tags = {"DATETIME": "2021-06-24T10:30:31Z", "PRODUCT_ID": "other"}
    write_collection(open_demo_scene(str(write_raster(raster, tmp_path / "other.tif"))), tmp_path)
    (collection,) = tmp_path.glob("*/collection.json")
    files = {path.name for path in collection.parent.iterdir()}
    assert files == {"collection.json", "other.json", "scene.tif"}
    assert json.loads((collection.parent / "other.json").read_text())["id"] == "other"
