"""`lai-udf pack`: archives that a back-end unpacks and the UDF finds, and nothing else."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_cubes import fake_cube
from typer.testing import CliRunner

from lai_udf import pack as packing
from lai_udf.bundle import open_bundle
from lai_udf.cli import app
from lai_udf.errors import PackError
from lai_udf.pack import Pack, pack, runtime_name, zip_folder
from lai_udf.predict import apply_datacube


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Replace the installer by one that needs no network; return the commands it got."""
    commands: list[Sequence[str]] = []

    def install(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        home = Path(command[list(command).index("--target") + 1]) / "onnxruntime"
        (home / "__pycache__").mkdir(parents=True)
        (home / "__init__.py").write_text("version = 1\n")
        (home / "__pycache__" / "x.pyc").write_bytes(b"byte code")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packing.subprocess, "run", install)
    monkeypatch.setattr(packing.shutil, "which", lambda name: f"/bin/{name}")
    return commands


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "some text\nerror: no route to host\n")

    monkeypatch.setattr(packing.subprocess, "run", fail)
    monkeypatch.setattr(packing.shutil, "which", lambda name: f"/bin/{name}")


def pack_here(folder: Path) -> Pack:
    return pack(folder, open_bundle(), base_url="https://example.com/lai/")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pack_holds_archives_options_and_checksums(
    installer: list[Sequence[str]], tmp_path: Path
) -> None:
    bundle = open_bundle()
    packed = pack_here(tmp_path / "pack")

    model = f"{bundle.model_id}-{bundle.version}.zip"
    assert names(tmp_path / "pack") == sorted(
        ["checksums.sha256", "job_options.json", "onnxruntime-python311.zip", model]
    )
    assert packed.skipped == ""
    assert (tmp_path / "pack" / model).read_bytes() == bundle.path.read_bytes()


def test_options_name_a_folder_for_each_archive(
    installer: list[Sequence[str]], tmp_path: Path
) -> None:
    pack_here(tmp_path)
    options = json.loads((tmp_path / "job_options.json").read_text())

    for entry, folder in zip(
        options["udf-dependency-archives"], ["lai_model", "onnx_deps"], strict=True
    ):
        address, name = entry.split("#")
        assert name == folder
        assert address.startswith("https://example.com/lai/")
        assert (tmp_path / address.rsplit("/", 1)[1]).is_file()


def test_checksums_are_those_of_the_files(installer: list[Sequence[str]], tmp_path: Path) -> None:
    pack_here(tmp_path)

    lines = (tmp_path / "checksums.sha256").read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        expected, name = line.split("  ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == expected


def test_packing_again_gives_the_same_bytes(installer: list[Sequence[str]], tmp_path: Path) -> None:
    pack_here(tmp_path / "one")
    pack_here(tmp_path / "two")

    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_runtime_is_the_version_that_has_run_the_model(
    installer: list[Sequence[str]], tmp_path: Path
) -> None:
    pack(tmp_path, open_bundle(), python="3.12", base_url="https://example.com")
    (command,) = installer

    assert f"onnxruntime=={onnxruntime.__version__}" in command
    assert command[list(command).index("--python-version") + 1] == "3.12"
    assert "--no-deps" in command
    assert (tmp_path / "onnxruntime-python312.zip").is_file()


def test_archive_holds_members_at_its_root_without_byte_code(
    installer: list[Sequence[str]], tmp_path: Path
) -> None:
    pack_here(tmp_path)
    with zipfile.ZipFile(tmp_path / "onnxruntime-python311.zip") as archive:
        assert archive.namelist() == ["onnxruntime/__init__.py"]


def test_offline_the_runtime_is_left_out_with_a_reason(offline: None, tmp_path: Path) -> None:
    packed = pack_here(tmp_path)

    assert "no route to host" in packed.skipped
    assert "run lai-udf pack again" in packed.skipped
    assert not list(tmp_path.glob("onnxruntime*"))
    assert len(names(tmp_path)) == 3


def test_command_prints_files_and_the_lines_to_submit(
    installer: list[Sequence[str]], tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "pack")])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4
    lines = result.stderr.split("\n", 1)[1]
    compile(lines, "submission", "exec")
    assert "create_job" in lines


def test_offline_command_says_what_is_missing(offline: None, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "pack")])

    assert result.exit_code == 0
    assert "no runtime archive: cannot fetch onnxruntime" in result.stderr


@pytest.mark.parametrize("python", ["3", "3.11.7", "three", "3.x"])
def test_version_that_is_none_is_refused(python: str) -> None:
    with pytest.raises(PackError, match=r"such as 3\.11"):
        runtime_name(python)


def test_unpacked_bundle_is_refused(known: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(known) as archive:
        archive.extractall(tmp_path / "folder")
    with pytest.raises(PackError, match="is no zip"):
        pack(tmp_path / "out", open_bundle(tmp_path / "folder"), base_url="https://example.com")
    assert not (tmp_path / "out").exists()


WORKER = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path

class OnlyFromArchives:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top.startswith("lai_"):
            raise ImportError("forbidden here: " + name)
        if name == "onnxruntime":
            return PathFinder.find_spec(name, ["onnx_deps"])

sys.meta_path.insert(0, OnlyFromArchives())
import numpy as np
import xarray as xr
from openeo.udf import UdfData, XarrayDataCube
from openeo.udf.run_code import run_udf_code

case = np.load("case.npz")
cube = xr.DataArray(case["values"], dims=("bands", "y", "x"), coords={"bands": case["bands"]})
data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context={})
(result,) = run_udf_code(Path("udf.txt").read_text(), data).get_datacube_list()
np.save("lai.npy", result.get_array().values)
import onnxruntime
print(onnxruntime.__file__)
"""


def test_worker_with_nothing_but_the_archives_predicts(
    tmp_path: Path, udf_code: str, shipped: str
) -> None:
    # The worker's folder, as a back-end leaves it after unpacking the two archives.
    with zipfile.ZipFile(shipped) as archive:
        archive.extractall(tmp_path / "lai_model")
    (tmp_path / "onnx_deps").mkdir()
    (tmp_path / "onnx_deps" / "onnxruntime").symlink_to(Path(onnxruntime.__file__).parent)
    (tmp_path / "udf.txt").write_text(udf_code)
    cube = fake_cube(np.random.default_rng(9), 32).isel(t=0, drop=True)
    np.savez(tmp_path / "case.npz", values=cube.values, bands=cube["bands"].values)

    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert "onnx_deps" in done.stdout, done.stderr[-2000:]
    expected = apply_datacube(cube, {"model": shipped}).values
    np.testing.assert_array_equal(np.load(tmp_path / "lai.npy"), expected)


def test_zip_keeps_the_content_of_files(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file.bin").write_bytes(bytes(range(256)))
    zip_folder(tmp_path / "in", tmp_path / "out.zip")

    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.read("deep/file.bin") == bytes(range(256))
