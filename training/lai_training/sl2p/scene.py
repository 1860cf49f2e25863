"""SL2P over a whole scene: Sentinel-2 in, a GeoTIFF of values and SNAP's flags out.

Relies on `lai_udf.scenes.read` for reading (GeoTIFF, STAC Item, SAFE) and streams strips of rows,
so memory does not grow with the scene. The file appears when it is whole, or not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from lai_training.errors import Sl2pError
from lai_training.sl2p.processor import ANGLE_BANDS, predict_image
from lai_training.sl2p.tables import load_network
from lai_udf.atomic import move_finished, work_folder
from lai_udf.errors import EmptySceneError
from lai_udf.scenes.source import SceneSource

STRIP_ROWS = 512
"""Rows of the scene in memory at a time, and side of a tile of the file."""

SENSOR_OF_PLATFORM = {"sentinel-2a": "S2A", "sentinel-2b": "S2B", "sentinel-2c": "S2C"}

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` after each strip."""


def choose_sensor(source: SceneSource, network: str) -> str:
    """Return the sensor whose network applies to a scene; 2_1 has one network for all.

    Raises:
        Sl2pError: a 3_0 network is asked for and the scene does not say who took it.
    """
    sensor = SENSOR_OF_PLATFORM.get(source.metadata.platform)
    if sensor is None and network == "3_0":
        raise Sl2pError(
            f"{source.name} does not say which Sentinel-2 took it, and SL2P 3_0 has a network for "
            "each: set the sensor (S2A, S2B or S2C)"
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
    """Run SL2P over a scene and write values and flags.

    Angles are the scene's where it has them, else nominal. No pixel is masked: SNAP does not
    either, and the scene classes are the caller's to apply.

    Args:
        source: the scene, as `lai_udf.scenes.read.open_scene` describes it.
        output: GeoTIFF to write; an existing file is replaced, its folder made if missing.
        variables: for each, a band of its name and one with `_FLAGS` appended (SNAP's bits).
            All bands are float32; NaN is no data, where the flags are 1.
        network: as in `sl2p.predict`.
        sensor: as in `sl2p.predict`.
        progress: called after every strip.

    Returns:
        `output`.

    Raises:
        Sl2pError: there is no such network or variable.
        EmptySceneError: no pixel holds data in all bands; nothing is written.
        ProductError: the scene cannot be read; nothing is written.
        OutputNotWritableError: the folder or disk refuses.
    """
    units = [load_network(variable, network, sensor).unit for variable in variables]
    strips = list(_strips(source))
    found_data = False
    with work_folder(output.parent) as work:
        finished = work / output.name
        with _create(finished, source, variables, units, network, sensor) as dataset:
            for number, window in enumerate(strips):
                scene = source.read(window)
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


def _strips(source: SceneSource) -> Iterator[Window]:
    for row in range(0, source.grid.height, STRIP_ROWS):
        yield Window(0, row, source.grid.width, min(STRIP_ROWS, source.grid.height - row))


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
    angles = len(set(ANGLE_BANDS) & set(source.labels))
    known = {
        "DATETIME": source.metadata.datetime,
        "PRODUCT_ID": source.metadata.product_id,
        "SL2P_NETWORK": network if network == "2_1" else f"{network} {sensor}",
        "ANGLES": {0: "nominal", 4: "of the scene"}.get(angles, "partly nominal"),
    }
    dataset.update_tags(**{key: value for key, value in known.items() if value})
    return dataset
