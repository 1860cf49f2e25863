"""Run the UDF over scenes on this machine: read, predict, write, window by window.

In: scenes (`lai_udf.scenes`). Out: for each a folder with one COG per output band (`lai_udf.cog`),
all or none, `quicklook.png` and `summary.json`. The folder is named by the identity of the result,
so that no result ever replaces another.

The function that runs is `lai_udf.predict.apply_datacube`, as on a back-end. Strips are read ahead
in a thread, windows are predicted in as many as there are cores, results are written meanwhile. A
season continues past a scene that is refused, and names it at the end.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import rasterio
import xarray as xr

from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import ENCODINGS, LaiCogWriter, describe_variable, open_geotiff
from lai_udf.errors import (
    EmptySceneError,
    IdentityError,
    LaiUdfError,
    OutputNotWritableError,
    RasterError,
)
from lai_udf.guard import find_wrong_scaling, judge
from lai_udf.identity import ID_TAG, RunOptions
from lai_udf.predict import (
    BANDS,
    HALO_PX,
    LaiError,
    LaiModelError,
    apply_datacube,
    count_threads,
    prepare_graph,
)
from lai_udf.scenes.cubes import as_cube
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.metadata import Declared, Offset
from lai_udf.scenes.read import describe
from lai_udf.scenes.source import LOG, SceneEntry, SceneSource, failing_entry, no_data_error
from lai_udf.summary import SUMMARY_FILE, PixelCounts, Summary, write_summary
from lai_udf.tiling import CORE_PX, Chunk, iterate_chunks, map_ahead, plan_blocks

CACHE_BYTES = 8 * 2**20
"""Decoded blocks that GDAL keeps while a scene is streamed. By default it takes a twentieth of the
memory of the machine: it would grow with the scene."""
Progress = Callable[[int, int], None]  # called as `progress(done, total)` after each window


def predict_scene(scene: xr.DataArray, options: RunOptions | None = None) -> xr.DataArray:
    """Predict LAI of a scene in memory; for cubes of other tools, see `lai_udf.estimate`.

    Args:
        scene: dims (bands, y, x), float32 reflectance, NaN = no data; see `lai_udf.read_scene`.
        options: what to compute.

    Returns:
        Dims (bands, y, x), float32, NaN = no data, with the coordinates, CRS and attributes of
        the scene, and model and settings as further attributes.

    Raises:
        lai_udf.predict.LaiInputError: the scene or the options would give a wrong number.
    """
    options = options or RunOptions()
    bundle = open_bundle(options.model)
    context = options.context(bundle, overlap_px=0)
    offset_is_known = bool(scene.attrs.get("reflectance_offset_applied"))
    labels = [str(label) for label in scene["bands"].values]
    if options.plausibility != "off" and not offset_is_known and set(BANDS) <= set(labels):
        classes = scene.sel(bands="SCL").values if "SCL" in labels else None
        error = find_wrong_scaling(scene.sel(bands=list(BANDS)).values, classes)
        if error is not None:
            raise error
    lai = apply_datacube(scene, context)
    lai.attrs.update(scene.attrs, **options.provenance(bundle))
    described: xr.DataArray = lai.rio.write_crs(scene.rio.crs)
    return described


def run_scene(
    source: SceneSource,
    directory: Path,
    options: RunOptions | None = None,
    *,
    core_px: int = CORE_PX,
    judged: bool = False,
    progress: Progress | None = None,
    counts: PixelCounts | None = None,
) -> dict[str, Path]:
    """Predict LAI of a scene of any size, window by window, and write its COGs, or nothing.

    Args:
        source: scene, see `lai_udf.open_scene`.
        directory: where the COGs go; made if missing, existing files are replaced.
        options: what to compute.
        core_px: largest core of a window.
        judged: whether the scaling has been judged before, see `lai_udf.guard`.
        progress: called after each window.
        counts: counts what the windows hold.

    Returns:
        Paths by asset key (`lai`, `lai_sd`, ...).

    Raises:
        EmptySceneError: no pixel of the scene has LAI: no data in some band, cloud, shadow, snow.
        IdentityError: the folder holds another result, which is never replaced.
        OutputNotWritableError: the folder or disk refuses.
        LaiError: a file cannot be read, or scene, options or bundle would give a wrong number.
    """
    options = options or RunOptions()
    counts = counts if counts is not None else PixelCounts()
    bundle = open_bundle(options.model)
    context = options.context(bundle, overlap_px=HALO_PX)
    bands = options.output_bands()
    tags = describe_tags(source, options, bundle)
    refuse_other_result(directory, tags[ID_TAG])
    if not judged and options.plausibility != "off":
        for error in judge([source]).values():
            raise error

    def predict(chunk: Chunk) -> tuple[Chunk, xr.DataArray]:
        dated = chunk.cube.assign_attrs(datetime=source.metadata.datetime)  # for own points
        return chunk, chunk.trim(apply_datacube(dated, context))

    blocks = plan_blocks(source, core_px=core_px)
    total = sum(len(block.windows) for block in blocks)
    titles = {
        band: describe_variable(band, level=options.level, samples=options.samples)["long_name"]
        for band in bands
    }
    writer = LaiCogWriter(directory, source.grid, bands=bands, tags=tags, titles=titles)
    cache = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": CACHE_BYTES}
    with rasterio.Env(**cache), writer:
        predicted = map_ahead(predict, iterate_chunks(source, blocks), count_threads())
        for done, (chunk, lai) in enumerate(predicted, start=1):
            writer.write(lai, chunk.core)
            counts.add(chunk.trim(chunk.cube), lai)
            if progress is not None:
                progress(done, total)
        prepare_graph.cache_clear()  # the working memory of the runtime: COGs need some as well
        if not counts.has_data:
            raise no_data_error(source.name)
        if not counts.has_lai:
            for error in judge([source], even_known=True).values():  # digital numbers, perhaps
                raise error
            raise EmptySceneError(
                f"{source.name}: no pixel has LAI: all are no data, cloud, shadow, snow or water"
            )
    return writer.paths


def describe_tags(source: SceneSource, options: RunOptions, bundle: Bundle) -> dict[str, str]:
    """Return the GDAL metadata of the files of a result."""
    tags = {key.upper(): str(value) for key, value in options.provenance(bundle).items()}
    tags |= {
        ID_TAG: options.identify(source, bundle).id,
        "DATETIME": source.metadata.datetime,
        "PLATFORM": source.metadata.platform,
        "PRODUCT_ID": source.metadata.product_id,
        "PROCESSING_BASELINE": source.metadata.processing_baseline,
        "SCALING": source.scaling_text,
        "SCENE_CLASSES": "yes" if SCENE_CLASS_BAND in source.labels else "",
        "INPUT": source.digest(),
    }
    return {key: value for key, value in tags.items() if value}


def refuse_other_result(directory: Path, result_id: str) -> None:
    """Raise `IdentityError` where COGs of another result lie, which are left as they are."""
    paths = (directory / f"{encoding.key}.tif" for encoding in ENCODINGS.values())
    first = next((path for path in paths if path.is_file()), None)
    stored = None if first is None else _read_tags(first).get(ID_TAG, "")
    if stored not in (None, result_id):
        raise IdentityError(
            f"{directory} holds another result ({stored or 'of an earlier release'}), which is not "
            f"replaced by {result_id}: choose another folder"
        )


def is_finished(directory: Path, bands: Sequence[str], tags: Mapping[str, str]) -> bool:
    """Return whether the COGs of all bands are there with these GDAL metadata."""
    paths = (directory / f"{ENCODINGS[band].key}.tif" for band in bands)
    return all(tags.items() <= _read_tags(path).items() for path in paths)


def _read_tags(path: Path) -> dict[str, str]:
    """Return the GDAL metadata of a file; none where it is missing or cannot be read."""
    try:
        with open_geotiff(path) as dataset:
            return dict(dataset.tags())
    except RasterError:
        return {}


@dataclass(frozen=True)
class Refusal:
    """A scene that was not run."""

    name: str  # of the scene
    error: LaiError  # why


@dataclass
class RunReport:
    """What a run left behind."""

    folders: list[Path] = field(default_factory=list)
    """Of the results, in the order of the scenes; finished ones included."""
    summaries: list[Summary] = field(default_factory=list)  # of what was computed now
    refused: list[Refusal] = field(default_factory=list)
    """Scenes that were not run: wrong, damaged or without scaling."""
    empty: list[Refusal] = field(default_factory=list)
    """Scenes without a pixel of LAI: no data, or cloud all over."""


def run_scenes(
    entries: Iterable[SceneEntry],
    directory: Path,
    options: RunOptions | None = None,
    *,
    overwrite: bool = True,
    progress: Progress | None = None,
    skipped: Callable[[Path], None] | None = None,
) -> RunReport:
    """Predict LAI of scenes, one after the other, and write one folder for each.

    Args:
        entries: see `lai_udf.open_scenes`.
        directory: where the folders go.
        options: what to compute.
        overwrite: compute anew what is finished already: the same files in, the same model and
            the same options.
        progress: called after each window; it begins again with every scene.
        skipped: called with the folder of a result that is finished already and left as it is.

    Raises:
        EmptySceneError: there is no scene, or none holds data and none was refused.
        OutputNotWritableError: the folder or disk refuses; scenes before that one are complete.
        LaiInputError: bundle or options cannot be used, whatever the scene.
    """
    options = options or RunOptions()
    bundle = open_bundle(options.model)
    options.context(bundle, overlap_px=0)  # wrong options are no refused scene
    report, bands = RunReport(), options.output_bands()

    def run(name: str, source: SceneSource) -> None:
        counts = PixelCounts()
        try:
            folder = directory / options.identify(source, bundle).id
            complete = "LAI" not in bands or (folder / SUMMARY_FILE).is_file()
            # A result has the resolution of its source; another one is refused when it is run.
            anew = overwrite or options.resolution != source.resolution_m or not complete
            if not anew and is_finished(folder, bands, describe_tags(source, options, bundle)):
                if skipped is not None:
                    skipped(folder)
                report.folders.append(folder)
                return
            paths = run_scene(
                source, folder, options, judged=True, progress=progress, counts=counts
            )
            if "lai" in paths:
                made_by = f"target {options.target}, {bundle.model_id} {bundle.version}"
                summary = write_summary(folder, source, made_by, counts.cloud_share)
                report.summaries.append(summary)
            report.folders.append(folder)
        except EmptySceneError as error:
            report.empty.append(Refusal(name, error))
        except (OutputNotWritableError, LaiModelError):
            raise
        except LaiError as error:
            report.refused.append(Refusal(name, error))

    doubtful: list[tuple[str, SceneSource]] = []
    for entry in entries:
        try:
            source = entry.open()
        except LaiUdfError as error:
            report.refused.append(Refusal(entry.name, error))
            continue
        if options.plausibility == "off" or source.scaling_is_known:
            run(entry.name, source)
        else:
            doubtful.append((entry.name, source))
    wrong = judge([source for _, source in doubtful]) if doubtful else {}
    for number, (name, source) in enumerate(doubtful):
        if number in wrong:
            report.refused.append(Refusal(name, wrong[number]))
        else:
            run(name, source)
    if not (report.folders or report.refused):
        if len(report.empty) == 1:
            raise report.empty[0].error
        raise EmptySceneError("no scene holds a usable pixel: choose others")
    return report


def run_all(
    sources: Iterable[str | Path],
    directory: Path,
    options: RunOptions | None = None,
    declared: Declared | None = None,
    **how: Any,  # noqa: ANN401
) -> RunReport:
    """Run the scenes of several sources: files, folders, series; `how` goes to `run_scenes`."""

    def entries() -> Iterator[SceneEntry]:
        for source in sources:
            try:
                yield from describe(source, declared or Declared())
            except LaiUdfError as error:  # a source that cannot be opened is one refused scene
                yield failing_entry(str(source), error)

    return run_scenes(entries(), directory, options, **how)


def run_items(
    scenes: Iterable[tuple[str, SceneSource]],
    directory: Path,
    options: RunOptions | None = None,
    **how: Any,  # noqa: ANN401
) -> list[Path]:
    """Run scenes that are described already, as `run_scenes` does; `how` goes to it.

    Returns:
        The folders of the scenes that hold data, named by the identity of the result.

    Raises:
        LaiError: the first refusal, where there is no result at all.
    """
    entries = (SceneEntry(name, partial(lambda scene: scene, scene)) for name, scene in scenes)
    return _folders(run_scenes(entries, directory, options, **how))


def run_cube(
    data: xr.Dataset | xr.DataArray,
    directory: Path,
    options: RunOptions | None = None,
    *,
    reflectance_scale: float | None = None,
    reflectance_offset: Offset | None = None,
    **how: Any,  # noqa: ANN401
) -> list[Path]:
    """Run the dates of a cube with times, as `lai_udf.estimate` takes it; see `run_items`.

    `reflectance_scale` and `_offset` go before what the cube states.
    """
    name = str(data.encoding.get("source", "the cube"))
    cube = as_cube(data, Declared(reflectance_scale, reflectance_offset), name=name)
    return _folders(run_scenes(cube.scenes(), directory, options, **how))


def _folders(report: RunReport) -> list[Path]:
    for refusal in (*report.refused, *report.empty):
        if not report.folders:
            raise refusal.error
        LOG.warning("%s is left out: %s", refusal.name, refusal.error)
    return report.folders
