"""A simulated Sentinel-2 scene as a file: what `lai-train simulate` does.

Input: a path, a size, a seed and a few wishes. Output: a uint16 GeoTIFF like a real product, with
described bands, scale and offset, SCL and angle bands, which `lai_udf.scenes.read.read_scene` and
`make demo SCENE=` read; beside it `<name>_truth.tif` with the true LAI and the parcel of each
pixel.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rioxarray  # noqa: F401  (the accessor `rio`)
import xarray as xr
from affine import Affine
from rasterio.crs import CRS

from lai_training.errors import SimulationError
from lai_training.simulation.angles import sun_position
from lai_training.simulation.landscapes import SimulatedScene, simulate_scene
from lai_training.simulation.observation import NoiseModel
from lai_training.simulation.spectral_library import SpectralLibrary, shipped_library
from lai_udf.atomic import new_files
from lai_udf.grid import Grid
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.geotiff import write_scene_geotiff

PIXEL_M = 20.0
LATITUDE_DEG, LONGITUDE_DEG = 43.5, 1.3
CORNER_M = (340_000.0, 4_830_000.0)
"""Upper left corner in EPSG:32631: farmland west of Toulouse, a region of the paper."""

SMALLEST_SIZE_PX = 16
LARGEST_SIZE_PX = 5490
"""A whole MGRS tile at 20 m."""


class SimulatedFiles(NamedTuple):
    """What a satellite would have seen, and what was there: `true_lai` (m2 m-2) and `parcel`."""

    scene: Path
    truth: Path


def simulate(
    output: Path,
    *,
    size: int | tuple[int, int] = 256,
    seed: int = 0,
    date: datetime | None = None,
    cloud_cover_percent: float = 0.0,
    noise: NoiseModel | None = None,
    library: SpectralLibrary | None = None,
) -> SimulatedFiles:
    """Simulate a scene and write it with its truth.

    Args:
        output: the scene's GeoTIFF (`.tif`); its folder is made where it is missing.
        size: pixels of 20 m, one number or (height, width), 16-5490.
        seed: same seed and arguments, same scene.
        date: time of acquisition with zone; none: 2020-06-08T10:56:21Z.
        cloud_cover_percent: share of the scene under cloud, 0-90.
        noise: noise of the observation; none: the default model.
        library: spectra; none: those that ship.

    Raises:
        SimulationError: size, suffix or cloud cover that cannot be simulated.
        OutputNotWritableError: the folder cannot be written.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(output, height, width, cloud_cover_percent)
    date = date or datetime(2020, 6, 8, 10, 56, 21, tzinfo=UTC)
    rng = np.random.default_rng(seed)
    view = (rng.uniform(1, 10), rng.choice([105.0, 285.0]) + rng.normal(0, 3))
    scene = simulate_scene(
        height,
        width,
        rng,
        library=library or shipped_library(),
        date_of_year=date.timetuple().tm_yday,
        noise=noise,
        cloud_cover=cloud_cover_percent / 100,
    )
    write_scene_geotiff(label_scene(scene, date, view, seed), output)
    labels = ["true_lai", "parcel"]
    values = np.stack([scene.true_lai, scene.parcel_id.astype(np.float32)])
    grid = _grid(*scene.true_lai.shape)
    truth = output.with_name(f"{output.stem}_truth.tif")
    with new_files(output.parent) as work:
        image = grid.to_data_array(values, labels, {"long_name": labels})
        image.rio.to_raster(work / truth.name, compress="deflate", predictor=3)
    return SimulatedFiles(output, truth)


def _check(output: Path, height: int, width: int, cloud_cover_percent: float) -> None:
    if output.suffix.lower() not in {".tif", ".tiff"}:
        raise SimulationError(f"cannot write {output.name}: a scene is a GeoTIFF, name it .tif")
    if not SMALLEST_SIZE_PX <= min(height, width) <= max(height, width) <= LARGEST_SIZE_PX:
        raise SimulationError(
            f"cannot simulate {height} x {width} pixels: choose sides of {SMALLEST_SIZE_PX} to "
            f"{LARGEST_SIZE_PX} pixels of 20 m"
        )
    if not 0 <= cloud_cover_percent <= 90:
        raise SimulationError(f"cloud cover is {cloud_cover_percent:g} %: choose 0 to 90")


def _grid(height: int, width: int) -> Grid:
    transform = Affine(PIXEL_M, 0, CORNER_M[0], 0, -PIXEL_M, CORNER_M[1])
    return Grid(CRS.from_epsg(32631), transform, height, width)


def label_scene(
    scene: SimulatedScene, date: datetime, view: tuple[float, float], seed: int
) -> xr.DataArray:
    """Label a simulated scene as `lai_udf.scenes.read.read_scene` labels real ones.

    Returns (bands, y, x), float32: observed reflectance of ten bands, SCL, four angles (degrees).
    `date` has a zone; `view` is the view's zenith and azimuth, degrees; `seed` is recorded in
    `product_id`.
    """
    height, width = scene.true_lai.shape
    sun = sun_position(date, latitude_deg=LATITUDE_DEG, longitude_deg=LONGITUDE_DEG)
    angles_deg = np.array([*sun, *view], np.float32)
    angles = np.broadcast_to(angles_deg[:, None, None], (4, height, width))
    values = np.concatenate(
        [scene.observed_reflectance, scene.scene_classification[None], angles]
    ).astype(np.float32)
    attributes = {
        "datetime": date.isoformat(),
        "platform": "simulated",
        "product_id": f"simulated-{height}x{width}-seed{seed}-{date:%Y%m%dT%H%M%S}",
        "reflectance_offset_applied": True,
    }
    return _grid(height, width).to_data_array(values, [*BANDS, "SCL", *ANGLES], attributes)
