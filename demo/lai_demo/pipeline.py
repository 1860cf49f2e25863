"""The data flow: scene -> back-end -> COGs -> item -> service -> search."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pystac_client
import xarray as xr
from pystac_client.exceptions import APIError

from lai_demo.errors import LaiDemoError
from lai_demo.predict import Prediction, check_settings, predict_scene
from lai_demo.scene import DemoScene, open_demo_scene, simulate_scene_file, write_collection
from lai_demo.servers import free_port, running
from lai_demo.summary import compare, format_summary
from lai_service.ops.browser_build import cache_folder, is_built
from lai_service.ops.client import publish_directory
from lai_stac.item import describe_cube
from lai_stac.quicklook import write_quicklook
from lai_udf.bundle import open_bundle
from lai_udf.cog import read_lai_cogs, read_lai_geotiff
from lai_udf.identity import source_name

STEPS = 5
NOT_BUILT = " (a plain page; .venv/bin/lai-service browser builds the real one, with node 20)"


@dataclass(frozen=True)
class DemoOptions:
    """Options of `make demo`."""

    out: Path
    """Output folder."""
    scene: str | None = None
    """Real product; none = the simulated scene."""
    scale: float | None = None
    """Reflectance scale of undeclared data."""
    offset: float | None = None
    """Reflectance offset of undeclared data."""
    datetime: str | None = None
    """Time of acquisition of a scene that does not state it, ISO 8601."""
    samples: int = 0
    """Monte-Carlo draws."""
    window: int = 224
    """Core of the windows, px."""
    model: Path | None = None
    """Model bundle; none = the shipped one."""
    serve: bool = False
    """Leave the service up at the end."""


def run_demo(options: DemoOptions, say: Callable[[str], None]) -> str:
    """Run all steps and return the summary; with `serve`, wait for an interrupt first."""
    out = options.out.resolve()
    check_settings(samples=options.samples, window=options.window)
    _make_writable(out)
    bundle = open_bundle(options.model)
    say(f"1/{STEPS} scene")
    href = options.scene or str(simulate_scene_file(out / "scene"))
    scene = open_demo_scene(
        href, scale=options.scale, offset=options.offset, datetime=options.datetime
    )
    collections = write_collection(scene, out / "collections")
    say(f"    {scene.reflectance.sizes['y']} x {scene.reflectance.sizes['x']} px: {href}")

    say(f"2/{STEPS} predict over openEO ({bundle.model_id} {bundle.version})")
    prediction = predict_scene(
        scene,
        collections,
        out,
        bundle,
        samples=options.samples,
        window=options.window,
        say=lambda line: say(f"    {line}"),
    )

    say(f"3/{STEPS} describe")
    directory = describe_prediction(prediction, scene, dict(bundle.description), options, out)
    lai = read_lai_cogs(directory)
    say(f"    {directory.name}")

    say(f"4/{STEPS} publish")
    with serving(out) as (url, token):
        published = publish_directory(directory, url, token, "lai")
        say(f"    {published.outcome}: {published.address}")
        say(f"5/{STEPS} search")
        say(f"    {find_item(url, directory.name, scene)}")
        files = list(directory.glob("*.*"))
        browser = f"{url}/browser" + ("" if is_built(cache_folder()) else NOT_BUILT)
        addresses = {"published as": published.address, "STAC API": url, "STAC Browser": browser}
        summary = format_summary(lai, compare(scene.reflectance, lai), files, addresses)
        if options.serve:
            say(f"{summary}\n\nserving until Ctrl-C")
            _wait_for_interrupt()
            return ""
    return f"{summary}\n\nThe addresses answer while the service runs: make demo SERVE=1"


def describe_prediction(
    prediction: Prediction,
    scene: DemoScene,
    model: dict[str, object],
    options: DemoOptions,
    out: Path,
) -> Path:
    """Turn the job's raster into `<out>/<item id>/` with COGs, pictures and the item."""
    lai: xr.DataArray = read_lai_geotiff(prediction.raster)
    directory = describe_cube(
        lai,
        out,
        replace=True,
        model=model,
        datetime=scene.reflectance.attrs["datetime"],
        platform=scene.reflectance.attrs.get("platform"),
        scene_href=scene.href if scene.href.startswith("http") else None,
        sources=[scene.reflectance.attrs.get("product_id") or source_name(scene.href)],
        scene_classification="SCL" in scene.reflectance.bands.values,
        process_graph=prediction.process_graph,
        job_metadata=prediction.job,
        samples=options.samples,
        seed=0 if options.samples else None,
    )
    write_quicklook(lai, directory / "quicklook.png")
    return directory


@contextmanager
def serving(out: Path) -> Iterator[tuple[str, str]]:
    """Run `lai-service serve` over `<out>/service`; yields its address and a token."""
    port, token = free_port(), secrets.token_urlsafe(24)
    url = f"http://127.0.0.1:{port}"
    command = ["lai-service", "serve", "--port", str(port), "--data", str(out / "service")]
    with running(
        [*command, "--allow", str(out)],
        ready=f"{url}/_mgmt/ping",
        log=out / "logs" / "lai-service.log",
        environment={"LAI_SERVICE_TOKEN": token},
    ):
        yield url, token


def find_item(url: str, item_id: str, scene: DemoScene) -> str:
    """Find the item as any client would: by place, time and a field of the extension."""
    bounds = scene.reflectance.rio.transform_bounds("EPSG:4326")
    some_data = {"op": ">", "args": [{"property": "laiq:valid_fraction"}, 0]}
    search = pystac_client.Client.open(url).search(
        collections=["lai"],
        bbox=list(bounds),
        datetime=scene.reflectance.attrs["datetime"],
        filter=some_data,
        filter_lang="cql2-json",
    )
    try:
        found = [item.id for item in search.items()]
    except APIError as error:
        raise LaiDemoError(f"{url} refused the search: {error}") from error
    if item_id not in found:
        raise LaiDemoError(
            f"{url}: the search by place, time and laiq:valid_fraction found {found}"
        )
    return f"found by place, time and laiq:valid_fraction > 0: {item_id}"


def _make_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probe").touch()
        (out / ".probe").unlink()
    except OSError as error:
        raise LaiDemoError(f"output folder {out} cannot be written: {error.strerror}") from error


def _wait_for_interrupt() -> None:
    import signal
    import threading

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
