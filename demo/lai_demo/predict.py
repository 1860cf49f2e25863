"""Predict over openEO: the unmodified client, our UDF, the back-end on this machine."""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openeo
from openeo.rest import JobFailedException, OpenEoApiError

from lai_demo.errors import LaiDemoError
from lai_demo.scene import COLLECTION, SCENE_SCALE, DemoScene
from lai_demo.servers import free_port, running
from lai_udf.bundle import Bundle
from lai_udf.process_graph import lai_cube

SYNCHRONOUS_PX = 64


@dataclass(frozen=True)
class Prediction:
    """What the back-end gave back."""

    raster: Path
    """Multiband float32 GeoTIFF of the batch job."""
    preview: Path
    """netCDF of the synchronous request over the middle of the scene."""
    process_graph: dict[str, Any]
    """The graph of the job."""
    job: dict[str, Any]
    """STAC metadata of the job's results."""


def check_settings(*, samples: int, window: int) -> None:
    """Raise, before a scene is read or a server starts, what the graph would refuse.

    Raises:
        lai_udf.errors.LaiGraphError: the window.
        lai_udf.predict.LaiInputError: the samples.
    """
    nothing = openeo.DataCube.load_collection(COLLECTION, fetch_metadata=False)
    lai_cube(nothing, size=window, samples=samples)


def predict_scene(
    scene: DemoScene,
    collections: Path,
    folder: Path,
    bundle: Bundle,
    *,
    samples: int,
    window: int,
    say: Callable[[str], None],
) -> Prediction:
    """Run the LAI graph once synchronously (a corner) and once as a batch job (everything)."""
    port, password = free_port(), secrets.token_urlsafe(12)
    url = f"http://127.0.0.1:{port}"
    command = ["lai-backend", "serve", "--collections", str(collections), "--port", str(port)]
    command += ["--data", str(folder / "backend"), "--allow", str(bundle.path.parent)]
    with running(
        command,
        ready=f"{url}/",
        log=folder / "logs" / "lai-backend.log",
        environment={"LAI_BACKEND_PASSWORD": password},
    ):
        say(f"openEO back-end on {url}")
        connection = openeo.connect(url).authenticate_basic("lai", password)
        settings: dict[str, Any] = {
            "size": window,
            "samples": samples,
            "reflectance_scale": SCENE_SCALE,
        }
        try:
            preview = folder / "preview.nc"
            corner = _load(connection, scene, _middle(scene))
            lai_cube(corner, model=str(bundle.path), **settings).download(preview)
            say(f"synchronous request: {preview.name}")
            graph = lai_cube(_load(connection, scene, None), **settings)
            job = graph.create_job(
                out_format="GTiff",
                title="LAI of the demo scene",
                job_options={"udf-dependency-archives": [f"{bundle.path.as_uri()}#lai_model"]},
            )
            job.start_and_wait(print=lambda line: None, max_poll_interval=1)
            results = job.get_results()
            files = results.download_files(folder / "job", include_stac_metadata=False)
        except (OpenEoApiError, JobFailedException) as error:
            raise LaiDemoError(_reason(error, folder)) from error
        say(f"batch job {job.job_id}: {', '.join(path.name for path in files)}")
        raster = next(path for path in files if path.suffix in (".tif", ".tiff"))
        return Prediction(raster, preview, json.loads(graph.to_json()), results.get_metadata())


def _reason(error: Exception, folder: Path) -> str:
    """Return the sentence of the UDF or the back-end, and where its log is."""
    ours = " (here: SCALE= and OFFSET=)" if "reflectance_" in str(error) else ""
    log = folder / "logs" / "lai-backend.log"
    return f"the back-end refused or failed: {error}{ours}; log: {log}"


def _load(
    connection: openeo.Connection, scene: DemoScene, extent: dict[str, Any] | None
) -> openeo.DataCube:
    day = datetime.fromisoformat(scene.reflectance.attrs["datetime"]).date()
    return connection.load_collection(
        COLLECTION,
        spatial_extent=extent,
        temporal_extent=[str(day), str(day + timedelta(days=1))],
    )


def _middle(scene: DemoScene) -> dict[str, Any]:
    """Return the extent of at most 64 x 64 px in the middle of the scene, in its own CRS."""
    west, south, east, north = scene.reflectance.rio.bounds()
    x, y = (west + east) / 2, (south + north) / 2
    half = 20.0 * SYNCHRONOUS_PX / 2
    return {
        "west": max(west, x - half),
        "south": max(south, y - half),
        "east": min(east, x + half),
        "north": min(north, y + half),
        "crs": str(scene.reflectance.rio.crs),
    }
