"""What `pip install sentinel2-lai` brings: the wheel alone holds all that the commands need.

`python -m build` makes the sdist and the wheel from the sdist, so that both are proved. It takes
seconds and no network (hatchling is there); installing into an empty environment needs a package
registry and is a test of its own, deselected in `make test` and run by `.ci/run`.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("lai_udf", "lai_backend", "lai_training", "lai_stac", "lai_service", "lai_demo")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the working tree, by way of its sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run code that sees the wheel's packages and no working tree (-P, another folder)."""
    environment = {"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin", "HOME": str(path)}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_wheel_holds_every_file_of_the_packages(unpacked: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *(f"*/{package}/*" for package in PACKAGES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if tracked.returncode:
        pytest.skip("no git repository to compare with")
    expected = {Path(*Path(line).parts[1:]) for line in tracked.stdout.split()}
    assert expected
    missing = [path for path in expected if not (unpacked / path).is_file()]
    assert not [path for path in missing if (ROOT / path).exists()], "files are left out"


def test_the_wheel_holds_the_shipped_model_and_its_licence(unpacked: Path) -> None:
    code = "from lai_udf.bundle import open_bundle; b = open_bundle(); print(b.path, b.version)"

    run = run_python(code, unpacked)

    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(unpacked))
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))


def test_the_wheel_holds_tables_and_schemas(unpacked: Path) -> None:
    code = """
import numpy as np
import lai_stac.validation, lai_training.land.spectral_tables
from lai_training import sl2p
spectrum = [[0.05, 0.04, 0.09, 0.25, 0.3, 0.33, 0.18, 0.09, 1.0, 0.8, 0.5]]
print(sl2p.predict(np.array(spectrum))[0], sl2p.__file__)
"""
    run = run_python(code, unpacked)

    assert run.returncode == 0, run.stderr
    assert str(unpacked) in run.stdout
    assert (unpacked / "lai_stac" / "json-schema" / "schema.json").is_file()
    assert (unpacked / "lai_training" / "land" / "tables" / "soils.csv").is_file()


def test_commands_of_the_wheel_are_those_of_the_readme(unpacked: Path) -> None:
    text = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    for command in ("lai-udf", "lai-train", "lai-backend", "lai-service"):
        assert f"{command} = " in text


def test_the_sdist_holds_documents_and_tests(wheel: Path) -> None:
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in ("LICENSE", "README.md", "Makefile", "requirements.lock", "tests/conftest.py"):
        assert path in names


def test_a_command_without_its_packages_says_what_to_install(
    unpacked: Path, tmp_path: Path
) -> None:
    config = tmp_path / "experiment.yaml"
    config.touch()
    code = f"""
import sys
sys.modules["yaml"] = None
from lai_training.cli import app
app(["fit", {str(config)!r}])
"""
    run = run_python(code, unpacked)

    assert run.returncode == 1
    assert run.stderr == (
        'lai-train: fit needs the package yaml: pip install "sentinel2-lai[training]"\n'
    )


@pytest.mark.network
@pytest.mark.timeout(900)
def test_lai_udf_runs_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    import numpy as np

    from lai_training.land.simulate import simulate
    from lai_training.land.spectral_library import spectral_library

    library = spectral_library(1_500, np.random.default_rng(7))
    scene = simulate(tmp_path / "scene.tif", size=64, seed=1, library=library).scene
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([binaries / "python", "-m", "pip", "install", "-q", wheel], check=True)

    run = subprocess.run(
        [binaries / "lai-udf", "run", scene, tmp_path / "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "lai.tif").is_file()
