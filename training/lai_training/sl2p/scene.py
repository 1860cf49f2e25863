"""SL2P over whole scenes and cubes of dates: GeoTIFFs of values and SNAP's flags.

Relies on `lai_udf.scenes.read` for reading (GeoTIFF, STAC Item, SAFE) and streams strips of rows,
so memory does not grow with the scene. The file appears when it is whole, or not at all.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Unpack

import numpy as np
import rasterio
import xarray as xr
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from lai_training.errors import Sl2pError
from lai_training.sl2p.processor import predict_image
from lai_training.sl2p.tables import load_network
from lai_udf.atomic import move_finished, work_folder
from lai_udf.errors import EmptySceneError
from lai_udf.guard import judge
from lai_udf.predict import ANGLES, BANDS, find_no_data
from lai_udf.scenes.cubes import as_cube
from lai_udf.scenes.metadata import Declaration, Declared
from lai_udf.scenes.source import SceneSource

STRIP_ROWS = 512
"""Rows of the scene in memory at a time, and side of a tile of the file."""

SL2P_FILE = "sl2p.tif"
"""Name of the file in the folder of a date."""
SENSOR_OF_PLATFORM = {"sentinel-2a": "S2A", "sentinel-2b": "S2B", "sentinel-2c": "S2C"}

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` after each strip."""


def choose_sensor(source: SceneSource, network: str) -> str:
    """Return the sensor whose network applies to a scene; 2_1 has one network for all.

    Raises:
        Sl2pError: a 3_0 network is asked for and the scene does not state its satellite.
    """
    sensor = SENSOR_OF_PLATFORM.get(source.metadata.platform)
    if sensor is None and network == "3_0":
        raise Sl2pError(
            f"{source.name} does not state its satellite, and SL2P 3_0 has a network for each: "
            "set the sensor (S2A, S2B or S2C)"
        )
    return sensor or "S2A"


def write_sl2p(
    source: SceneSource,
    output: Path,
    *,
    variables: Sequence[str] = ("LAI",),
    network: str = "2_1",
    sensor: str = "S2A",
    progress: Progress | None = None,
) -> Path:
    """Run SL2P over a scene, strip by strip, and write values and flags into a GeoTIFF.

    Angles are the scene's where it has them, else nominal. Values that cannot be surface
    reflectance are no data; no other pixel is masked: SNAP does not either, and the scene classes
    are the caller's to apply. For each variable there is a band of its name and one with `_FLAGS`
    appended (SNAP's bits), float32; NaN is no data, where the flags are 1. An existing file is
    replaced. `network` and `sensor` are those of `sl2p.predict`.

    Raises:
        Sl2pError: there is no such network or variable.
        EmptySceneError: no pixel holds data in all bands; nothing is written.
        ProductError: the scene cannot be read; nothing is written.
        OutputNotWritableError: the folder or disk refuses.
    """
    units = [load_network(variable, network, sensor).unit for variable in variables]
    height, width = source.grid.shape
    rows = range(0, height, STRIP_ROWS)
    strips = [Window(0, row, width, min(STRIP_ROWS, height - row)) for row in rows]
    found_data = False
    with work_folder(output.parent) as work:
        finished = work / output.name
        with _create(finished, source, variables, units, network, sensor) as dataset:
            for number, window in enumerate(strips):
                scene = _read_plausible(source, window)
                for band, variable in enumerate(variables):
                    value, flags = predict_image(
                        scene, variable=variable, network=network, sensor=sensor
                    )
                    found_data = found_data or bool(np.isfinite(value).any())
                    dataset.write(value, 2 * band + 1, window=window)
                    dataset.write(flags.astype(np.float32), 2 * band + 2, window=window)
                if progress is not None:
                    progress(number + 1, len(strips))
        if not found_data:
            raise EmptySceneError(f"{source.name}: no pixel holds data in all bands of SL2P")
        move_finished({finished: output})
    return output


def write_sl2p_series(
    data: xr.Dataset | xr.DataArray,
    directory: Path,
    *,
    network: str = "2_1",
    sensor: str = "S2A",
    progress: Progress | None = None,
    **declared: Unpack[Declaration],
) -> list[Path]:
    """Run SL2P over every date of a cube: `sl2p.tif` where `lai-udf run` puts the LAI of the date.

    That is where `lai-train parcels` looks for it; without a run, a folder named by the time, such
    as `20240601T103629`. The cube is as `lai_udf.estimate` takes it; what it does not state is
    declared as for `lai_udf.open_scene`. Returns the files of the dates that hold data.

    Raises:
        Sl2pError: a band is missing, or there is no such network.
        EmptySceneError: no date holds data.
        ProductError: the cube cannot be used.
        LaiInputError: its scaling cannot be right.
        OutputNotWritableError: the folder or disk refuses.
    """
    name = str(data.encoding.get("source", "the cube"))
    entries = list(as_cube(data, Declared(**declared), name=name).scenes())
    scenes = [entry.open() for entry in entries]
    for error in judge(scenes).values():
        raise error
    folders = _find_folders(directory)
    paths: list[Path] = []
    for done, (entry, scene) in enumerate(zip(entries, scenes, strict=True), start=1):
        folder = folders.get(scene.metadata.datetime, directory / entry.name)
        with suppress(EmptySceneError):
            paths.append(write_sl2p(scene, folder / SL2P_FILE, network=network, sensor=sensor))
        if progress is not None:
            progress(done, len(scenes))
    if not paths:
        raise EmptySceneError("no date of the cube holds data in all bands of SL2P")
    return paths


def _read_plausible(source: SceneSource, window: Window) -> xr.DataArray:
    """Read a scene with NaN where its values cannot be surface reflectance."""
    cube = source.read(window)
    in_bands = cube["bands"].isin(list(BANDS))
    spectra = cube.values[in_bands.values]
    lacking = xr.DataArray(find_no_data(spectra, spectra), dims=("y", "x"))
    return cube.where(~(lacking & in_bands)).transpose("bands", "y", "x")


def _find_folders(directory: Path) -> dict[str, Path]:
    """Return the folders of LAI by the time of their scene."""
    folders = {}
    for path in sorted(directory.glob("*/lai.tif")):
        with rasterio.open(path) as dataset:
            if time := dataset.tags().get("DATETIME"):
                folders[time] = path.parent
    return folders


def _create(
    path: Path,
    source: SceneSource,
    variables: Sequence[str],
    units: Sequence[str],
    network: str,
    sensor: str,
) -> DatasetWriter:
    """Create the GeoTIFF with band names, units and where it came from."""
    grid = source.grid
    dataset = rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=grid.height,
        width=grid.width,
        count=2 * len(variables),
        dtype="float32",
        nodata=np.nan,
        crs=grid.crs,
        transform=grid.transform,
        compress="deflate",
        predictor=3,
        interleave="band",
        BIGTIFF="IF_SAFER",
        **(
            {"tiled": True, "blockxsize": STRIP_ROWS, "blockysize": STRIP_ROWS}
            if min(grid.shape) >= STRIP_ROWS
            else {}
        ),
    )
    dataset.descriptions = [name for v in variables for name in (v, f"{v}_FLAGS")]
    dataset.units = [unit for own in units for unit in (own, "")]
    angles = len(set(ANGLES) & set(source.labels))
    tags = {
        "DATETIME": source.metadata.datetime,
        "PRODUCT_ID": source.metadata.product_id,
        "SL2P_NETWORK": network if network == "2_1" else f"{network} {sensor}",
        "ANGLES": {0: "nominal", 4: "of the scene"}.get(angles, "partly nominal"),
    }
    dataset.update_tags(**{key: value for key, value in tags.items() if value})
    return dataset
