"""Pack what a job on a cloud back-end needs beside its graph: the model and the ONNX Runtime.

Out: a folder with two zip archives for `udf-dependency-archives`, `job_options.json`, and
`checksums.sha256`. The archives are the same byte for byte when packed again from the same parts.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.bundle import Bundle
from lai_udf.errors import PackError
from lai_udf.pack_dry_run import DryRun, dry_run
from lai_udf.udp import CDSE, job_options

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
"""Systems of the cloud back-ends, newest first."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member of an archive, so that its checksum depends on its content alone."""
INSTALL_TIMEOUT_S = 600
ARCHIVES = "udf-dependency-archives"
DOCUMENTS = ("job_options.json", "checksums.sha256")
MEMORY_HEADROOM = 2.0
"""A worker holds more than one window: what the back-end reads and writes besides."""
MEMORY_STEP_MIB = 256


@dataclass(frozen=True)
class Pack:
    """What was packed."""

    files: tuple[Path, ...]  # archives, job options, checksums
    skipped: str  # why there is no runtime archive; empty where there is one
    submission: str  # python that submits a job with these files
    measured: DryRun | None = None
    """What a worker needed with these archives; None where that was not measured."""


def pack(
    directory: Path,
    bundle: Bundle,
    *,
    python: str = "3.11",
    base_url: str,
    runtime: bool = True,
    measure: bool = False,
) -> Pack:
    """Write the archives, the job options and the checksums; all of them or none.

    Args:
        directory: folder, made if missing.
        bundle: the model.
        python: Python version of the back-end.
        base_url: where the archives will be uploaded; part of the job options.
        runtime: fetch the ONNX Runtime from the package registry; where that fails, its archive
            is left out and the result gives the reason.
        measure: run the UDF with nothing but the archives, and ask for the memory it took; with
            the ONNX Runtime installed here where the packed one is for another Python.

    Raises:
        PackError: the bundle is a folder, `python` is no version, or the UDF does not run.
        OutputNotWritableError: the folder or disk refuses.
    """
    if not bundle.path.is_file():
        raise PackError(f"{bundle.path} is no zip: pack the bundle as it was released")
    names = {"model": f"{bundle.model_id}-{bundle.version}.zip", "runtime": runtime_name(python)}
    skipped = "" if runtime else "the runtime was not asked for"
    with work_folder(directory) as work, disk_errors(directory):
        shutil.copyfile(bundle.path, work / names["model"])
        if runtime:
            try:
                fetch_runtime(work / "runtime", python)
                zip_folder(work / "runtime", work / names["runtime"])
            except PackError as error:
                skipped = str(error)
        measured = _measure(work, names, python) if measure else None
        options = job_options(*(f"{base_url.rstrip('/')}/{name}" for name in names.values()))
        if measured is not None:
            options["python-memory"] = memory_option(measured.peak_bytes)
        (work / "job_options.json").write_text(json.dumps(options, indent=2) + "\n")
        kept = [name for name in (*names.values(), "job_options.json") if (work / name).is_file()]
        sums = [f"{_sha256(work / name)}  {name}\n" for name in kept]
        (work / "checksums.sha256").write_text("".join(sums))
        kept.append("checksums.sha256")
        move_finished({work / name: directory / name for name in kept})
    files = tuple(directory / name for name in kept)
    return Pack(files, skipped, submission(directory), measured)


def upload_archives(packed: Pack, backend: str) -> None:
    """Upload the archives to the object storage of a back-end, and name them in the job options.

    The checksums are written anew, for the job options hold signed addresses then.

    Args:
        packed: what was packed; in its folder `job_options.json` is rewritten.
        backend: address of the back-end, which must offer storage for artifacts (as the Copernicus
            Data Space does); logs in by OpenID Connect.

    Raises:
        PackError: it offers none, or refuses.
    """
    options_path, sums_path = (packed.files[0].parent / name for name in DOCUMENTS)
    options = json.loads(options_path.read_text())
    folders = [address.partition("#")[2] for address in options[ARCHIVES]]
    archives = [path for path in packed.files if path.suffix == ".zip"]
    if len(archives) < len(folders):
        raise PackError(f"nothing is uploaded without the runtime archive: {packed.skipped}")
    try:
        import openeo
        from openeo.extra.artifacts import build_artifact_helper  # needs boto3

        connection = openeo.connect(backend).authenticate_oidc()
        helper = build_artifact_helper(connection)
        places = [helper.get_presigned_url(helper.upload_file(path)) for path in archives]
    except (
        Exception
    ) as error:  # of the client, the storage or the network, without a root of theirs
        raise PackError(f"cannot upload to {backend}: {error}") from error
    options[ARCHIVES] = [f"{place}#{folder}" for place, folder in zip(places, folders, strict=True)]
    options_path.write_text(json.dumps(options, indent=2) + "\n")
    kept = [*archives, options_path]
    sums_path.write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in kept))


def _measure(folder: Path, names: dict[str, str], python: str) -> DryRun:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    runtime = folder / names["runtime"]
    usable = runtime.is_file() and python == here
    return dry_run(folder / names["model"], runtime if usable else None)


def memory_option(peak_bytes: int) -> str:
    """Return the job option `python-memory` for a worker that needed so much, such as `1280m`."""
    steps = math.ceil(MEMORY_HEADROOM * peak_bytes / 2**20 / MEMORY_STEP_MIB)
    return f"{steps * MEMORY_STEP_MIB}m"


def runtime_name(python: str) -> str:
    """Return the file name of the runtime archive for a Python version such as `3.11`."""
    parts = python.split(".")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise PackError(f"Python {python!r}: give major and minor version, such as 3.11")
    return f"onnxruntime-python{''.join(parts)}.zip"


def fetch_runtime(target: Path, python: str) -> None:
    """Install the wheel of the ONNX Runtime, and it alone, for another Python into a folder.

    The version is the one installed here, which has run the model.

    Raises:
        PackError: there is no installer, no network, or no such wheel.
    """
    requirement = f"onnxruntime=={importlib.metadata.version('onnxruntime')}"
    reasons = []
    for command in _installers(requirement, target, python):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(str(error))
            continue
        if done.returncode == 0 and (target / "onnxruntime").is_dir():
            return
        reasons.append((done.stderr.strip().splitlines() or ["no message"])[-1])
    why = "; ".join(dict.fromkeys(reasons)) or "neither uv nor pip is installed"
    raise PackError(
        f"cannot fetch {requirement} for Python {python} ({why}): run lai-udf pack again where a "
        "package registry can be reached, or use a runtime archive made before"
    )


def _installers(requirement: str, target: Path, python: str) -> list[Sequence[str]]:
    """Return the commands that can do it, best first: uv if there is one, else pip."""
    common = ["--no-deps", "--only-binary", ":all:", "--python-version", python]
    common += ["--target", str(target), requirement]
    commands: list[Sequence[str]] = []
    if uv := shutil.which("uv"):
        commands.append([uv, "pip", "install", "--python-platform", PLATFORMS[0], *common])
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    if importlib.util.find_spec("pip") is not None:
        commands.append([sys.executable, "-m", "pip", "install", *platforms, *common])
    return commands


def zip_folder(folder: Path, archive: Path) -> None:
    """Zip a folder, its members at the root, sorted, without times, owners or byte code."""
    members = sorted(
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    with zipfile.ZipFile(archive, "w") as opened:
        for path in members:
            member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            member.external_attr = 0o644 << 16
            opened.writestr(member, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def submission(directory: Path) -> str:
    """Return the lines of Python that run a job with packed files on the Copernicus Data Space."""
    return f"""\
import json, openeo
from lai_udf import lai_from_collection

connection = openeo.connect("{CDSE}").authenticate_oidc()
lai = lai_from_collection(
    connection,
    spatial_extent={{"west": 5.05, "south": 51.21, "east": 5.1, "north": 51.23}},
    temporal_extent=["2023-06-01", "2023-07-01"],
)
options = json.load(open("{directory / "job_options.json"}"))
lai.execute_batch(out_format="netCDF", job_options=options).get_results().download_files("lai")
"""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
