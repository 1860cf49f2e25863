"""Run many scenes: a season goes on past a scene that is refused, and names it at the end.

In: scenes one after the other (`lai_udf.open_scenes`). Out: a folder for each, named by the
identity of its result, so that no result ever replaces another; in it the COGs, `quicklook.png` and
`summary.json`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import xarray as xr

from lai_udf.bundle import open_bundle
from lai_udf.errors import EmptySceneError, LaiUdfError, OutputNotWritableError
from lai_udf.guard import judge
from lai_udf.predict import LaiError, LaiModelError
from lai_udf.run import PixelCounts, Progress, Skipped, run_scene
from lai_udf.run_options import RunOptions
from lai_udf.scenes.cubes import as_cube
from lai_udf.scenes.metadata import Declared, Offset
from lai_udf.scenes.read import describe
from lai_udf.scenes.source import LOG, SceneEntry, SceneSource, failing_entry
from lai_udf.summary import SUMMARY_FILE, Summary, write_summary


@dataclass(frozen=True)
class Refusal:
    """A scene that was not run."""

    name: str
    """Of the scene."""
    error: LaiError
    """Why."""


@dataclass
class RunReport:
    """What a run left behind."""

    folders: list[Path] = field(default_factory=list)
    """Of the results, in the order of the scenes; finished ones included."""
    summaries: list[Summary] = field(default_factory=list)
    """Of what was computed now."""
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
    skipped: Skipped | None = None,
) -> RunReport:
    """Predict LAI of scenes, one after the other, and write one folder for each.

    Args:
        entries: see `lai_udf.open_scenes`.
        directory: where the folders go.
        options: what to compute.
        overwrite: compute anew what is finished already, as in `run_scene`.
        progress: called after each window; it begins again with every scene.
        skipped: called with what is left as it is.

    Returns:
        What was made and what was refused.

    Raises:
        EmptySceneError: there is no scene, or none holds data and none was refused.
        OutputNotWritableError: the folder or disk refuses; scenes before that one are complete.
        LaiModelError: the bundle cannot be used.
        LaiInputError: the options cannot be met, whatever the scene.
    """
    options = options or RunOptions()
    bundle = open_bundle(options.model)
    options.context(bundle, overlap_px=0)  # wrong options are no refused scene
    report = RunReport()

    def run(name: str, source: SceneSource) -> None:
        counts, left = PixelCounts(), list[Path]()
        try:
            folder = directory / options.identify(source, bundle).id
            complete = "LAI" not in options.output_bands() or (folder / SUMMARY_FILE).is_file()
            paths = run_scene(
                source,
                folder,
                options,
                overwrite=overwrite or not complete,
                judged=True,
                progress=progress,
                skipped=left.append,
                counts=counts,
            )
            if left and skipped is not None:
                skipped(folder)
            summary = None if left else write_summary(folder, paths, source, options, counts)
            report.summaries += [] if summary is None else [summary]
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
    wrong = judge([source for _, source in doubtful])
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
    return run_scenes(
        chain.from_iterable(_entries(source, declared or Declared()) for source in sources),
        directory,
        options,
        **how,
    )


def _entries(source: str | Path, declared: Declared) -> Iterator[SceneEntry]:
    """Yield the scenes of a source; a source that cannot be opened as one that cannot."""
    try:
        yield from describe(source, declared)
    except LaiUdfError as error:
        yield failing_entry(str(source), error)


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
    entries = (SceneEntry(name, partial(_given, scene)) for name, scene in scenes)
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
    """Run the dates of a time series, as `run_scenes` does.

    Args:
        data: cube with times, as `lai_udf.estimate` takes it.
        directory: where the folders go.
        options: what to compute.
        reflectance_scale: reflectance = value * scale + offset; goes before what the cube states.
        reflectance_offset: as above.
        how: goes to `run_scenes`.

    Returns:
        The folders of the dates that hold data.

    Raises:
        ProductError: the cube cannot be used.
        LaiError: the first refusal, where there is no result at all.
    """
    name = str(data.encoding.get("source", "the cube"))
    declared = Declared(reflectance_scale, reflectance_offset)
    return _folders(
        run_scenes(as_cube(data, declared, name=name).scenes(), directory, options, **how)
    )


def _given(scene: SceneSource) -> SceneSource:
    return scene


def _folders(report: RunReport) -> list[Path]:
    for refusal in (*report.refused, *report.empty):
        if not report.folders:
            raise refusal.error
        LOG.warning("%s is left out: %s", refusal.name, refusal.error)
    return report.folders
