"""From a folder of COGs that `lai-udf run` wrote to an item: their tags tell what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from lai_stac.errors import DescriptionError, RasterError
from lai_stac.item import describe
from lai_stac.job_items import TILE_PX
from lai_stac.job_results import PRODUCT
from lai_udf.bundle import Bundle, open_bundle

NEEDED = ("DATETIME", "MODEL_CHECKSUM", "TARGET")


def describe_cogs(directory: Path, *, bundles: Sequence[Bundle] = ()) -> Path:
    """Draw the thumbnail and write the item of a folder of COGs, from their tags alone.

    Args:
        directory: `lai.tif` and its neighbours; thumbnail and item are written beside them.
        bundles: models that may have made them; none = the one that ships with us.

    Returns:
        The path of the item.

    Raises:
        RasterError: `lai.tif` is missing or unreadable.
        DescriptionError: the tags do not say time, target and a known model.
        OutputError: the folder cannot be written.
    """
    tags, shape = _read_tags(directory / "lai.tif")
    absent = [name for name in NEEDED if not tags.get(name)]
    if absent:
        raise DescriptionError(
            f"lai.tif in {directory.name} has no tag {', '.join(absent)}: describe it with "
            "lai_stac.describe, or publish it with its item"
        )
    known = {bundle.checksum: bundle for bundle in bundles or (open_bundle(),)}
    bundle = known.get(tags["MODEL_CHECKSUM"])
    if bundle is None:
        raise DescriptionError(
            f"{directory.name} was made by the model {tags.get('MODEL_ID')} "
            f"{tags.get('MODEL_VERSION')}, whose checksum is none of those known here: "
            f"{', '.join(str(one.description['id']) for one in known.values())}"
        )
    product = PRODUCT.search(tags.get("PRODUCT_ID", ""))
    samples = int(tags.get("SAMPLES", "0"))
    return describe(
        directory,
        model=bundle.description,
        datetime=tags["DATETIME"],
        platform=tags.get("PLATFORM"),
        mgrs_tile=product[3] if product and shape == (TILE_PX, TILE_PX) else None,
        target=tags["TARGET"],
        samples=samples,
        seed=int(tags.get("SEED", "0")) if samples else None,
    )


def _read_tags(path: Path) -> tuple[Mapping[str, str], tuple[int, int]]:
    try:
        with rasterio.open(path, driver="GTiff") as dataset:
            return dataset.tags(), dataset.shape
    except RasterioError as error:
        raise RasterError(f"cannot read {path.name} of {path.parent.name} ({error})") from error
