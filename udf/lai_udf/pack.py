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
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from lai_udf import predict
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.bundle import Bundle
from lai_udf.errors import PackError
from lai_udf.udp import CDSE, MODEL_FOLDER, RUNTIME_FOLDER, job_options

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
"""Systems of the cloud back-ends, newest first."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member of an archive, so that its checksum depends on its content alone."""
TIMEOUT_S = 600
ARCHIVES = "udf-dependency-archives"
DOCUMENTS = ("job_options.json", "checksums.sha256")
MEMORY_HEADROOM = 2.0
"""A worker holds more than one window: what the back-end reads and writes besides."""
MEMORY_STEP_MIB = 256
DATES = 20  # clear dates of a season at 5 days
WINDOW_PX = 256
WORKER = """
import json, resource, sys, time
from importlib.machinery import PathFinder
from pathlib import Path

RUNTIME, DATES, WINDOW, BANDS = {runtime!r}, {dates}, {window}, {bands!r}


class OnlyFromArchives:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("lai_"):
            raise ImportError("no back-end has " + name)
        if name == "onnxruntime" and Path(RUNTIME).is_dir():
            return PathFinder.find_spec(name, [RUNTIME])


sys.meta_path.insert(0, OnlyFromArchives())
import numpy as np
import xarray as xr
from openeo.udf import UdfData, XarrayDataCube
from openeo.udf.run_code import run_udf_code

rng = np.random.default_rng(0)
leaf = np.array([0.02, 0.045, 0.025, 0.08, 0.25, 0.34, 0.36, 0.38, 0.18, 0.08], dtype="float32")
noise = rng.normal(1, 0.05, (DATES, len(BANDS), WINDOW, WINDOW)).astype("float32")
times = np.datetime64("2024-06-01", "ns") + np.arange(DATES) * np.timedelta64(5, "D")
coords = {{"t": times, "bands": BANDS}}
cube = xr.DataArray(leaf[:, None, None] * noise, dims=("t", "bands", "y", "x"), coords=coords)
data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context={{"model": "./" + {model!r}}})
start = time.perf_counter()
(result,) = run_udf_code(Path("udf.txt").read_text(), data).get_datacube_list()
seconds = time.perf_counter() - start
finite = float(np.isfinite(result.get_array().sel(bands="LAI")).mean())
origin = sys.modules["onnxruntime"].__file__
tops = {{name.split(".")[0] for name in sys.modules}}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([peak, seconds, finite, origin, sorted(tops)]))
"""


@dataclass(frozen=True)
class Pack:
    """What was packed."""

    files: tuple[Path, ...]  # archives, job options, checksums
    skipped: str  # why there is no runtime archive; empty where there is one
    submission: str  # python that submits a job with these files
    measured: "DryRun | None" = None
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
        PackError: the bundle is a folder, `python` is no version, `base_url` no address, or the
            UDF does not run.
        OutputNotWritableError: the folder or disk refuses.
    """
    if not urlsplit(base_url).scheme:
        raise PackError(
            parameter="base_url", value=base_url, expected="an address, such as https://…/lai"
        )
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
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        packed = work / names["runtime"] if runtime and not skipped and python == here else None
        measured = dry_run(work / names["model"], packed) if measure else None
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

    The checksums are written anew, for the job options hold signed addresses then. Logs in by
    OpenID Connect.

    Raises:
        PackError: the back-end offers no storage for artifacts, or refuses.
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
    except Exception as error:  # of the client, the storage or the network: they have no one root
        raise PackError(f"cannot upload to {backend}: {error}") from error
    options[ARCHIVES] = [f"{place}#{folder}" for place, folder in zip(places, folders, strict=True)]
    options_path.write_text(json.dumps(options, indent=2) + "\n")
    kept = [*archives, options_path]
    sums_path.write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in kept))


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
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
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


@dataclass(frozen=True)
class DryRun:
    """What a worker needed for one window."""

    peak_bytes: int  # largest resident memory of its process, libraries included
    seconds: float  # time of the function, the loading of the model included
    finite_share: float  # share of the pixels that have LAI
    runtime: Path  # where ONNX Runtime was imported from
    modules: frozenset[str]  # packages and modules that were imported, top level
    dates: int  # length of t
    window_px: int  # side of the window

    def __str__(self) -> str:
        """Return what was measured."""
        return (
            f"a worker with nothing but the archives took {self.peak_bytes / 1e9:.2f} GB and "
            f"{self.seconds:.1f} s for {self.dates} dates of {self.window_px} px"
        )


def dry_run(
    model: Path, runtime: Path | None, *, dates: int = DATES, window_px: int = WINDOW_PX
) -> DryRun:
    """Predict one window of vegetation as a worker would, with nothing but the archives.

    The worker is a process of its own whose folder holds the unpacked archives; none of our
    packages can be imported there.

    Args:
        model: the model archive.
        runtime: the runtime archive; None: the ONNX Runtime installed here.
        dates: length of t.
        window_px: side of the window, overlap included.

    Raises:
        PackError: an archive cannot be read, or the worker failed.
    """
    with tempfile.TemporaryDirectory(prefix="lai-worker-") as name:
        folder = Path(name)
        archives = {MODEL_FOLDER: model} | ({RUNTIME_FOLDER: runtime} if runtime else {})
        for target, archive in archives.items():
            try:
                with zipfile.ZipFile(archive) as opened:
                    opened.extractall(folder / target)
            except (OSError, zipfile.BadZipFile) as error:
                raise PackError(f"cannot unpack {archive} ({error})") from error
        (folder / "udf.txt").write_text(Path(predict.__file__).read_text(encoding="utf-8"))
        places = {"runtime": RUNTIME_FOLDER, "model": MODEL_FOLDER, "bands": list(predict.BANDS)}
        command = [sys.executable, "-c", WORKER.format(dates=dates, window=window_px, **places)]
        try:
            run = partial(subprocess.run, capture_output=True, text=True, timeout=TIMEOUT_S)
            done = run(command, cwd=folder)
        except subprocess.TimeoutExpired as error:
            raise PackError(f"the dry run of the UDF took more than {TIMEOUT_S} s") from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PackError(f"the UDF fails with nothing but the packed archives: {why}")
    peak, seconds, finite, origin, modules = json.loads(done.stdout.splitlines()[-1])
    return DryRun(peak, seconds, finite, Path(origin), frozenset(modules), dates, window_px)
