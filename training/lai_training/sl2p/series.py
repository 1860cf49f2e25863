"""SL2P over a time series: a folder per date, named as `lai-udf run` names them.

Comes in: a cube (t, bands, y, x) as `lai_udf.read_cube` opens it. Goes out: `sl2p.tif` with
the band LAI for each date, beside the COGs of the network where the folder is the same, which is
where `lai-train parcels` looks for it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import rioxarray  # noqa: F401  (registers DataArray.rio)
import xarray as xr
from numpy.typing import NDArray

from lai_training.sl2p.processor import ANGLE_BANDS, predict_image
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import EmptySceneError
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.cubes import name_dates

SL2P_FILE = "sl2p.tif"
"""Name of the file in the folder of a date."""
Progress = Callable[[int, int], None]


def write_sl2p_series(
    cube: xr.DataArray,
    directory: Path,
    *,
    network: str = "2_1",
    sensor: str = "S2A",
    reflectance_scale: float = 1.0,
    reflectance_offset: float = 0.0,
    progress: Progress | None = None,
) -> list[Path]:
    """Run SL2P over every date of a cube. No pixel is masked: SNAP does not either.

    Args:
        cube: dims (t, bands, y, x), with CRS; NaN (0 in integers) = no data.
        directory: where the folders of the dates are, or go: `20240601T103629`.
        network: as in `sl2p.predict`.
        sensor: as in `sl2p.predict`.
        reflectance_scale: reflectance = value * scale + offset.
        reflectance_offset: as above.
        progress: told after each date.

    Returns:
        The files of the dates that hold data.

    Raises:
        Sl2pError: a band is missing, or there is no such network.
        EmptySceneError: no date holds data.
        MetadataError: a date has no time, or that of another one.
        OutputNotWritableError: the folder or disk refuses.
    """
    grid = Grid.of_data_array(cube.isel(t=0), "the cube")
    paths: list[Path] = []
    for done, (time, date) in enumerate(zip(name_dates(cube), cube, strict=True), start=1):
        scene = _scale(date.drop_vars("t").load(), reflectance_scale, reflectance_offset)
        lai, _ = predict_image(scene, network=network, sensor=sensor)
        if np.isfinite(lai).any():
            folder = directory / time.replace("-", "").replace(":", "")
            paths.append(write_sl2p_lai(lai, grid, folder / SL2P_FILE, DATETIME=f"{time}Z"))
        if progress is not None:
            progress(done, cube.sizes["t"])
    if not paths:
        raise EmptySceneError("no date of the cube holds data in all bands of SL2P")
    return paths


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


def _scale(date: xr.DataArray, scale: float, offset: float) -> xr.DataArray:
    """Return reflectance and angles of one date, (bands, y, x)."""
    labels = [str(label) for label in date["bands"].values]
    bands = [label for label in labels if label in BANDS]
    angles = [label for label in labels if label in ANGLE_BANDS]
    stored = date.sel(bands=bands)
    known = stored.notnull() if stored.dtype.kind == "f" else stored != 0
    reflectance = (stored.astype("float32") * scale + offset).where(known)
    return xr.concat([reflectance, date.sel(bands=angles).astype("float32")], dim="bands")
