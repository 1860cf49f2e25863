"""Run the UDF over a scene on this machine: read, predict, write, window by window.

In: a scene (`lai_udf.scenes`). Out: one COG per output band (`lai_udf.cog`), all or none.
The function that runs is `lai_udf.predict.apply_datacube`, as on a back-end. Strips are read ahead
in a thread, windows are predicted in as many as there are cores, results are written meanwhile.
`lai_udf.runs` does so for many scenes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr
from rasterio.windows import Window

from lai_udf.atomic import small_cache
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import LaiCogWriter, find_finished, find_result_id
from lai_udf.errors import EmptySceneError
from lai_udf.guard import judge
from lai_udf.identity import ID_TAG, refuse_other_result
from lai_udf.predict import (
    BANDS,
    HALO_PX,
    MASKED_SCENE_CLASSES,
    NO_DATA_SCENE_CLASSES,
    apply_datacube,
    count_threads,
    find_wrong_scaling,
    prepare_graph,
)
from lai_udf.run_options import RunOptions
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.source import SceneSource
from lai_udf.tiling import CORE_PX, Chunk, iterate_chunks, plan_blocks
from lai_udf.variables import describe_variable

__all__ = ["RunOptions", "predict_scene", "run_scene"]

NOTHING_USABLE = "no pixel has LAI: all are no data, cloud, shadow, snow or water"

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` after each window."""

Skipped = Callable[[Path], None]
"""Called with the folder of a result that is finished already."""


def predict_scene(scene: xr.DataArray, options: RunOptions | None = None) -> xr.DataArray:
    """Predict LAI of a scene in memory.

    Args:
        scene: dims (bands, y, x), float32 reflectance, NaN = no data; see `lai_udf.read_scene`.
            For cubes of other tools, see `lai_udf.estimate`.
        options: what to compute.

    Returns:
        Dims (bands, y, x), float32, NaN = no data, with the coordinates, CRS and attributes of
        the scene and the attributes `model_id`, `model_version`, `model_checksum`, `target`,
        `samples`, `seed`.

    Raises:
        lai_udf.predict.LaiInputError: the scene or the options would give a wrong number.
    """
    options = options or RunOptions()
    bundle = open_bundle(options.model)
    context = options.context(bundle, overlap_px=0)
    known = bool(scene.attrs.get("reflectance_offset_applied"))
    labels = [str(label) for label in scene["bands"].values]
    if options.plausibility != "off" and not known and set(BANDS) <= set(labels):
        classes = scene.sel(bands="SCL").values if "SCL" in labels else None
        error = find_wrong_scaling(scene.sel(bands=list(BANDS)).values, classes)
        if error is not None:
            raise error
    lai = apply_datacube(scene, context)
    lai.attrs.update(scene.attrs, **options.provenance(bundle))
    described: xr.DataArray = lai.rio.write_crs(scene.rio.crs)
    return described


@dataclass
class PixelCounts:
    """What the windows of a scene hold, counted as they pass."""

    observed: int = 0
    """Pixels with data in every band, hidden ones included."""
    masked: int = 0
    """Of these, cloud, shadow or snow by the scene classes."""
    has_classes: bool = False
    has_data: bool = False
    has_lai: bool = False

    def add(self, cube: xr.DataArray, lai: xr.DataArray) -> None:
        """Count the core of a window."""
        labels = [str(label) for label in cube["bands"].values]
        data = np.isfinite(cube.values[[labels.index(band) for band in BANDS]]).all(axis=0)
        self.has_data = self.has_data or bool(data.any())
        self.has_lai = self.has_lai or holds_lai(lai)
        if SCENE_CLASS_BAND in labels:
            self.has_classes = True
            classes = cube.values[labels.index(SCENE_CLASS_BAND)]
            seen = data & np.isfinite(classes) & ~np.isin(classes, NO_DATA_SCENE_CLASSES)
            self.observed += int(seen.sum())
            self.masked += int((seen & np.isin(classes, MASKED_SCENE_CLASSES)).sum())

    @property
    def cloud_share(self) -> float | None:
        """Return the share of cloud, shadow and snow, 0-1; None where it is not known."""
        return self.masked / self.observed if self.has_classes and self.observed else None


def run_scene(
    source: SceneSource,
    directory: Path,
    options: RunOptions | None = None,
    *,
    core_px: int = CORE_PX,
    overwrite: bool = True,
    judged: bool = False,
    progress: Progress | None = None,
    skipped: Skipped | None = None,
    counts: PixelCounts | None = None,
) -> dict[str, Path]:
    """Predict LAI of a scene of any size, window by window, and write its COGs.

    Args:
        source: scene, see `lai_udf.open_scene`.
        directory: where the COGs go; made if missing, existing files are replaced.
        options: what to compute.
        core_px: largest core of a window.
        overwrite: compute anew what is finished already: the same files in, the same model and
            the same options.
        judged: whether the scaling has been judged before, see `lai_udf.guard`.
        progress: called after each window.
        skipped: called with what is left as it is.
        counts: counts what the windows hold.

    Returns:
        Paths by asset key (`lai`, `lai_sd`, ...).

    Raises:
        EmptySceneError: no pixel of the scene has LAI: no data in some band, cloud, shadow, snow.
        IdentityError: the folder holds another result, which is never replaced.
        OutputNotWritableError: the folder or disk refuses.
        ProductError: a file of the scene cannot be read.
        lai_udf.predict.LaiInputError: the scene, the options or the bundle would give a wrong
            number. Nothing is written then, nor in the other cases.
    """
    options = options or RunOptions()
    counts = counts if counts is not None else PixelCounts()
    bundle = open_bundle(options.model)
    context = options.context(bundle, overlap_px=HALO_PX)
    bands = options.output_bands()
    tags = describe_tags(source, options, bundle)
    refuse_other_result(directory, tags[ID_TAG], find_result_id(directory))
    if not overwrite and (finished := find_finished(directory, bands, tags)):
        if skipped is not None:
            skipped(directory)
        return finished
    if not judged and options.plausibility != "off":
        for error in judge([source]).values():
            raise error

    def predict(chunk: Chunk) -> tuple[Window, xr.DataArray, xr.DataArray]:
        dated = chunk.cube.assign_attrs(datetime=source.metadata.datetime)  # for own points
        lai = apply_datacube(dated, context)
        return chunk.core, chunk.trim(lai), chunk.trim(chunk.cube)

    blocks = plan_blocks(source, core_px=core_px)
    total = sum(len(block.windows) for block in blocks)
    described = {
        band: describe_variable(band, level=options.level, samples=options.samples)
        for band in bands
    }
    titles = {band: str(attributes["long_name"]) for band, attributes in described.items()}
    writer = LaiCogWriter(directory, source.grid, bands=bands, tags=tags, titles=titles)
    with small_cache(), writer:
        predicted = map_ahead(predict, iterate_chunks(source, blocks), count_threads())
        for done, (core, lai, cube) in enumerate(predicted, start=1):
            writer.write(lai, core)
            counts.add(cube, lai)
            if progress is not None:
                progress(done, total)
        prepare_graph.cache_clear()  # the working memory of the runtime: COGs need some as well
        if not counts.has_data:
            raise EmptySceneError(
                f"{source.name}: no pixel holds data in all of {' '.join(BANDS)}; "
                "choose another scene or extent"
            )
        if not counts.has_lai:
            for error in judge([source], even_known=True).values():  # digital numbers, perhaps
                raise error
            raise EmptySceneError(f"{source.name}: {NOTHING_USABLE}")
    return writer.paths


def describe_tags(source: SceneSource, options: RunOptions, bundle: Bundle) -> dict[str, str]:
    """Return the GDAL metadata of the files of a result."""
    known = {key.upper(): str(value) for key, value in options.provenance(bundle).items()}
    known |= {
        ID_TAG: options.identify(source, bundle).id,
        "DATETIME": source.metadata.datetime,
        "PLATFORM": source.metadata.platform,
        "PRODUCT_ID": source.metadata.product_id,
        "PROCESSING_BASELINE": source.metadata.processing_baseline,
        "SCALING": source.scaling_text,
        "SCENE_CLASSES": "yes" if SCENE_CLASS_BAND in source.labels else "",
        "INPUT": source.digest(),
    }
    return {key: value for key, value in known.items() if value}


def holds_lai(lai: xr.DataArray) -> bool:
    """Return whether a pixel of (bands, y, x) holds LAI; flags alone, finite everywhere, do."""
    flags = [str(label).endswith("_FLAGS") for label in lai["bands"].values]
    numbers = lai.isel(bands=np.flatnonzero(~np.array(flags)))
    return not numbers.sizes["bands"] or bool(numbers.isel(bands=0).notnull().any())


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


def __getattr__(name: str) -> object:
    """Import what lay here in the first edition, for scripts of users."""
    if name in ("run_cube", "run_items"):
        from lai_udf import runs

        return getattr(runs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
