"""From a folder of LAI COGs and the model that made them to a STAC 1.1 Item.

`build_item` reads; nothing it writes depends on clock, host or order, so the same folder
described twice gives the same Item. `write_item` puts it beside its COGs, whole or not at all;
`describe` does both and draws the thumbnail.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pystac
import xarray as xr

from lai_stac import fields
from lai_stac.assets import COMPONENTS, build_assets
from lai_stac.errors import DescriptionError, RasterError
from lai_stac.files import replace_file
from lai_stac.footprint import block_size, bounding_box, inside_mask, outline, to_wgs84
from lai_stac.identity import item_id, tile_name, utc
from lai_stac.provenance import (
    model_contract,
    model_fields,
    processing_fields,
    source_links,
    stamp,
)
from lai_stac.statistics import describe_product, observed_pixels
from lai_stac.thumbnail import write_thumbnail
from lai_stac.validation import validate_item
from lai_udf.cog import read_lai_cogs
from lai_udf.errors import LaiUdfError
from lai_udf.grid import Grid

REQUIRED_BANDS = ("LAI", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS")

EXTENSIONS = (
    fields.SCHEMA_URI,
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
)
GRID_EXTENSION = "https://stac-extensions.github.io/grid/v1.1.0/schema.json"


def build_item(
    directory: Path,
    *,
    model: Mapping[str, Any],
    datetime: dt.datetime | str,
    platform: str | None = None,
    scene_href: str | None = None,
    process_graph: Mapping[str, Any] | None = None,
    job_metadata: Mapping[str, Any] | None = None,
    target: Literal["sl2p", "field"] = "sl2p",
    samples: int = 0,
    seed: int | None = None,
    mgrs_tile: str | None = None,
    model_href: str | None = None,
    created: dt.datetime | str | None = None,
) -> pystac.Item:
    """Describe a folder of LAI COGs.

    Args:
        directory: holds `lai.tif`, `lai_lower.tif`, `lai_upper.tif`, `lai_flags.tif`, and
            optionally `lai_sd.tif` and `thumbnail.png`.
        model: `model.json` of the bundle that made them.
        datetime: time of the observation, with zone.
        platform: such as `sentinel-2a`.
        scene_href: the L2A scene it was made from.
        process_graph: the openEO process graph, where there was one.
        job_metadata: STAC metadata of the openEO job's results.
        target: what the estimate aims at, `sl2p` or `field`.
        samples: Monte-Carlo draws; 0 = none.
        seed: seed of the draws.
        mgrs_tile: such as `32TQM`; without it the id names the grid by a hash.
        model_href: where the model's own STAC Item is; links to it as `derived_from`.
        created: when the product was made; absent where nobody knows.

    Returns:
        A valid Item with relative asset hrefs and no self link.

    Raises:
        RasterError: a COG is missing or unreadable, or no pixel was observed at all.
        DescriptionError: time, model, target or tile make no sense.
        InvalidItemError: the outcome is not valid (a fault of ours).
    """
    if samples and (samples < 2 or isinstance(samples, bool)):
        raise DescriptionError(f"samples={samples!r}: use 0 or at least 2 draws")
    cube = _read(directory)
    grid = Grid.of_data_array(cube, str(directory))
    lai, lower, upper = (cube.sel(bands=band).values for band in REQUIRED_BANDS[:3])
    flags = cube.sel(bands="LAI_FLAGS").values.astype("uint8")
    observed = observed_pixels(lai, flags)
    polygon = outline(observed, grid.transform)
    if polygon is None:
        raise RasterError(f"{directory}: not one pixel was observed; there is nothing to describe")
    inside = inside_mask(polygon, grid.transform, grid.shape)
    geometry = to_wgs84(polygon, grid.crs, block_size(observed, grid.transform))

    contract = model_contract(model)
    product = describe_product(lai, lower, upper, flags, inside)
    item = pystac.Item(
        id=item_id(
            datetime=datetime,
            model_version=str(contract["model_version"]),
            grid=grid,
            mgrs_tile=mgrs_tile,
            target=target,
        ),
        geometry=geometry,
        bbox=bounding_box(geometry),
        datetime=utc(datetime),
        properties={
            **_common_fields(utc(datetime), platform, mgrs_tile, grid),
            **processing_fields(
                contract,
                target=target,
                samples=samples,
                process_graph=process_graph,
                job_metadata=job_metadata,
            ),
            **_uncertainty_fields(target, samples, seed),
            **model_fields(model, target, samples),
            **product.values,
        },
        stac_extensions=[*EXTENSIONS, *([GRID_EXTENSION] if mgrs_tile else [])],
    )
    if product.requirements:
        item.properties[fields.REQUIREMENTS] = [entry.to_dict() for entry in product.requirements]
    item.properties |= stamp(item.properties, created)
    for key, asset in build_assets(directory, cube, inside, samples=samples).items():
        item.add_asset(key, asset)
    item.add_links(
        source_links(model, model_href=model_href, scene_href=scene_href, job_metadata=job_metadata)
    )
    validate_item(item)
    return item


def write_item(item: pystac.Item, directory: Path) -> Path:
    """Write an Item as `<id>.json` into the folder of its COGs, whole or not at all.

    Returns:
        The path of the file.

    Raises:
        OutputError: the folder cannot be written; what was there before is still there.
    """
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    return replace_file(directory / f"{item.id}.json", text.encode())


def describe(directory: Path, **description: Any) -> Path:  # noqa: ANN401
    """Draw the thumbnail, build the Item and write it beside its COGs.

    Args:
        directory: as for `build_item`.
        **description: every other argument of `build_item`.

    Returns:
        The path of the Item.
    """
    write_thumbnail(_read(directory).sel(bands="LAI").values, directory / "thumbnail.png")
    return write_item(build_item(directory, **description), directory)


def _read(directory: Path) -> xr.DataArray:
    """Read the COGs of a folder; all the bands that an item needs must be there."""
    try:
        cube = read_lai_cogs(directory)
    except LaiUdfError as error:
        raise RasterError(str(error)) from error
    missing = [band for band in REQUIRED_BANDS if band not in cube.coords["bands"].values]
    if missing:
        raise RasterError(
            f"{directory} lacks {', '.join(f'{band.lower()}.tif' for band in missing)}: "
            "an item needs the interval and the flags beside LAI"
        )
    if not cube.sel(bands="LAI_FLAGS").notnull().all():
        raise RasterError(
            f"{directory / 'lai_flags.tif'} has no-data pixels; flags are data everywhere"
        )
    return cube


def _common_fields(
    moment: dt.datetime, platform: str | None, mgrs_tile: str | None, grid: Grid
) -> dict[str, Any]:
    """Return instrument, place and grid, each in its own extension or in the core."""
    place = f"{tile_name(mgrs_tile)}, " if mgrs_tile else ""
    values: dict[str, Any] = {
        "title": f"Leaf area index, {place}{moment:%Y-%m-%d}",
        "constellation": "sentinel-2",
        "instruments": ["msi"],
        "gsd": abs(grid.transform.a),
        "proj:code": grid.crs.to_string(),
    }
    if platform:
        values["platform"] = _platform_name(platform)
    if mgrs_tile:
        values["grid:code"] = f"MGRS-{tile_name(mgrs_tile)}"
    return values


def _platform_name(platform: str) -> str:
    """Write a platform as catalogues do: `S2A` and `Sentinel-2A` both become `sentinel-2a`."""
    found = re.fullmatch(r"s(?:entinel)?[-_ ]?2([a-d])", platform.strip().lower())
    return f"sentinel-2{found[1]}" if found else platform.strip().lower()


def _uncertainty_fields(target: str, samples: int, seed: int | None) -> dict[str, Any]:
    """Return what LAI is meant and what its uncertainty is, for the Item as a whole."""
    values: dict[str, Any] = {
        fields.QUANTITY: "effective",
        fields.ELEMENTS: "green",
        fields.TARGET: target,
        fields.UNCERTAINTY_TYPE: "standard_deviation",
        fields.COVERAGE_FACTOR: 1,
        fields.UNCERTAINTY_METHOD: "conformal",
        fields.UNCERTAINTY_COMPONENTS: list(COMPONENTS),
    }
    if samples:
        values[fields.MC_SAMPLES] = samples
        if seed is not None:
            values[fields.RANDOM_SEED] = seed
    return values
