"""What `pip install sentinel2-lai` brings: the wheel alone holds all that the commands need.

`python -m build` makes the sdist and the wheel from the sdist, so that both are proved. It takes
seconds and no network (hatchling is there); installing into an empty environment needs a package
registry and is a test of its own, deselected in `make test` and run by `.ci/run`.
"""

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
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
import lai_stac.validation, lai_training.simulation.spectral_library
from lai_training import sl2p
spectrum = [[0.05, 0.04, 0.09, 0.25, 0.3, 0.33, 0.18, 0.09, 1.0, 0.8, 0.5]]
print(sl2p.predict(np.array(spectrum))[0], sl2p.__file__)
"""
    run = run_python(code, unpacked)

    assert run.returncode == 0, run.stderr
    assert str(unpacked) in run.stdout
    assert (unpacked / "lai_stac" / "json-schema" / "schema.json").is_file()
    assert (unpacked / "lai_training" / "simulation" / "tables" / "spectra_of_scenes.npz").is_file()


def test_commands_of_the_wheel_are_those_of_the_readme(unpacked: Path) -> None:
    text = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    for command in ("lai-udf", "lai-train", "lai-backend", "lai-service"):
        assert f"{command} = " in text


def test_the_sdist_holds_documents_and_tests(wheel: Path) -> None:
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in ("LICENSE", "README.md", "Makefile", "requirements.lock", "tests/conftest.py"):
        assert path in names


def test_a_command_without_its_packages_prints_what_to_install(
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


def test_every_package_is_typed(unpacked: Path) -> None:
    assert [name for name in PACKAGES if not (unpacked / name / "py.typed").is_file()] == []


def advertised_extras(wheel: Path) -> list[str]:
    """Return the extras that the metadata of the wheel name."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        return message_from_bytes(archive.read(name)).get_all("Provides-Extra", [])


def empty_environment(folder: Path) -> Path:
    """Make a virtual environment without packages; returns its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin"


@pytest.mark.network
@pytest.mark.timeout(900)
def test_pip_resolves_every_advertised_extra_in_an_empty_environment(
    wheel: Path, tmp_path: Path
) -> None:
    """Resolved, not installed: `training` alone is 2 GB."""
    pip = [empty_environment(tmp_path / "venv") / "python", "-m", "pip"]
    extras = advertised_extras(wheel)
    assert {"service", "training"} <= set(extras)
    refused = {}
    for extra in extras:
        command = [*pip, "install", "--dry-run", "--quiet", f"{wheel}[{extra}]"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            refused[extra] = done.stderr[-1000:]
    assert not refused


@pytest.mark.network
@pytest.mark.timeout(900)
def test_the_service_starts_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    binaries = empty_environment(tmp_path / "venv")
    subprocess.run(
        [binaries / "python", "-m", "pip", "install", "-q", f"{wheel}[service]"], check=True
    )
    code = (
        "from pathlib import Path; from lai_service.app import create_app;"
        "from lai_service.settings import read_settings;"
        f"create_app(read_settings(data=Path({str(tmp_path)!r})))"
    )
    for command in ([binaries / "lai-service", "--help"], [binaries / "python", "-c", code]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.network
@pytest.mark.timeout(900)
def test_lai_udf_runs_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    import numpy as np

    from lai_training.simulation.simulate import simulate
    from lai_training.simulation.spectral_library import shipped_library
    from lai_udf.scenes.read import read_scene

    scene = simulate(tmp_path / "scene.tif", size=64, seed=1, library=shipped_library()).scene
    cube = read_scene(scene)
    cube = cube.expand_dims(t=[np.datetime64("2020-06-08T10:56:21", "ns")]).rename("reflectance")
    cube.attrs = {}
    cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    cube.to_zarr(tmp_path / "cube.zarr", zarr_format=2)
    binaries = empty_environment(tmp_path / "venv")
    subprocess.run([binaries / "python", "-m", "pip", "install", "-q", wheel], check=True)

    for source in ("scene.tif", "cube.nc", "cube.zarr"):
        run = subprocess.run(
            [binaries / "lai-udf", "run", source, f"out-{source}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert next((tmp_path / f"out-{source}").rglob("lai*.tif")).is_file()
