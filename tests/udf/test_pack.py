"""`lai-udf pack`: archives that a back-end unpacks and the UDF finds, and nothing else."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
from typer.testing import CliRunner

from lai_udf import pack as packing
from lai_udf.bundle import open_bundle
from lai_udf.cli import app
from lai_udf.errors import PackError
from lai_udf.pack import (
    Pack,
    dry_run,
    memory_option,
    pack,
    runtime_name,
    upload_archives,
    zip_folder,
)


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
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "pack"), "--no-measure"])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4
    lines = result.stderr.split("\n", 1)[1]
    compile(lines, "submission", "exec")
    assert "execute_batch" in lines
    assert len([line for line in lines.splitlines() if line]) == 10  # as promised


def test_offline_command_prints_what_is_missing(offline: None, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "pack"), "--no-measure"])

    assert result.exit_code == 0
    assert "no runtime archive: cannot fetch onnxruntime" in result.stderr


@pytest.mark.parametrize("python", ["3", "3.11.7", "three", "3.x"])
def test_version_that_is_none_is_refused(python: str) -> None:
    with pytest.raises(PackError):
        runtime_name(python)


def test_archives_at_no_address_are_refused(shipped: str, tmp_path: Path) -> None:
    with pytest.raises(PackError) as caught:
        pack(tmp_path / "pack", open_bundle(Path(shipped)), base_url="my/bucket", runtime=False)
    assert caught.value.parameter == "base_url"
    assert not (tmp_path / "pack").exists()


def test_unpacked_bundle_is_refused(known: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(known) as archive:
        archive.extractall(tmp_path / "folder")
    with pytest.raises(PackError):
        pack(tmp_path / "out", open_bundle(tmp_path / "folder"), base_url="https://example.com")
    assert not (tmp_path / "out").exists()


def zip_installed(package: str, archive: Path) -> Path:
    """Zip an installed package as `pack` zips a fetched one, uncompressed to be quick."""
    (home,) = importlib.util.find_spec(package).submodule_search_locations
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(Path(home).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                opened.write(path, Path(package, path.relative_to(home)))
    return archive


def needs_of(*names: str) -> set[str]:
    """Return the distributions that some need, without their extras, and themselves."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.split(r"[^A-Za-z0-9_.-]", waiting.pop(), maxsplit=1)[0].lower().replace("_", "-")
        if name not in found:
            found.add(name)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                lines = importlib.metadata.requires(name) or []
                waiting += [line for line in lines if "extra ==" not in line]
    return found


def test_worker_with_nothing_but_the_archives_predicts(tmp_path: Path, shipped: str) -> None:
    runtime = zip_installed("onnxruntime", tmp_path / "runtime.zip")

    result = dry_run(Path(shipped), runtime, dates=1, window_px=32)

    assert result.runtime.parts[-3:] == ("onnx_deps", "onnxruntime", "__init__.py")
    assert result.finite_share == 1.0
    assert not [name for name in result.modules if name.startswith("lai_")]
    # What ONNX Runtime needs besides what every back-end has would have to be packed as well.
    brought = needs_of("onnxruntime") - needs_of("openeo", "xarray") - {"onnxruntime"}
    owners = importlib.metadata.packages_distributions()
    used = {d.lower() for name in result.modules for d in owners.get(name, [])}
    assert brought & used == set()


def test_memory_is_asked_for_with_room_above_what_was_measured() -> None:
    assert memory_option(500 * 2**20) == "1024m"
    assert memory_option(513 * 2**20) == "1280m"


def test_a_worker_that_fails_is_one_sentence(known: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("model.json", "{}")
    with pytest.raises(PackError):
        dry_run(tmp_path / "empty.zip", None, dates=1, window_px=32)
    with pytest.raises(PackError):
        dry_run(tmp_path / "nowhere.zip", None)


@pytest.mark.network
def test_the_command_fetches_packs_and_measures(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "pack")])

    assert result.exit_code == 0, result.stderr
    assert "20 dates of 256 px" in result.stderr
    options = json.loads((tmp_path / "pack" / "job_options.json").read_text())
    assert 512 < int(options["python-memory"].removesuffix("m")) < 2048


def test_zip_keeps_the_content_of_files(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file.bin").write_bytes(bytes(range(256)))
    zip_folder(tmp_path / "in", tmp_path / "out.zip")

    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.read("deep/file.bin") == bytes(range(256))


class _Storage:
    """The object storage of a back-end, as the client's helper offers it."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.names = refuses, []

    def upload_file(self, path: Path) -> str:
        if self.refuses:
            raise OSError("no space")
        self.names.append(path.name)
        return f"s3://bucket/{path.name}"

    def get_presigned_url(self, uri: str) -> str:
        return uri.replace("s3://bucket", "https://storage.example.org") + "?signed"


def _offer(storage: _Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = SimpleNamespace(authenticate_oidc=lambda: "connection")
    monkeypatch.setattr("openeo.connect", lambda address: connection)
    module = SimpleNamespace(build_artifact_helper=lambda connection: storage)
    monkeypatch.setitem(sys.modules, "openeo.extra.artifacts", module)


def test_uploaded_archives_are_those_of_the_job_options(
    installer: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = _Storage()
    _offer(storage, monkeypatch)
    packed = pack_here(tmp_path)
    upload_archives(packed, "https://backend.example.org")

    options = json.loads((tmp_path / "job_options.json").read_text())
    archives = options["udf-dependency-archives"]
    assert [address.partition("?")[0].rpartition("/")[2] for address in archives] == storage.names
    assert [address.partition("#")[2] for address in archives] == ["lai_model", "onnx_deps"]
    lines = (tmp_path / "checksums.sha256").read_text().splitlines()
    sums = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    written = (tmp_path / "job_options.json").read_bytes()
    assert sums["job_options.json"] == hashlib.sha256(written).hexdigest()


def test_an_upload_that_fails_changes_nothing(
    installer: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offer(_Storage(refuses=True), monkeypatch)
    packed = pack_here(tmp_path)
    before = (tmp_path / "job_options.json").read_text()
    with pytest.raises(PackError):
        upload_archives(packed, "https://backend.example.org")
    assert (tmp_path / "job_options.json").read_text() == before
