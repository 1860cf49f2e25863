"""SL2P over a time series: a file per date, where `lai-udf run` puts the LAI of the network.

Input: a cube as `lai_udf.estimate` takes it. Output: `sl2p.tif` with the band LAI for each
date, beside the COGs of the network of the same time, which is where `lai-train parcels` looks for
it; else in a folder named by the time.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.windows import Window

from lai_training.sl2p.processor import predict_image
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import EmptySceneError
from lai_udf.grid import Grid
from lai_udf.guard import judge
from lai_udf.predict import BANDS, find_no_data
from lai_udf.scenes.cubes import as_cube
from lai_udf.scenes.declared import Declared, Offset
from lai_udf.scenes.source import SceneSource

SL2P_FILE = "sl2p.tif"
"""Name of the file in the folder of a date."""
Progress = Callable[[int, int], None]


def write_sl2p_series(
    data: xr.Dataset | xr.DataArray,
    directory: Path,
    *,
    network: str = "2_1",
    sensor: str = "S2A",
    reflectance_scale: float | None = None,
    reflectance_offset: Offset | None = None,
    datetime: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Run SL2P over every date of a cube. No pixel is masked: SNAP does not either.

    Args:
        data: cube as `lai_udf.estimate` takes it.
        directory: where the folders of the dates are, or go: `20240601T103629`.
        network: as in `sl2p.predict`.
        sensor: as in `sl2p.predict`.
        reflectance_scale: reflectance = value * scale + offset; None: what the cube states.
        reflectance_offset: as above.
        datetime: time of a cube that has none.
        progress: called after each date.

    Returns:
        The files of the dates that hold data.

    Raises:
        Sl2pError: a band is missing, or there is no such network.
        EmptySceneError: no date holds data.
        ProductError: the cube cannot be used.
        LaiInputError: its scaling cannot be right.
        OutputNotWritableError: the folder or disk refuses.
    """
    name = str(data.encoding.get("source", "the cube"))
    declared = Declared(reflectance_scale, reflectance_offset, datetime)
    entries = list(as_cube(data, declared, name=name).scenes())
    scenes = [entry.open() for entry in entries]
    for error in judge(scenes).values():
        raise error
    folders = find_folders(directory)
    paths: list[Path] = []
    for done, (entry, scene) in enumerate(zip(entries, scenes, strict=True), start=1):
        lai, _ = predict_image(read_plausible(scene), network=network, sensor=sensor)
        if np.isfinite(lai).any():
            time = scene.metadata.datetime
            folder = folders.get(time, directory / entry.name)
            paths.append(write_sl2p_lai(lai, scene.grid, folder / SL2P_FILE, DATETIME=time))
        if progress is not None:
            progress(done, len(scenes))
    if not paths:
        raise EmptySceneError("no date of the cube holds data in all bands of SL2P")
    return paths


def read_plausible(scene: SceneSource, window: Window | None = None) -> xr.DataArray:
    """Read a scene with NaN where its values cannot be surface reflectance."""
    cube = scene.read(window)
    spectra = cube.sel(bands=list(BANDS)).values
    missing = find_no_data(spectra, spectra, 1.0)
    in_bands = cube["bands"].isin(list(BANDS))
    lacking = xr.DataArray(missing, dims=("y", "x"))
    return cube.where(~(lacking & in_bands)).transpose("bands", "y", "x")


def find_folders(directory: Path) -> dict[str, Path]:
    """Return the folders of LAI by the time of their scene."""
    found = {}
    for path in sorted(directory.glob("*/lai.tif")):
        with rasterio.open(path) as dataset:
            time = dataset.tags().get("DATETIME")
        if time:
            found[time] = path.parent
    return found


def write_sl2p_lai(lai: NDArray[np.floating], grid: Grid, path: Path, **tags: str | None) -> Path:
    """Write SL2P's LAI, (y, x), m2 m-2, NaN = no data, as a GeoTIFF with the band LAI."""
    with work_folder(path.parent) as work, disk_errors(path.parent):
        with rasterio.open(
            work / path.name,
            "w",
            driver="GTiff",
            height=grid.height,
            width=grid.width,
            count=1,
            dtype="float32",
            nodata=np.nan,
            crs=grid.crs,
            transform=grid.transform,
            compress="deflate",
        ) as dataset:
            dataset.write(lai.astype("float32"), 1)
            dataset.descriptions = ("LAI",)
            dataset.update_tags(**{key: value for key, value in tags.items() if value})
        move_finished({work / path.name: path})
    return path
