"""From a folder of LAI COGs and the model that made them to a STAC 1.1 Item.

`build_item` is the one assembler: whatever made the rasters (a run, an openEO job, the demo), what
is known of them goes in as `lai_stac.facts.ResultFacts`. Nothing depends on clock, host or order,
so the same folder described twice gives the same Item. `write_item` puts it beside its COGs, whole
or not at all; `describe` does both and draws the thumbnail; `describe_cube` begins with an array.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pystac
import xarray as xr
from shapely.geometry import shape

from lai_stac import fields
from lai_stac.assets import COMPONENTS, RENDER_URI, build_assets, describe_renders
from lai_stac.errors import LaiStacError, OutputError, RasterError
from lai_stac.facts import (
    LOG,
    ResultFacts,
    model_fields,
    processing_fields,
    source_links,
    stamp,
    write_graph,
)
from lai_stac.files import write_json, write_thumbnail
from lai_stac.product import (
    Product,
    block_size,
    bounding_box,
    inside_mask,
    open_product,
    outline,
    to_wgs84,
)
from lai_stac.statistics import ProductCounts
from lai_stac.validation import validate_item
from lai_udf.cog import write_lai_cogs
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid
from lai_udf.identity import tile_name, tile_of, utc
from lai_udf.predict import OUTPUT_BANDS

REQUIRED_BANDS = tuple(band for band in OUTPUT_BANDS if band != "LAI_SD")

EXTENSIONS = (
    *fields.SCHEMA_URIS,
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.2.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    RENDER_URI,
)
"""Projection and raster in the versions that know `proj:epsg` and `raster:bands`, as readers do."""
GRID_EXTENSION = "https://stac-extensions.github.io/grid/v1.1.0/schema.json"


def build_item(directory: Path, **facts: Any) -> pystac.Item:  # noqa: ANN401  (see ResultFacts)
    """Describe a folder of LAI COGs.

    Args:
        directory: holds `lai.tif`, `lai_lower.tif`, `lai_upper.tif`, `lai_flags.tif`, and
            optionally `lai_sd.tif`, further variables and `thumbnail.png`. The process graph, where
            there is one, is written beside them.
        **facts: as in `ResultFacts`; `model` and `datetime` at least.

    Returns:
        A valid Item with relative asset hrefs and no self link.

    Raises:
        RasterError: a COG is missing or unreadable, or no pixel was observed at all.
        DescriptionError: time, model, target or tile make no sense.
        InvalidItemError: the outcome is not valid (a fault of ours).
    """
    known = ResultFacts(**facts)
    rasters = open_product(directory, REQUIRED_BANDS)
    grid, bands = rasters.grid, list(rasters.files)
    counts, geometry = count_pixels(rasters, known.level)
    product = counts.describe(cloud_known=known.scene_classification)
    if rasters.is_series:
        product = product.without(fields.FLAG_FRACTIONS)
    item = pystac.Item(
        id=known.item_id(grid, sorted({name for b in bands if (name := b.split("_")[0]) != "GAP"})),
        geometry=geometry,
        bbox=bounding_box(geometry),
        datetime=utc(known.datetime),
        properties={
            **_common_fields(known, grid, geometry),
            **processing_fields(known, grid.pixel_m),
            **_uncertainty_fields(known),
            **model_fields(known),
            **product.values,
            "renders": describe_renders(bands, known.samples, rasters.is_series),
        },
        stac_extensions=[
            *(uri for uri in EXTENSIONS if not (rasters.is_series and "/classification/" in uri)),
            *([GRID_EXTENSION] if known.mgrs_tile else []),
        ],
    )
    if not known.scene_classification and not rasters.is_series:
        LOG.warning("%s: no scene classification went in; its cloud fraction is unknown", item.id)
    if rasters.is_series:  # the coverage of single dates is not that of a series
        item.properties.pop(fields.CALIBRATION, None)
    if product.requirements:
        item.properties[fields.REQUIREMENTS] = [entry.to_dict() for entry in product.requirements]
    item.properties |= stamp(item.properties, known.created)
    assets = build_assets(rasters, counts, samples=known.samples, level=known.level)
    for key, asset in assets.items():
        item.add_asset(key, asset)
    item.add_links(source_links(known))
    if known.process_graph is not None:
        item.add_link(write_graph(known.process_graph, directory))
    validate_item(item)
    return item


def count_pixels(rasters: Product, level: float) -> tuple[ProductCounts, dict[str, Any]]:
    """Count the pixels within the outline of what was observed.

    Args:
        rasters: of the result.
        level: of the interval, 0 to 1.

    Returns:
        The counts, and the outline in degrees (GeoJSON).

    Raises:
        RasterError: a file cannot be read, or no pixel was observed at all.
    """
    observed, grid = rasters.observed(), rasters.grid
    polygon = outline(observed, grid.transform)
    if polygon is None:
        raise RasterError(f"{rasters.directory}: not one pixel was observed; nothing to describe")
    inside = inside_mask(polygon, grid.transform, grid.shape)
    counts = ProductCounts(list(rasters.files), level)
    for rows, layers in rasters.rows():
        counts.add(layers, inside[rows])
    return counts, to_wgs84(polygon, grid.crs, block_size(observed, grid.transform))


def write_item(item: pystac.Item, directory: Path) -> Path:
    """Write an Item as `<id>.json` into the folder of its COGs, whole or not at all.

    Returns:
        The path of the file.

    Raises:
        OutputError: the folder cannot be written; what was there before is still there.
    """
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    return write_json(directory / f"{item.id}.json", document)


def describe(directory: Path, **facts: Any) -> Path:  # noqa: ANN401
    """Draw the thumbnail, build the Item and write it beside its COGs.

    Args:
        directory: as for `build_item`.
        **facts: the same.

    Returns:
        The path of the Item.
    """
    small = open_product(directory, REQUIRED_BANDS).shrunk()
    write_thumbnail(small, directory / "thumbnail.png")
    return write_item(build_item(directory, **facts), directory)


def describe_cube(
    cube: xr.DataArray,
    out: Path,
    *,
    replace: bool = False,
    **facts: Any,  # noqa: ANN401
) -> Path:
    """Write a result in memory as a folder of its own: COGs, thumbnail and Item.

    Args:
        cube: dims (bands, y, x), output bands, NaN = no data, with coordinates and CRS.
        out: where the folder goes; made if missing.
        replace: whether an earlier version of the same result is replaced.
        **facts: as for `build_item`.

    Returns:
        The folder `<out>/<item id>`.

    Raises:
        LaiStacError: as for `build_item`, or the folder exists and is not to be replaced.
    """
    return describe_written(partial(write_lai_cogs, cube), out, replace=replace, **facts)


def describe_written(
    write: Callable[[Path], object],
    out: Path,
    *,
    replace: bool = False,
    **facts: Any,  # noqa: ANN401
) -> Path:
    """Write COGs, thumbnail and Item into a folder of their own, which appears whole.

    Args:
        write: writes the COGs into the folder that it is given.
        out: see `describe_cube`.
        replace: the same.
        **facts: the same.
    """
    work = out / ".describing"
    shutil.rmtree(work, ignore_errors=True)
    try:
        try:
            write(work)
        except LaiUdfError as error:
            raise RasterError(str(error)) from error
        path = describe(work, **facts)
        target = out / path.stem
        if target.exists():
            if not replace:
                raise LaiStacError(f"{target} exists: two results are one item, {path.stem}")
            shutil.rmtree(target)
        try:
            os.replace(work, target)
        except OSError as error:
            raise OutputError(f"cannot write {target} ({error.strerror})") from error
        return target
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _common_fields(known: ResultFacts, grid: Grid, geometry: dict[str, Any]) -> dict[str, Any]:
    """Return time, instrument, place and grid, each in its own extension or in the core."""
    moment = utc(known.datetime)
    what = "Leaf area index" if known.target == "sl2p" else "Leaf area index (field)"
    what += " through clouds and gaps" if known.series else ""
    pixel = "" if grid.pixel_m == 20 else f" {grid.pixel_m:g} m"
    draws = f", {known.samples} draws" if known.samples else ""
    clock = "%Y-%m-%d" if known.series else "%Y-%m-%d %H:%M"
    values: dict[str, Any] = {
        "title": f"{what}{pixel}, {_place(known, geometry)}, {moment:{clock}}{draws}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": grid.pixel_m,
        **_crs_fields(grid),
    }
    if known.end_datetime is not None and utc(known.end_datetime) != moment:
        values["start_datetime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        values["end_datetime"] = f"{utc(known.end_datetime):%Y-%m-%dT%H:%M:%SZ}"
    if known.platform:
        values["platform"] = _platform_name(known.platform)
    if known.mgrs_tile:
        values["grid:code"] = f"MGRS-{tile_name(known.mgrs_tile)}"
    return values


def _crs_fields(grid: Grid) -> dict[str, Any]:
    """Return code and EPSG number of a CRS; its text where it has no code."""
    authority = grid.crs.to_authority()
    if authority is None:
        return {"proj:code": None, "proj:epsg": None, "proj:wkt2": grid.crs.to_wkt()}
    name, code = authority
    return {"proj:code": f"{name}:{code}", "proj:epsg": int(code) if name == "EPSG" else None}


def _place(known: ResultFacts, geometry: dict[str, Any]) -> str:
    """Return the tile, or the middle of the footprint: `46.12°N 11.50°E`."""
    tile = known.mgrs_tile or tile_of(known.source_names)
    if tile:
        return tile_name(tile)
    middle = shape(geometry).representative_point()
    latitude = f"{abs(middle.y):.2f}°{'N' if middle.y >= 0 else 'S'}"
    return f"{latitude} {abs(middle.x):.2f}°{'E' if middle.x >= 0 else 'W'}"


def _platform_name(platform: str) -> str:
    """Write a platform as catalogues do: `S2A` and `Sentinel-2A` both become `sentinel-2a`."""
    found = re.fullmatch(r"s(?:entinel)?[-_ ]?2([a-d])", platform.strip().lower())
    return f"sentinel-2{found[1]}" if found else platform.strip().lower()


def _uncertainty_fields(known: ResultFacts) -> dict[str, Any]:
    """Return what LAI is meant and what its uncertainty is, for the Item as a whole."""
    values: dict[str, Any] = {
        fields.QUANTITY: "effective",
        fields.ELEMENTS: "green",
        fields.TARGET: known.target,
        fields.UNCERTAINTY_TYPE: "standard_deviation",
        fields.COVERAGE_FACTOR: 1,
        fields.UNCERTAINTY_METHOD: "conformal",
        fields.UNCERTAINTY_COMPONENTS: list(COMPONENTS),
    }
    if known.samples:
        values[fields.MC_SAMPLES] = known.samples
        if known.seed is not None:
            values[fields.RANDOM_SEED] = known.seed
    return values
