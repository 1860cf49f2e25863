"""The steps of the demo: scene -> back-end -> COGs -> item -> service -> search."""

import json
import secrets
import shutil
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openeo
import pystac
import xarray as xr
from openeo.rest import JobFailedException, OpenEoApiError
from pystac_client import Client
from shapely.geometry import box, mapping

from lai_demo.servers import LaiDemoError, starting
from lai_udf.bundle import open_bundle
from lai_udf.errors import EncodingError
from lai_udf.guard import judge
from lai_udf.identity import source_name
from lai_udf.picture import draw_quicklook
from lai_udf.predict import ANGLES, BANDS, INPUT_OUT_OF_DOMAIN, MASKED_SCENE_CLASSES
from lai_udf.process_graph import lai_cube
from lai_udf.results import read_lai_geotiff
from lai_udf.scenes.geotiff import REFLECTANCE_ENCODING, write_scene_geotiff
from lai_udf.scenes.read import open_scene
from lai_udf.scenes.source import require_data

COLLECTION = "sentinel-2-l2a"
SCENE_SCALE, SCENE_OFFSET = REFLECTANCE_ENCODING
NOT_BUILT = " (a plain page; .venv/bin/lai-service browser builds the real one, with node 20)"

Report = Callable[[str], None]


@dataclass(frozen=True)
class DemoOptions:
    """Options of `make demo`."""

    out: Path
    scene: str | None = None
    """Real product; none = the simulated scene."""
    declared: dict[str, Any] = field(default_factory=dict)
    """What scene files may not state, as `lai_udf.open_scene` takes it."""
    samples: int = 0
    window: int = 224
    model: Path | None = None
    serve: bool = False
    """Leave the service up at the end."""


def run_demo(options: DemoOptions, report: Report) -> str:
    """Run all steps and return the summary; with `serve`, wait for an interrupt first."""
    out, bundle = options.out.resolve(), open_bundle(options.model)
    nothing = openeo.DataCube.load_collection(COLLECTION, fetch_metadata=False)
    lai_cube(nothing, size=options.window, samples=options.samples)  # raises what graphs refuse
    try:
        (out / "collections").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaiDemoError(f"output folder {out} cannot be written: {error.strerror}") from error
    secret = secrets.token_urlsafe(24)
    with ExitStack() as stack:
        environment = {"LAI_BACKEND_PASSWORD": secret, "LAI_SERVICE_TOKEN": secret}

        def start(name: str, ready: str, *granted: str) -> Callable[[], str]:
            data, log = out / name.removeprefix("lai-"), out / "logs" / f"{name}.log"
            command = [name, "serve", f"--data={data}", *granted]
            server = starting(command, ready=ready, log=log, environment=environment)
            return stack.enter_context(server)

        granted = (f"--collections={out / 'collections'}", f"--allow={bundle.path.parent}")
        backend = partial(start, "lai-backend", "/", *granted)
        # Nothing can be wrong with the simulated scene: the back-end starts meanwhile.
        wait_for_backend = None if options.scene else backend()
        report("1/5 scene")
        href = options.scene or _simulate(out / "scene" / "simulated.tif")
        scene = open_demo_scene(href, **options.declared)
        write_collection(scene, out / "collections")
        report(f"    {scene.sizes['y']} x {scene.sizes['x']} px: {href}")

        report(f"2/5 predict over openEO ({bundle.model_id} {bundle.version})")
        url = (wait_for_backend or backend())()
        wait_for_service = start("lai-service", "/_mgmt/ping", f"--allow={out}")
        report(f"    openEO back-end on {url}")
        connection = openeo.connect(url).authenticate_basic("lai", secret)
        raster, facts = predict(scene, connection, bundle.path, options)
        report(f"    batch job gave {raster.name}")

        report("3/5 describe")
        lai = read_lai_geotiff(raster)
        folder = describe(lai, scene, href, out, model=dict(bundle.description), **facts)
        report(f"    {folder.name}")

        report("4/5 publish")
        from lai_service.ops.client import publish_directory

        url = wait_for_service()
        published = publish_directory(folder, url, secret, "lai")
        report(f"    {published.outcome}: {published.address}")

        report("5/5 search")
        report(f"    {find_item(url, folder.name, scene)}")
        summary = summarise(scene, lai, folder, published.address, url)
        if not options.serve:
            return f"{summary}\n\nThe addresses answer while the service runs: make demo SERVE=1"
        signal.pthread_sigmask(signal.SIG_BLOCK, stops := {signal.SIGINT, signal.SIGTERM})
        report(f"{summary}\n\nserving until Ctrl-C")
        signal.sigwait(stops)
        return ""


def _simulate(path: Path) -> str:
    """Simulate the embedded scene: parcels at 20 m with known LAI, thin clouds and shadows."""
    from lai_training.simulation.observation import NoiseModel
    from lai_training.simulation.simulate import simulate

    noise = NoiseModel(relative=0.005, absolute=0.001)
    simulate(path, size=512, seed=20201121, cloud_cover_percent=4.0, noise=noise)
    return str(path)


def open_demo_scene(href: str, **declared: Any) -> xr.DataArray:  # noqa: ANN401  (as open_scene)
    """Read a scene by the rules of `lai_udf.read_scene`, and judge its scaling.

    Raises:
        LaiDemoError: no pixel is clear.
    """
    source = open_scene(href, **declared)
    scene = source.read()
    require_data(scene, href)
    for error in judge([source]).values():
        raise error
    if "SCL" in scene["bands"].values:
        scene_class = np.nan_to_num(scene.sel(bands="SCL").values)
        if np.isin(scene_class, (0, *MASKED_SCENE_CLASSES)).all():
            raise LaiDemoError(
                f"{href}: every pixel is cloud, shadow, snow or no data; choose another scene"
            )
    return scene


def write_collection(scene: xr.DataArray, folder: Path) -> None:
    """Write the scene as a collection that `lai-backend` serves, in place of an earlier one.

    Reflectance and scene classes go into one GeoTIFF of digital numbers, angles into another of
    degrees: cubes carry stored values, here as on the public back-ends.

    Raises:
        LaiDemoError: the values are no reflectance.
    """
    target = folder / COLLECTION
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    labels = [str(label) for label in scene["bands"].values]
    angles = [label for label in labels if label in ANGLES]
    bands = {"scene": [label for label in labels if label in (*BANDS, "SCL")]}
    try:
        write_scene_geotiff(scene.sel(bands=bands["scene"]), target / "scene.tif")
    except EncodingError as error:
        raise LaiDemoError(
            f"{error}; set SCALE= and OFFSET=, for L2A digital numbers 0.0001 and, from "
            "processing baseline 04.00 on, -0.1 (0 before)"
        ) from error
    if angles:
        bands["angles"] = angles
        degrees = scene.sel(bands=angles).rio.write_nodata(float("nan"))
        degrees.attrs = {"long_name": tuple(angles)}
        degrees.rio.to_raster(target / "angles.tif")
    bounds = scene.rio.transform_bounds("EPSG:4326")
    item = pystac.Item(
        id=str(scene.attrs.get("product_id") or "scene"),
        geometry=mapping(box(*bounds)),
        bbox=list(bounds),
        datetime=datetime.fromisoformat(scene.attrs["datetime"]),
        properties={"platform": scene.attrs.get("platform", "sentinel-2")},
        collection=COLLECTION,
    )
    scaling = {"raster:scale": SCENE_SCALE, "raster:offset": SCENE_OFFSET}
    for name, own in bands.items():
        described = [{"name": band, **(scaling if band in BANDS else {})} for band in own]
        asset = pystac.Asset(f"./{name}.tif", extra_fields={"bands": described})
        item.add_asset(name, asset)
    extent, what = pystac.Extent.from_items([item]), "Bands as digital numbers; angles in degrees."
    collection = pystac.Collection(COLLECTION, what, extent, license="other")
    for name, document in {"collection": collection, item.id: item}.items():
        (target / f"{name}.json").write_text(json.dumps(document.to_dict()))


def predict(
    scene: xr.DataArray, connection: openeo.Connection, model: Path, options: DemoOptions
) -> tuple[Path, dict[str, Any]]:
    """Run the graph as a batch job; return its GeoTIFF, and the facts of the job for its item."""
    day = datetime.fromisoformat(scene.attrs["datetime"]).date()
    size, samples = options.window, options.samples
    try:
        days = [str(day), str(day + timedelta(days=1))]
        cube = connection.load_collection(COLLECTION, temporal_extent=days)
        graph = lai_cube(cube, size=size, samples=samples, reflectance_scale=SCENE_SCALE)
        archives = {"udf-dependency-archives": [f"{model.as_uri()}#lai_model"]}
        job = graph.create_job(out_format="GTiff", title="LAI of a scene", job_options=archives)
        job.start_and_wait(print=lambda line: None, max_poll_interval=0.2)
        results = job.get_results()
        files = results.download_files(options.out.resolve() / "job", include_stac_metadata=False)
    except (OpenEoApiError, JobFailedException) as error:
        hint = " (here: SCALE= and OFFSET=)" if "reflectance_" in str(error) else ""
        raise LaiDemoError(
            f"the back-end refused or failed: {error}{hint}; see {options.out / 'logs'}"
        ) from error
    return next(path for path in files if path.suffix in (".tif", ".tiff")), {
        "process_graph": graph.flat_graph(),
        "job_metadata": results.get_metadata(),
        "samples": samples,
        "seed": 0 if samples else None,
    }


def describe(
    lai: xr.DataArray,
    scene: xr.DataArray,
    href: str,
    out: Path,
    **facts: Any,  # noqa: ANN401
) -> Path:
    """Turn the job's raster into `<out>/<item id>/` with COGs, pictures and the item."""
    from lai_stac.item import describe_cube

    date = scene.attrs["datetime"]
    folder = describe_cube(
        lai,
        out,
        replace=True,
        datetime=date,
        platform=scene.attrs.get("platform"),
        scene_href=href if href.startswith("http") else None,
        sources=[scene.attrs.get("product_id") or source_name(href)],
        scene_classification="SCL" in scene["bands"].values,
        **facts,
    )
    values, flags = (lai.sel(bands=band).values for band in ("LAI", "LAI_FLAGS"))
    picture = draw_quicklook(values, flags, f"LAI {date[:10]}", folder.name)
    (folder / "quicklook.png").write_bytes(picture)
    return folder


def find_item(url: str, item_id: str, scene: xr.DataArray) -> str:
    """Find the item as any client would: by place, time and a field of the extension."""
    search = Client.open(url).search(
        collections=["lai"],
        bbox=list(scene.rio.transform_bounds("EPSG:4326")),
        datetime=scene.attrs["datetime"],
        filter={"op": ">", "args": [{"property": "laiq:valid_fraction"}, 0]},
        filter_lang="cql2-json",
    )
    found = [item.id for item in search.items()]
    if item_id not in found:
        raise LaiDemoError(f"{url}: the search by place, time and laiq:valid_fraction has {found}")
    return f"found by place, time and laiq:valid_fraction > 0: {item_id}"


def summarise(
    scene: xr.DataArray, lai: xr.DataArray, folder: Path, published: str, url: str
) -> str:
    """Return what came out in numbers, and how far it is from SL2P on the same pixels."""
    from lai_service.ops.browser_build import cache_folder, is_built
    from lai_training import sl2p
    from lai_training.evaluation.scores import find_clear_vegetation
    from lai_training.metrics import score

    values = {str(band): lai.sel(bands=band).values for band in lai["bands"].values}
    valid = np.isfinite(values["LAI"])
    median, low, high = np.nanpercentile(values["LAI"], [50, 5, 95])
    strange = values["LAI_FLAGS"][valid].astype("uint8") & INPUT_OUT_OF_DOMAIN > 0
    clear = find_clear_vegetation(scene) & valid
    scores = score(sl2p.predict_image(scene)[0][clear], values["LAI"][clear])
    angles = "angles of the scene" if ANGLES[0] in scene["bands"].values else "nominal angles"
    browser = f"{url}/browser" + ("" if is_built(cache_folder()) else NOT_BUILT)
    lines = {
        "LAI": f"median {median:.2f}, 5-95 % {low:.2f} to {high:.2f} m2 m-2",
        "uncertainty": f"mean spread {np.nanmean(values['LAI_SD']):.3f}, mean 95 % interval "
        f"{np.nanmean(values['LAI_UPPER'] - values['LAI_LOWER']):.2f} m2 m-2 wide",
        "pixels": f"{valid.mean():.1%} valid of {valid.size}, of these {strange.mean():.1%} out of "
        "SL2P's domain",
        "against SL2P": f"r {scores.correlation:.4f}, mean |difference| {scores.distance:.3f}, "
        f"R2 {scores.r_squared:.4f} over {scores.n} clear vegetated pixels, {angles}",
        "STAC item": folder / f"{folder.name}.json",
        **{path.stem: path for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*.tif"))},
        "published as": published,
        "map": f"{url}/map/",
        "STAC API": url,
        "STAC Browser": browser,
    }
    return "\n".join(["", *(f"{name:<14} {text}" for name, text in lines.items())])
