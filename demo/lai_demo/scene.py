"""The scene of the demo: simulated, or a real product, as a collection of the local back-end."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (registers the `rio` accessor)
import xarray as xr
from shapely.geometry import box, mapping

from lai_demo.errors import LaiDemoError
from lai_udf.cog import write_scene_geotiff
from lai_udf.errors import EncodingError
from lai_udf.grid import Grid
from lai_udf.guard import judge
from lai_udf.predict import ANGLES, BANDS, MASKED_SCENE_CLASSES
from lai_udf.scenes.read import open_scene
from lai_udf.scenes.source import require_data

COLLECTION = "sentinel-2-l2a"
SIMULATED_PX = 512
SEED = 20201121
SCENE_SCALE, SCENE_OFFSET = 1e-4, -0.1  # what `write_scene_geotiff` encodes reflectance with


@dataclass(frozen=True)
class DemoScene:
    """A scene, in memory and as the back-end serves it."""

    reflectance: xr.DataArray
    """(bands, y, x), with SCL and angles where the product has them."""
    href: str
    """Where it came from."""
    grid: Grid
    """Its pixels."""


def simulate_scene_file(folder: Path) -> Path:
    """Simulate the embedded scene: parcels at 20 m with known LAI, thin clouds and shadows."""
    from lai_training.simulation.observation import NoiseModel
    from lai_training.simulation.simulate import simulate
    from lai_training.simulation.spectral_library import shipped_library

    library = shipped_library()
    output = folder / "simulated.tif"
    return simulate(
        output,
        size=SIMULATED_PX,
        seed=SEED,
        cloud_cover_percent=4.0,
        noise=NoiseModel(relative=0.005, absolute=0.001),
        library=library,
    ).scene


def open_demo_scene(
    href: str, *, scale: float | None, offset: float | None, datetime: str | None
) -> DemoScene:
    """Read a scene by the rules of `lai_udf.read_scene`, and judge its scaling.

    Raises:
        LaiDemoError: no pixel is clear.
    """
    source = open_scene(href, reflectance_scale=scale, reflectance_offset=offset, datetime=datetime)
    reflectance = source.read()
    require_data(reflectance, href)
    for error in judge([source]).values():
        raise error
    if "SCL" in reflectance["bands"].values:
        scene_class = np.nan_to_num(reflectance.sel(bands="SCL").values)
        if np.isin(scene_class, (0, *MASKED_SCENE_CLASSES)).all():
            raise LaiDemoError(
                f"{href}: every pixel is cloud, shadow, snow or no data; choose another scene"
            )
    return DemoScene(reflectance, href, Grid.of_data_array(reflectance, href))


def write_collection(scene: DemoScene, folder: Path) -> Path:
    """Write the scene as a one-item STAC collection that `lai-backend` serves.

    Reflectance and scene classes go into one GeoTIFF of digital numbers, angles into another of
    degrees: cubes carry stored values, here as on the public back-ends. What an earlier run left
    there goes.

    Raises:
        LaiDemoError: the values are no reflectance.
    """
    target = folder / COLLECTION
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    labels = [str(label) for label in scene.reflectance["bands"].values]
    optical = [label for label in labels if label in (*BANDS, "SCL")]
    angles = [label for label in labels if label in ANGLES]
    try:
        write_scene_geotiff(scene.reflectance.sel(bands=optical), target / "scene.tif")
    except EncodingError as error:
        raise LaiDemoError(
            f"{scene.href}: {error}; set SCALE= and OFFSET=, for L2A digital numbers 0.0001 and, "
            "from processing baseline 04.00 on, -0.1 (0 before)"
        ) from error
    assets = {"scene": _asset("scene.tif", optical)}
    if angles:
        degrees = scene.reflectance.sel(bands=angles)
        degrees.attrs = {"long_name": tuple(angles)}
        degrees.rio.write_nodata(float("nan")).rio.to_raster(target / "angles.tif")
        assets["angles"] = _asset("angles.tif", angles)
    (target / "collection.json").write_text(json.dumps(_collection(scene, optical + angles)))
    item = _item(scene, assets)
    (target / f"{item['id']}.json").write_text(json.dumps(item))
    return folder


def _asset(href: str, labels: list[str]) -> dict[str, Any]:
    scaling = {"raster:scale": SCENE_SCALE, "raster:offset": SCENE_OFFSET}
    return {
        "href": f"./{href}",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "bands": [{"name": label, **(scaling if label in BANDS else {})} for label in labels],
    }


def _item(scene: DemoScene, assets: dict[str, Any]) -> dict[str, Any]:
    bounds = scene.reflectance.rio.transform_bounds("EPSG:4326")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
        ],
        "id": str(scene.reflectance.attrs.get("product_id") or "scene"),
        "geometry": mapping(box(*bounds)),
        "bbox": list(bounds),
        "properties": {
            "datetime": scene.reflectance.attrs["datetime"],
            "platform": scene.reflectance.attrs.get("platform", "sentinel-2"),
            "proj:code": str(scene.reflectance.rio.crs),
            "proj:shape": list(scene.reflectance.shape[1:]),
            "proj:transform": list(scene.reflectance.rio.transform())[:6],
        },
        "links": [],
        "assets": assets,
        "collection": COLLECTION,
    }


def _collection(scene: DemoScene, labels: list[str]) -> dict[str, Any]:
    bounds = scene.reflectance.rio.transform_bounds("EPSG:4326")
    when = scene.reflectance.attrs["datetime"]
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": COLLECTION,
        "title": "Sentinel-2 L2A, the scene of the demo",
        "description": "Ten bands at 20 m as digital numbers, scene classes, angles in degrees.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(bounds)]},
            "temporal": {"interval": [[when, when]]},
        },
        "summaries": {"bands": [{"name": label} for label in labels]},
        "links": [],
    }
