"""A simulated Sentinel-2 scene as a file: what `lai-train simulate` does.

Input: a path, a size, a seed and a few wishes. Output: a uint16 GeoTIFF like a real product, with
described bands, scale and offset, SCL and angle bands, which `lai_udf.scenes.read.read_scene` and
`make demo SCENE=` read; beside it `<name>_truth.tif` with the true LAI and the parcel of each
pixel.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

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
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.grid import Grid
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.geotiff import write_scene_geotiff

PIXEL_M = 20.0
LATITUDE_DEG = 43.5
CORNER_M = (340_000.0, 4_830_000.0)
"""Upper left corner in EPSG:32631: farmland west of Toulouse, a region of the paper."""

SMALLEST_SIZE_PX = 16
LARGEST_SIZE_PX = 5490
"""A whole MGRS tile at 20 m."""


@dataclass(frozen=True)
class SimulatedFiles:
    """Files of one simulated scene."""

    scene: Path
    """What a satellite would have seen."""
    truth: Path
    """What was there: bands `true_lai` (m2 m-2) and `parcel`, float32."""


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

    Returns:
        The two files.

    Raises:
        SimulationError: size, suffix or cloud cover that cannot be simulated.
        OutputNotWritableError: the folder cannot be written.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(output, height, width, cloud_cover_percent)
    date = date or datetime(2020, 6, 8, 10, 56, 21, tzinfo=UTC)
    rng = np.random.default_rng(seed)
    sun = sun_position(date, latitude_deg=LATITUDE_DEG, longitude_deg=1.3)
    view = (rng.uniform(1, 10), rng.choice([105.0, 285.0]) + rng.normal(0, 3))
    scene = simulate_scene(
        height,
        width,
        rng,
        library=library or shipped_library(),
        date_of_year=date.timetuple().tm_yday,
        angles_deg=np.array([*sun, *view], np.float32),
        noise=noise,
        cloud_cover=cloud_cover_percent / 100,
    )
    write_scene_geotiff(label_scene(scene, date, seed), output)
    truth = output.with_name(f"{output.stem}_truth.tif")
    _write_truth(truth, scene)
    return SimulatedFiles(output, truth)


def _check(output: Path, height: int, width: int, cloud_cover_percent: float) -> None:
    if output.suffix.lower() not in {".tif", ".tiff"}:
        raise SimulationError(f"cannot write {output.name}: a scene is a GeoTIFF, name it .tif")
    if not all(SMALLEST_SIZE_PX <= side <= LARGEST_SIZE_PX for side in (height, width)):
        raise SimulationError(
            f"cannot simulate {height} x {width} pixels: choose sides of {SMALLEST_SIZE_PX} to "
            f"{LARGEST_SIZE_PX} pixels of 20 m"
        )
    if not 0 <= cloud_cover_percent <= 90:
        raise SimulationError(f"cloud cover is {cloud_cover_percent:g} %: choose 0 to 90")


def _grid(height: int, width: int) -> Grid:
    transform = Affine(PIXEL_M, 0, CORNER_M[0], 0, -PIXEL_M, CORNER_M[1])
    return Grid(CRS.from_epsg(32631), transform, height, width)


def label_scene(scene: SimulatedScene, date: datetime, seed: int) -> xr.DataArray:
    """Label a simulated scene as `lai_udf.scenes.read.read_scene` labels real ones.

    Returns (bands, y, x), float32: observed reflectance of ten bands, SCL, four angles (degrees).
    `date` has a zone; `seed` is recorded in `product_id`.
    """
    height, width = scene.true_lai.shape
    angles = np.broadcast_to(scene.angles_deg[:, None, None], (4, height, width))
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


def _write_truth(path: Path, scene: SimulatedScene) -> None:
    """Write true LAI and parcel numbers, whole or not at all."""
    labels = ["true_lai", "parcel"]
    values = np.stack([scene.true_lai, scene.parcel_id.astype(np.float32)])
    truth = _grid(*scene.true_lai.shape).to_data_array(values, labels, {"long_name": labels})
    with work_folder(path.parent) as work, disk_errors(path.parent):
        truth.rio.to_raster(work / path.name, compress="deflate", predictor=3)
        move_finished({work / path.name: path})
