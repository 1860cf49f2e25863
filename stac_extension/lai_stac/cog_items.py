"""From COGs of `lai-udf run` or `lai-udf series` to items: their tags identify them.

Items of a series are `derived_from` those of its dates, stored beside it: `../<id>/<id>.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lai_stac.errors import DescriptionError, RasterError
from lai_stac.item import describe
from lai_stac.product import open_raster
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.grid import Grid
from lai_udf.identity import ID_TAG, PRODUCT, covers_tile, source_name

NEEDED = ("DATETIME", "MODEL_CHECKSUM", "TARGET")
SETTINGS = ("REGION", "LEVEL", "CALIBRATION", "PLAUSIBILITY", "MAX_GAP_DAYS")
SCENE_CLASSES_TAG = "SCENE_CLASSES"  # set by a run where a scene classification went in


def describe_runs(sources: Sequence[Path], *, bundles: Sequence[Bundle] = ()) -> list[Path]:
    """Describe every result of `lai-udf run` below some folders.

    Args:
        sources: folders with `lai.tif`, or folders of them; hidden ones are left out.
        bundles: models that may have made them; none = the one that ships with us.

    Returns:
        The paths of the items, in the order of the folders.

    Raises:
        RasterError: a source holds no `lai.tif`, or one cannot be read.
        DescriptionError: tags lack time, target and a known model.
        OutputError: a folder cannot be written.
    """
    folders: list[Path] = []
    for source in sources:
        found = sorted(path.parent for path in source.glob("**/lai.tif"))
        found = [f for f in found if not any(p[0] == "." for p in f.relative_to(source).parts)]
        if not found:
            raise RasterError(f"{source} holds no lai.tif: give the output of lai-udf run")
        folders += [folder for folder in found if folder not in folders]
    known = tuple(bundles) or (open_bundle(),)
    return [describe_cogs(folder, bundles=known) for folder in folders]


def describe_cogs(directory: Path, *, bundles: Sequence[Bundle] = ()) -> Path:
    """Draw the thumbnail and write the item of a folder of COGs, from their tags alone.

    Args:
        directory: `lai.tif` and its neighbours; thumbnail and item are written beside them.
        bundles: models that may have made them; none = the one that ships with us.

    Returns:
        The path of the item.

    Raises:
        RasterError: `lai.tif` is missing or unreadable.
        DescriptionError: the tags lack time, target and a known model.
        OutputError: the folder cannot be written.
    """
    with open_raster(directory / "lai.tif") as dataset:
        tags, grid = dataset.tags(), Grid.of_dataset(dataset)
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
    facts = {
        "model": bundle.description,
        "datetime": tags["DATETIME"],
        "target": tags["TARGET"],
        "settings": _settings(tags),
    }
    if tags.get("SERIES"):
        return describe(
            directory,
            **facts,
            sources=tags.get("INPUT", "").split(),
            derived_from=tags.get("SOURCES", "").split(),
            series=tags["SERIES"],
        )
    name = source_name(tags.get("PRODUCT_ID", ""))
    product = PRODUCT.search(name)
    samples = int(tags.get("SAMPLES", "0"))
    return describe(
        directory,
        **facts,
        platform=tags.get("PLATFORM"),
        sources=[name] if name else [],
        # Releases without result ids did not record whether classes went in.
        scene_classification=ID_TAG not in tags or SCENE_CLASSES_TAG in tags,
        result_id=tags.get(ID_TAG),
        mgrs_tile=product["tile"] if product and covers_tile(grid) else None,
        samples=samples,
        seed=int(tags.get("SEED", "0")) if samples else None,
    )


def _settings(tags: Mapping[str, str]) -> dict[str, str | float]:
    """Return the settings of the run that its tags name."""
    given: dict[str, str | float] = {k.lower(): tags[k] for k in SETTINGS if tags.get(k)}
    if "level" in given:
        given["level"] = float(given["level"])
    return given
