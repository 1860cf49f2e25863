"""Run the UDF as the worker of a back-end would, with nothing but its archives, and measure it.

In: the archives that `lai-udf pack` made. Out: memory and time of one window of many dates. The
worker is a process of its own whose folder holds the unpacked archives; none of our packages can be
imported there, and ONNX Runtime comes from its archive where there is one.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lai_udf import predict
from lai_udf.errors import PackError
from lai_udf.udp import MODEL_FOLDER, RUNTIME_FOLDER

DATES = 20  # clear dates of a season at 5 days
WINDOW_PX = 256
TIMEOUT_S = 600
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
class DryRun:
    """What a worker needed for one window."""

    peak_bytes: int  # largest resident memory of its process, libraries included
    seconds: float  # time of the function, the loading of the model included
    finite_share: float  # share of the pixels that have LAI
    runtime: Path  # where ONNX Runtime was imported from
    modules: frozenset[str]  # packages and modules that were imported, top level
    dates: int = DATES  # length of t
    window_px: int = WINDOW_PX  # side of the window

    def __str__(self) -> str:
        """Return what was measured."""
        return (
            f"a worker with nothing but the archives took {self.peak_bytes / 1e9:.2f} GB and "
            f"{self.seconds:.1f} s for {self.dates} dates of {self.window_px} px"
        )


def dry_run(
    model: Path, runtime: Path | None, *, dates: int = DATES, window_px: int = WINDOW_PX
) -> DryRun:
    """Predict one window of vegetation with nothing but the archives.

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
        return _run(folder, dates, window_px)


def _run(folder: Path, dates: int, window_px: int) -> DryRun:
    text = WORKER.format(
        runtime=RUNTIME_FOLDER,
        model=MODEL_FOLDER,
        dates=dates,
        window=window_px,
        bands=list(predict.BANDS),
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", text],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise PackError(f"the dry run of the UDF took more than {TIMEOUT_S} s") from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PackError(f"the UDF fails with nothing but the packed archives: {why}")
    peak, seconds, finite, origin, modules = json.loads(done.stdout.splitlines()[-1])
    return DryRun(peak, seconds, finite, Path(origin), frozenset(modules), dates, window_px)
