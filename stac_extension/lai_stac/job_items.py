"""From the results of an openEO batch job to folders of LAI items, one per date.

    job_results   files by date, links, process graph
    job_graph     target, draws and model that the graph names
    here          GeoTIFFs -> cube -> one COG per band, thumbnail, item

The same results give the same items: names, times and numbers come from files and metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

from lai_stac.errors import DescriptionError, RasterError
from lai_stac.item import describe_written
from lai_stac.job_graph import GraphSettings, model_archive, read_settings
from lai_stac.job_results import DatedResult, JobResults, ResultFile, read_job_results
from lai_stac.product import Band, Product, open_raster
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.cog import ENCODINGS
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.identity import covers_tile

MAX_PIXELS = 150_000_000
"""Largest raster that is described; a larger area is several jobs."""


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
    try:
        return describe_written(
            raster.write_cogs,
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
