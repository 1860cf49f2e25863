"""From the results of an openEO batch job to folders of LAI items, one per date.

    job_results   files by date, links, process graph
    here          target, draws and model that the graph names;
                  GeoTIFFs -> cube -> one COG per band, thumbnail, item

The same results give the same items: names, times and numbers come from files and metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from rasterio.io import DatasetReader

from lai_stac.errors import DescriptionError, RasterError
from lai_stac.item import describe_written
from lai_stac.job_results import (
    SERIES_BAND,
    DatedResult,
    JobResults,
    ResultFile,
    nodes_of,
    read_job_results,
    read_series,
)
from lai_stac.product import Band, Product, open_raster
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import ENCODINGS
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.identity import DEFAULT_SETTINGS, covers_tile

MAX_PIXELS = 150_000_000  # largest raster that is described; a larger area is several jobs


def describe_job(
    folder: Path,
    out: Path,
    *,
    bundles: Sequence[Bundle] = (),
    metadata: Mapping[str, Any] | None = None,
    job: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Describe every date of a finished openEO job.

    Args:
        folder: its downloaded files, with `job-results.json` and `job.json`.
        out: where the items go; made if missing.
        bundles: models that may have made the results; none = the one that ships with us.
        metadata: `job.get_results().get_metadata()` in place of `job-results.json`.
        job: `job.describe()` in place of `job.json`.

    Returns:
        The folders `<out>/<item id>`, in order of time: one COG per band, thumbnail, item. A date
        on which nothing was observed has none.

    Raises:
        DescriptionError: the metadata does not fit together, or names an unknown model.
        RasterError: a file cannot be read, lacks a band, or no date was observed.
        OutputError: the folder cannot be written.
    """
    results = read_job_results(folder, metadata=metadata, job=job)
    settings = read_settings(results.process_graph)
    bundle = _bundle(settings, results, bundles or (open_bundle(),))
    folders = []
    for dated in results.dates:
        raster = _open_date(folder, dated.files)
        if raster.observed().any():
            folders.append(_describe_date(raster, dated, out, settings, bundle, results))
    if not folders:
        raise RasterError(f"no date in {folder.name} has one observed pixel: nothing to describe")
    return folders


def _describe_date(
    raster: Product,
    dated: DatedResult,
    out: Path,
    settings: GraphSettings,
    bundle: Bundle,
    results: JobResults,
) -> Path:
    """Write COGs, thumbnail and item of one date under their final name."""
    tags = {
        name.upper(): str(value)
        for name, value in settings.others.items()
        if value != DEFAULT_SETTINGS.get(name)
    }
    try:
        return describe_written(
            partial(raster.write_cogs, tags=tags),
            out,
            model=bundle.description,
            datetime=dated.datetime,
            end_datetime=dated.end_datetime,
            platform=dated.platform,
            mgrs_tile=dated.mgrs_tile if covers_tile(raster.grid) else None,
            process_graph=results.process_graph,
            job_metadata=dated.metadata,
            target=settings.target,
            samples=settings.samples,
            seed=settings.seed if settings.samples else None,
            settings=settings.others,
            scene_classification=settings.scene_classification,
            series=settings.series,
        )
    except RasterError as error:
        raise RasterError(f"the results of {dated.datetime:%Y-%m-%d}: {error}") from error


def _bundle(settings: GraphSettings, results: JobResults, bundles: Sequence[Bundle]) -> Bundle:
    """Return the model that made the results: the one the job names, else the only one there is."""
    archive = model_archive(settings, results.job_options)
    names = [{b.path.stem, str(b.description["id"])} for b in bundles]
    if archive is None and len(bundles) == 1:
        return bundles[0]
    for bundle, known in zip(bundles, names, strict=True):
        if archive in known:
            return bundle
    raise DescriptionError(
        f"the job was run with the model {archive or settings.model}; known here are "
        f"{', '.join(sorted(str(b.description['id']) for b in bundles))}"
    )


def _open_date(folder: Path, files: Sequence[ResultFile]) -> Product:
    """Find the output bands in the GeoTIFFs of one date; their pixels are not read."""
    bands: dict[str, Band] = {}
    grid: Grid | None = None
    for file in files:
        try:
            with open_raster(file.path) as dataset:
                here = Grid.of_dataset(dataset)
                if here.height * here.width > MAX_PIXELS:
                    raise RasterError(
                        f"{file.path.name} has {here.height} x {here.width} pixels, more than "
                        f"{MAX_PIXELS}: split the area into several jobs"
                    )
                grid = grid or here
                grid.require_same(here, file.path.name)
                bands |= _find_bands(dataset, file)
        except LaiUdfError as error:
            raise RasterError(str(error)) from error
    if grid is None or "LAI" not in bands:
        names = ", ".join(file.path.name for file in files)
        raise RasterError(f"{names}: no band is named LAI, neither in the file nor in its metadata")
    ordered = {band: bands[band] for band in ENCODINGS if band in bands}
    return Product(folder, grid, ordered)


def _find_bands(dataset: DatasetReader, file: ResultFile) -> dict[str, Band]:
    """Return the output bands of a file by name; metadata names them where the file does not."""
    names: tuple[str | None, ...] = dataset.descriptions
    if not any(name in ENCODINGS for name in names) and len(file.bands) == dataset.count:
        names = file.bands
    numbered = enumerate(names, start=1)
    return {str(n): (file.path, index) for index, n in numbered if n in ENCODINGS}


Document = Mapping[str, Any]

UDP = "sentinel2_lai"  # our user-defined process; called by name, its arguments are the settings
OUR_BAND = "LAI_LOWER"  # a UDF whose text contains this band is ours
DEFAULTS: Document = {"target": "sl2p", "samples": 0, "seed": 0, "model": "lai_model"}
"""Defaults of `lai_udf.predict` and of the user-defined process."""

OTHERS = (
    "region",
    "level",
    "calibration",
    "plausibility",
    "reflectance_scale",
    "reflectance_offset",
)
SCENE_CLASSES = "SCL"


@dataclass(frozen=True)
class GraphSettings:
    """Settings of the LAI run that a graph holds."""

    target: Literal["sl2p", "field"]  # what the estimate aims at
    samples: int  # Monte-Carlo draws; 0 = none
    seed: int  # seed of the draws
    model: str  # where the worker found the model: a folder of an archive, or a path
    others: Document = field(default_factory=dict)
    """Settings beside these that change the numbers, as the graph has them."""
    scene_classification: bool = True  # whether the graph reads SCL
    series: str | None = None  # of a graph that smooths over time: which dates went in


def read_settings(process_graph: Document) -> GraphSettings:
    """Find the LAI run in a graph and return its settings.

    Args:
        process_graph: flat graph of the job; sub-graphs are searched too.

    Raises:
        DescriptionError: no LAI run, several that differ, or a setting that is no plain value.
    """
    runs = [{**DEFAULTS, **arguments} for arguments in _runs(process_graph)]
    settings: list[dict[str, Any]] = [
        {key: run.get(key) for key in (*DEFAULTS, *OTHERS)} for run in runs
    ]
    if not settings or any(other != settings[0] for other in settings[1:]):
        what = "no LAI run" if not settings else "several LAI runs that differ"
        raise DescriptionError(
            f"the process graph holds {what}: publish the results of a job built with "
            "lai_udf.process_graph or the process sentinel2_lai"
        )
    (values,) = settings[:1]
    target, samples, seed, model = (values[key] for key in DEFAULTS)
    if target not in ("sl2p", "field") or not _is_count(samples) or not _is_count(seed):
        raise DescriptionError(f"the settings of the LAI run in the graph make no sense: {values}")
    others = {key: values[key] for key in OTHERS if values[key] is not None}
    classified = _reads_classes(process_graph)
    series = read_series(process_graph)
    if series is not None:
        others |= {key: series[key] for key in ("max_gap_days",) if key in series}
    return GraphSettings(
        cast("Any", target),
        samples,
        seed,
        str(model),
        others,
        classified,
        None if series is None else _loaded(process_graph),
    )


def _loaded(process_graph: Document) -> str:
    """Return which dates a graph loads."""
    for node in nodes_of(process_graph):
        extent = (node.get("arguments") or {}).get("temporal_extent")
        if node["process_id"].startswith("load_") and isinstance(extent, list):
            return f"the dates from {extent[0]} to {extent[-1]}"
    return "the dates that the job loaded"


def model_archive(settings: GraphSettings, job_options: Document) -> str | None:
    """Return the name of the model's archive, without `.zip`, if graph or options name it.

    Args:
        settings: of the graph.
        job_options: `udf-dependency-archives` holds addresses like `https://.../x.zip#lai_model`.
    """
    for archive in job_options.get("udf-dependency-archives") or ():
        address, _, folder = str(archive).partition("#")
        if folder == settings.model:
            return PurePosixPath(urlsplit(address).path).stem
    return PurePosixPath(settings.model).stem if settings.model.endswith(".zip") else None


def _reads_classes(process_graph: Document) -> bool:
    """Return whether SCL is loaded: by name, with all bands, or by our process."""
    nodes = list(nodes_of(process_graph))
    loads = [node for node in nodes if node["process_id"] in ("load_collection", "load_stac")]
    bands = [(node.get("arguments") or {}).get("bands") for node in loads]
    by_name = any(names is None or SCENE_CLASSES in names for names in bands)
    return not bands or by_name or any(node["process_id"] == UDP for node in nodes)


def _runs(graph: object) -> Iterator[Document]:
    """Yield the arguments of every LAI run, at any depth."""
    for node in nodes_of(graph):
        arguments = node.get("arguments")
        if not isinstance(arguments, Mapping):
            continue
        if node["process_id"] == UDP:
            yield arguments
        text = str(arguments.get("udf"))
        if node["process_id"] == "run_udf" and OUR_BAND in text and SERIES_BAND not in text:
            yield arguments.get("context") or {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
