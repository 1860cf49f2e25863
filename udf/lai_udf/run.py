"""Run the UDF over a scene on this machine: read, predict, write, window by window.

In: a scene (`lai_udf.products`). Out: one COG per output band (`lai_udf.rasters`), all or none.
The function that runs is `lai_udf.predict.apply_datacube`, as on a back-end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from lai_udf.bundle import Bundle, open_bundle
from lai_udf.errors import EmptySceneError
from lai_udf.predict import BANDS, HALO_PX, OUTPUT_BANDS, apply_datacube
from lai_udf.products_source import SceneSource
from lai_udf.rasters import LaiCogWriter, write_lai_cogs
from lai_udf.windows import CORE_PX, count_pieces, iterate_pieces

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` after each window."""


@dataclass(frozen=True)
class Request:
    """What to compute, the same for every window of a run."""

    model: Path | None = None
    """Model bundle; None: the one that ships with the package."""
    target: str = "sl2p"
    """`sl2p`: what SNAP would say; `field`: corrected towards field measurements."""
    samples: int = 0
    """Monte-Carlo draws for `LAI_SD`; 0 = one pass."""
    seed: int = 0
    """Seed of the draws."""
    bands: tuple[str, ...] = OUTPUT_BANDS
    """Output bands."""

    def context(self, bundle: Bundle, overlap_px: int) -> dict[str, object]:
        """Return the context of the UDF; the cube holds reflectance, so nothing is scaled."""
        return {
            "model": str(bundle.path),
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
            "bands": list(self.bands),
            "overlap": overlap_px,
        }


def predict_scene(scene: xr.DataArray, request: Request | None = None) -> xr.DataArray:
    """Predict LAI of a scene in memory.

    Args:
        scene: dims (bands, y, x), float32 reflectance, NaN = no data; see `products.read_scene`.
        request: what to compute.

    Returns:
        Dims (bands, y, x), float32, NaN = no data, with the coordinates, CRS and attributes of
        the scene and the attributes `model_id`, `model_version`, `model_checksum`, `target`,
        `samples`, `seed`.

    Raises:
        lai_udf.predict.LaiInputError: the scene or the request would give a wrong number.
    """
    request = request or Request()
    bundle = open_bundle(request.model)
    lai = apply_datacube(scene, request.context(bundle, overlap_px=0))
    lai.attrs.update(scene.attrs, **_provenance(request, bundle))
    described: xr.DataArray = lai.rio.write_crs(scene.rio.crs)
    return described


def run_scene(
    source: SceneSource,
    directory: Path,
    request: Request | None = None,
    *,
    core_px: int = CORE_PX,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Predict LAI of a scene of any size, window by window, and write its COGs.

    Args:
        source: scene, see `lai_udf.products.open_scene`.
        directory: where the COGs go; made if missing, existing files are replaced.
        request: what to compute.
        core_px: largest core of a window.
        progress: told after each window.

    Returns:
        Paths by asset key (`lai`, `lai_sd`, ...).

    Raises:
        EmptySceneError: no pixel of the scene holds data in every band.
        OutputNotWritableError: the folder or disk refuses.
        ProductError: a file of the scene cannot be read.
        lai_udf.predict.LaiInputError: the scene, the request or the bundle would give a wrong
            number. Nothing is written then, nor in the other cases.
    """
    request = request or Request()
    bundle = open_bundle(request.model)
    context = request.context(bundle, overlap_px=HALO_PX)
    total, seen = count_pieces(source, core_px=core_px), False
    tags = {key.upper(): str(value) for key, value in _provenance(request, bundle).items()}
    tags |= _scene_tags(source)
    with LaiCogWriter(directory, source.grid, bands=request.bands, tags=tags) as writer:
        for done, piece in enumerate(iterate_pieces(source, core_px=core_px), start=1):
            writer.write(piece.trim(apply_datacube(piece.cube, context)), piece.core)
            seen = seen or holds_data(piece.trim(piece.cube))
            if progress is not None:
                progress(done, total)
        if not seen:
            raise EmptySceneError(
                f"{source.name}: no pixel holds data in all of {' '.join(BANDS)}; "
                "choose another scene or extent"
            )
    return writer.paths


def run_cube(
    cube: xr.DataArray,
    directory: Path,
    request: Request | None = None,
    *,
    reflectance_scale: float = 1.0,
    reflectance_offset: float = 0.0,
    progress: Progress | None = None,
) -> list[Path]:
    """Predict LAI of a time series, date by date, and write one folder of COGs per date.

    Args:
        cube: dims (t, bands, y, x), see `lai_udf.cubes.read_cube`.
        directory: where the folders go, named after the time (`20240601T103629`).
        request: what to compute.
        reflectance_scale: reflectance = value * scale + offset.
        reflectance_offset: as above.
        progress: told after each date.

    Returns:
        The folders of the dates that hold LAI; a date without any is left out.

    Raises:
        EmptySceneError: no date holds LAI.
        OutputNotWritableError: the folder or disk refuses.
        lai_udf.predict.LaiInputError: the cube, the request or the bundle would give a wrong
            number; dates before that one are complete.
    """
    request = request or Request()
    bundle = open_bundle(request.model)
    scaling = {"reflectance_scale": reflectance_scale, "reflectance_offset": reflectance_offset}
    context = request.context(bundle, overlap_px=0) | scaling
    tags = {key.upper(): str(value) for key, value in _provenance(request, bundle).items()}
    folders: list[Path] = []
    for done, date in enumerate(cube, start=1):
        lai = apply_datacube(date.drop_vars("t").load(), context).rio.write_crs(cube.rio.crs)
        if bool(lai.isel(bands=0).notnull().any()):
            time = np.datetime_as_string(date["t"].values, unit="s")
            folder = directory / time.replace("-", "").replace(":", "")
            write_lai_cogs(lai, folder, tags=tags | {"DATETIME": f"{time}Z"})
            folders.append(folder)
        if progress is not None:
            progress(done, cube.sizes["t"])
    if not folders:
        raise EmptySceneError("no date of the cube holds a usable pixel: choose another cube")
    return folders


def holds_data(cube: xr.DataArray) -> bool:
    """Tell whether a pixel of (bands, y, x) holds data in every reflectance band."""
    return bool(cube.sel(bands=list(BANDS)).notnull().all("bands").any())


def _provenance(request: Request, bundle: Bundle) -> dict[str, str | int]:
    return {
        "model_id": bundle.model_id,
        "model_version": bundle.version,
        "model_checksum": bundle.checksum,
        "target": request.target,
        "samples": request.samples,
        "seed": request.seed,
    }


def _scene_tags(source: SceneSource) -> dict[str, str]:
    known = {
        "DATETIME": source.metadata.datetime,
        "PLATFORM": source.metadata.platform,
        "PRODUCT_ID": source.metadata.product_id,
        "PROCESSING_BASELINE": source.metadata.processing_baseline,
    }
    return {key: value for key, value in known.items() if value}
