"""Scenes on disk: one for the whole data flow, and bad ones that must not get far."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from experiments.spectra.library import spectral_library
from lai_training.simulation.observation import NoiseModel
from lai_training.simulation.simulate import simulate
from lai_udf.predict import BANDS
from lai_udf.scenes.geotiff import write_scene_geotiff
from lai_udf.scenes.read import read_scene

# Wider than a window of 224 px and higher than one of 96 px: both cuts leave a seam.
SIZE_PX = (120, 248)
SEED = 5
LOW_NOISE = NoiseModel(relative=0.002, absolute=0.0005)


def write_good_scene(path: Path) -> Path:
    """Simulate a scene with SCL and angles, a few clouds, and a corner without data."""
    library = spectral_library(2_000, np.random.default_rng(1))
    simulate(path, size=SIZE_PX, seed=SEED, cloud_cover_percent=3, noise=LOW_NOISE, library=library)
    scene = read_scene(path)
    scene[:, :24, :30] = np.nan
    return write_scene_geotiff(scene, path)


@dataclass
class Raster:
    """A GeoTIFF before it is written: pixels, profile, descriptions of bands, and tags."""

    values: np.ndarray
    profile: dict[str, Any]
    names: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    tags: dict[str, str]


def read_raster(path: Path) -> Raster:
    """Read what `write_raster` would write: the ten reflectance bands of a scene."""
    with rasterio.open(path) as dataset:
        indices = [dataset.descriptions.index(band) + 1 for band in BANDS]
        profile = {key: dataset.profile[key] for key in ("driver", "crs", "transform", "nodata")}
        return Raster(
            values=dataset.read(indices),
            profile=profile,
            names=BANDS,
            scales=tuple(dataset.scales[i - 1] for i in indices),
            offsets=tuple(dataset.offsets[i - 1] for i in indices),
            tags={"DATETIME": "2020-06-08T10:56:21Z"},
        )


def write_raster(raster: Raster, path: Path) -> Path:
    count, height, width = raster.values.shape
    size = {"count": count, "height": height, "width": width, "dtype": raster.values.dtype}
    with rasterio.open(path, "w", **raster.profile, **size) as dataset:
        dataset.write(raster.values)
        dataset.descriptions = raster.names
        dataset.scales, dataset.offsets = raster.scales, raster.offsets
        dataset.update_tags(**raster.tags)
    return path


def drop_band(raster: Raster) -> None:
    keep = [index for index, name in enumerate(raster.names) if name != "B8A"]
    raster.values = raster.values[keep]
    raster.names = tuple(raster.names[index] for index in keep)
    raster.scales, raster.offsets = raster.scales[:-1], raster.offsets[:-1]


def undeclare(raster: Raster) -> None:
    raster.scales, raster.offsets = (1.0,) * 10, (0.0,) * 10


def digital_numbers_as_float(raster: Raster) -> None:
    undeclare(raster)
    raster.values = raster.values.astype("float32")


def reflectance(raster: Raster) -> None:
    undeclare(raster)
    raster.values = (raster.values * 1e-4 - 0.1).astype("float32")
    raster.profile["nodata"] = float("nan")


def empty(raster: Raster) -> None:
    raster.values = np.zeros_like(raster.values)


def cloud_over(raster: Raster) -> None:
    raster.values = np.concatenate([raster.values, np.full_like(raster.values[:1], 9)])
    raster.names = (*raster.names, "SCL")
    raster.scales, raster.offsets = (*raster.scales, 1.0), (*raster.offsets, 0.0)


def lose_crs(raster: Raster) -> None:
    raster.profile["crs"] = None


def go_geographic(raster: Raster) -> None:
    raster.profile["crs"] = "EPSG:4326"
    raster.profile["transform"] = Affine(2e-4, 0, 1.0, 0, -2e-4, 43.5)


def lose_time(raster: Raster) -> None:
    raster.tags = {}


def write_bad_scene(good: Path, path: Path, spoil: Callable[[Raster], None]) -> Path:
    """Write the scene `good` with one thing wrong."""
    raster = read_raster(good)
    spoil(raster)
    return write_raster(raster, path)
