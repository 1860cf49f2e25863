"""Run the UDF over a scene on this machine: read, predict, write, window by window.

In: a scene (`lai_udf.scenes.read`). Out: one COG per output band (`lai_udf.cog`), all or none.
The function that runs is `lai_udf.predict.apply_datacube`, as on a back-end. Strips are read ahead
in a thread, windows are predicted in as many as there are cores, results are written meanwhile.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr
from rasterio.windows import Window

from lai_udf.atomic import small_cache
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import LaiCogWriter, find_finished, write_lai_cogs
from lai_udf.errors import EmptySceneError
from lai_udf.guard import ScalingSample
from lai_udf.predict import (
    BANDS,
    HALO_PX,
    OUTPUT_BANDS,
    LaiInputError,
    LaiModelError,
    apply_datacube,
    count_threads,
    prepare_graph,
    read_settings,
)
from lai_udf.scenes.cubes import name_dates
from lai_udf.scenes.source import LOG, SceneSource
from lai_udf.tiling import CORE_PX, Piece, iterate_pieces, plan_cells

NOTHING_USABLE = "no pixel has LAI: all are no data, cloud, shadow or snow"

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` after each window."""

Skipped = Callable[[Path], None]
"""Called with the folder of a result that is finished already."""


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

    def context(
        self, bundle: Bundle, overlap_px: int, **scaling: float | None
    ) -> dict[str, object]:
        """Return the context of the UDF, checked; without scaling the cube holds reflectance."""
        context: dict[str, object] = {
            "model": str(bundle.path),
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
            "bands": list(self.bands),
            "overlap": overlap_px,
            **scaling,
        }
        read_settings(context)
        return context


def predict_scene(scene: xr.DataArray, request: Request | None = None) -> xr.DataArray:
    """Predict LAI of a scene in memory.

    Args:
        scene: dims (bands, y, x), float32 reflectance, NaN = no data; see `lai_udf.read_scene`.
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
    overwrite: bool = True,
    progress: Progress | None = None,
    skipped: Skipped | None = None,
) -> dict[str, Path]:
    """Predict LAI of a scene of any size, window by window, and write its COGs.

    Args:
        source: scene, see `lai_udf.scenes.read.open_scene`.
        directory: where the COGs go; made if missing, existing files are replaced.
        request: what to compute.
        core_px: largest core of a window.
        overwrite: compute anew what is finished already: the same files in, the same model and
            the same request.
        progress: told after each window.
        skipped: told of what is left as it is.

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
    tags = _tags(request, bundle) | _scene_tags(source)
    if not overwrite and (finished := find_finished(directory, request.bands, tags)):
        if skipped is not None:
            skipped(directory)
        return finished

    def predict(piece: Piece) -> tuple[Window, xr.DataArray, bool]:
        with naming(source.name):
            lai = apply_datacube(piece.cube, context)
        core = piece.trim(piece.cube)
        sample.add(core)
        return piece.core, piece.trim(lai), holds_data(core)

    cells, seen, usable = plan_cells(source, core_px=core_px), False, False
    sample = ScalingSample()
    total = sum(len(cell.windows) for cell in cells)
    writer = LaiCogWriter(directory, source.grid, bands=request.bands, tags=tags)
    with small_cache(), writer:
        predicted = map_ahead(predict, iterate_pieces(source, cells), count_threads())
        for done, (core, lai, has_data) in enumerate(predicted, start=1):
            writer.write(lai, core)
            seen = seen or has_data
            usable = usable or holds_lai(lai)
            if progress is not None:
                progress(done, total)
        declared = source.bands[0].scaling is not None
        if error := sample.verdict(offset_is_known=declared):
            raise locate(error, source.name)
        prepare_graph.cache_clear()  # the working memory of the runtime: COGs need some as well
        if not seen:
            raise EmptySceneError(
                f"{source.name}: no pixel holds data in all of {' '.join(BANDS)}; "
                "choose another scene or extent"
            )
    if not usable:
        LOG.warning("%s: %s; its files hold none", source.name, NOTHING_USABLE)
    return writer.paths


def run_items(
    scenes: Iterable[tuple[str, SceneSource]],
    directory: Path,
    request: Request | None = None,
    *,
    overwrite: bool = True,
    progress: Progress | None = None,
    skipped: Skipped | None = None,
) -> list[Path]:
    """Predict LAI of scenes, one after the other, and write one folder of COGs for each.

    Args:
        scenes: name of the folder and scene, see `lai_udf.scenes.items.open_items`.
        directory: where the folders go.
        request: what to compute.
        overwrite: compute anew what is finished already, as in `run_scene`.
        progress: told after each window; it begins again with every scene.
        skipped: told of what is left as it is.

    Returns:
        The folders of the scenes that hold data; a scene without any is left out.

    Raises:
        EmptySceneError: no scene holds data.
        LaiUdfError: another of its family, as in `run_scene`; scenes before that one are complete.
        lai_udf.predict.LaiInputError: the same.
    """
    folders: list[Path] = []
    for name, scene in scenes:
        try:
            run_scene(
                scene,
                directory / name,
                request,
                overwrite=overwrite,
                progress=progress,
                skipped=skipped,
            )
        except EmptySceneError as error:
            LOG.warning("%s; it is left out", error)
        else:
            folders.append(directory / name)
    if not folders:
        raise EmptySceneError("no scene holds a usable pixel: choose others")
    return folders


def run_cube(
    cube: xr.DataArray,
    directory: Path,
    request: Request | None = None,
    *,
    reflectance_scale: float = 1.0,
    reflectance_offset: float | None = None,
    overwrite: bool = True,
    progress: Progress | None = None,
    skipped: Skipped | None = None,
) -> list[Path]:
    """Predict LAI of a time series, date by date, and write one folder of COGs per date.

    Args:
        cube: dims (t, bands, y, x), see `lai_udf.scenes.cubes.read_cube`.
        directory: where the folders go, named after the time (`20240601T103629`).
        request: what to compute.
        reflectance_scale: reflectance = value * scale + offset.
        reflectance_offset: as above; None is 0, and judged from all dates together.
        overwrite: compute anew what is finished already, as in `run_scene`.
        progress: told after each date.
        skipped: told of what is left as it is.

    Returns:
        The folders of the dates that hold LAI; a date without any is left out, with a warning.

    Raises:
        EmptySceneError: no date holds LAI.
        MetadataError: a date has no time, or that of another one.
        OutputNotWritableError: the folder or disk refuses.
        lai_udf.predict.LaiInputError: the cube, the request or the bundle would give a wrong
            number; dates before that one are complete.
    """
    request = request or Request()
    times, where = name_dates(cube), cube.encoding.get("source", "the cube")
    bundle = open_bundle(request.model)
    scaling = {"reflectance_scale": reflectance_scale, "reflectance_offset": reflectance_offset}
    context = request.context(bundle, overlap_px=0, **scaling)
    tags = _tags(request, bundle)
    sample = ScalingSample()
    for date in cube:
        sample.add(date, reflectance_scale, reflectance_offset)
    if error := sample.verdict(offset_is_known=reflectance_offset is not None):
        raise locate(error, where)
    folders: list[Path] = []
    for done, (time, date) in enumerate(zip(times, cube, strict=True), start=1):
        values = date.drop_vars("t").load()
        folder = directory / time.replace("-", "").replace(":", "")
        described = tags | {"DATETIME": f"{time}Z", "INPUT": _digest_cube(values, scaling)}
        if not overwrite and find_finished(folder, request.bands, described):
            folders.append(folder)
            if skipped is not None:
                skipped(folder)
        else:
            with naming(f"{where}, {time}"):
                lai = apply_datacube(values, context).rio.write_crs(cube.rio.crs)
            if holds_lai(lai):
                write_lai_cogs(lai, folder, tags=described)
                folders.append(folder)
            else:
                LOG.warning("%s: %s; it is left out", time, NOTHING_USABLE)
        if progress is not None:
            progress(done, cube.sizes["t"])
    if not folders:
        raise EmptySceneError("no date of the cube holds a usable pixel: choose another cube")
    return folders


def holds_lai(lai: xr.DataArray) -> bool:
    """Tell whether a pixel of (bands, y, x) holds LAI; flags alone, finite everywhere, do."""
    numbers = lai.sel(bands=lai["bands"] != "LAI_FLAGS")
    return not numbers.sizes["bands"] or bool(numbers.isel(bands=0).notnull().any())


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Name the scene in errors about its values; a bundle's faults lie elsewhere."""
    try:
        yield
    except LaiModelError:
        raise
    except LaiInputError as error:
        raise locate(error, where) from error


def locate(error: LaiInputError, where: str) -> LaiInputError:
    """Return the same error with the name of the scene in front of its problem."""
    return LaiInputError(
        f"{where}: {error.problem}" if error.problem else "",
        parameter=error.parameter,
        value=error.value,
        expected=error.expected,
    )


def holds_data(cube: xr.DataArray) -> bool:
    """Tell whether a pixel of (bands, y, x) holds data in every reflectance band."""
    return bool(cube.sel(bands=list(BANDS)).notnull().all("bands").any())


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield the results of `function` in order, `threads` items and their successors ahead."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _tags(request: Request, bundle: Bundle) -> dict[str, str]:
    return {key.upper(): str(value) for key, value in _provenance(request, bundle).items()}


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
        "INPUT": _digest_files(source),
    }
    return {key: value for key, value in known.items() if value}


def _digest_files(source: SceneSource) -> str:
    """Return what tells the input of a run from another: names, sizes and times of its files."""
    parts: list[object] = []
    for band in source.bands:
        path = Path(band.path)
        status = path.stat() if path.is_file() else None
        parts += [repr(band), (status.st_size, status.st_mtime_ns) if status else None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _digest_cube(date: xr.DataArray, scaling: dict[str, float | None]) -> str:
    """Return the same for a date in memory: its pixels and what they mean."""
    digest = hashlib.sha256(np.ascontiguousarray(date.values).tobytes())
    digest.update(json.dumps([*map(str, date["bands"].values), scaling]).encode())
    return digest.hexdigest()
