"""One scene, one run of the demo and one more that stays up, for all tests of this folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openeo
import pytest

from end_to_end.scenes import write_good_scene
from lai_demo.servers import starting
from lai_udf.bundle import default_bundle_path

DEMO = [sys.executable, "-m", "lai_demo"]


@dataclass(frozen=True)
class DemoRun:
    """A finished run of the demo, whose service is still up."""

    out: Path
    """Output folder."""
    printed: str
    """What it printed."""
    url: str = ""
    """Address of the STAC API."""

    @property
    def item_folder(self) -> Path:
        """The only folder that holds an item of the same name."""
        (folder,) = item_folders(self.out)
        return folder

    @property
    def job_raster(self) -> Path:
        """The float raster that the batch job gave back."""
        (raster,) = (self.out / "job").glob("*.tif")
        return raster


def item_folders(out: Path) -> list[Path]:
    """Return the folders `<out>/<id>` that hold `<id>.json`."""
    return [folder for folder in out.glob("*") if (folder / f"{folder.name}.json").is_file()]


def environment() -> dict[str, str]:
    # Tiny windows: one thread is quicker than several, here and in what the demo starts.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture(scope="session")
def demo_run(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoRun]:
    """Run the demo once, as its user does, with `--serve`; stop it with Ctrl-C at the end."""
    out = tmp_path_factory.mktemp("demo") / "out"
    process = subprocess.Popen(
        [*DEMO, f"--scene={scene}", f"--out={out}", "--window=96", "--serve"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    lines = []
    with process:
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("serving"):
                    break
            (url,) = (line.split()[-1] for line in lines if line.startswith("STAC API"))
            yield DemoRun(out, "".join(lines), url)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(30)
    assert code == 0, f"after Ctrl-C the demo ended with {code}"


@dataclass(frozen=True)
class Backend:
    """A back-end that serves the scene of the demo."""

    connection: openeo.Connection
    model: str
    """Bundle that it may read."""
    allowed: Path
    """A folder that it may read."""


@pytest.fixture(scope="session")
def backend(demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Serve the collection that the demo wrote; two jobs at a time."""
    bundle, allowed = default_bundle_path(), tmp_path_factory.mktemp("allowed")
    data = tmp_path_factory.mktemp("backend")
    command = ["lai-backend", "serve", f"--collections={demo_run.out / 'collections'}"]
    command += [f"--data={data}", "--max-jobs=2", "--threads=1"]
    command += [f"--allow={bundle.parent}", f"--allow={allowed}"]
    log = data / "server.log"
    variables = {"LAI_BACKEND_PASSWORD": "secret words", "OMP_NUM_THREADS": "1"}
    with starting(command, ready="/", log=log, environment=variables) as wait:
        connection = openeo.connect(wait()).authenticate_basic("lai", "secret words")
        yield Backend(connection, str(bundle), allowed)
