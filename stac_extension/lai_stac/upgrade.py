"""Items of earlier releases, described anew: ids, fields and numbers as they are today.

The rasters stay as they are. Time, scenes, model and settings are those of the old item;
identity, statistics and footprint are computed from the files as for a new result. Items with an id
of today keep it: their uncertainty alone is computed anew, where it is not that of their level.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pystac

from lai_stac import fields
from lai_stac.cog_items import describe_cogs
from lai_stac.errors import DescriptionError, LaiStacError
from lai_stac.facts import GRAPH_FILE
from lai_stac.fields import migrated
from lai_stac.item import build_item, count_pixels, write_item
from lai_stac.job_items import read_settings
from lai_stac.product import open_product
from lai_stac.statistics import INTERVAL_LEVEL, SIGMA_FIELDS, half_width_in_sigma
from lai_udf.bundle import Bundle, open_bundle
from lai_udf.identity import PRODUCT
from lai_udf.results import open_result

Document = Mapping[str, Any]

_ID = re.compile(r"^lai_s2_.+_[0-9a-f]{8}$")
_KEPT = (fields.CALIBRATION, fields.DROPOUT_RATE, "processing:software", "updated")


def is_ours(item: Document) -> bool:
    """Return whether an item describes LAI rasters as this project does, of any release."""
    properties = item.get("properties") or {}
    return "lai" in (item.get("assets") or {}) and fields.MODEL_VERSION in properties


def is_current(item: Document) -> bool:
    """Return whether an item is as the present release writes it."""
    return _has_current_id(item) and _has_sigma_of_level(item)


def _has_current_id(item: Document) -> bool:
    declared = item.get("stac_extensions") or []
    return bool(_ID.match(str(item.get("id")))) and fields.SCHEMA_URI in declared


def _level(item: Document) -> float:
    """Return the level of the interval."""
    lower = (item.get("assets") or {}).get("lai_lower") or {}
    return float(lower.get(fields.CONFIDENCE_LEVEL, INTERVAL_LEVEL))


def _has_sigma_of_level(item: Document) -> bool:
    """Return whether the uncertainty is the half-width of the interval by its level.

    Releases took intervals of every level for those of 95 %.
    """
    stated = item["properties"].get(fields.UNCERTAINTY_MEAN)
    bands = [(item["assets"].get(key) or {}).get("bands") for key in ("lai_lower", "lai_upper")]
    ends = [(band or [{}])[0].get("statistics", {}).get("mean") for band in bands]
    if stated is None or None in ends:
        return True
    sigma = (ends[1] - ends[0]) / (2 * half_width_in_sigma(_level(item)))
    return math.isclose(stated, sigma, rel_tol=0.005, abs_tol=1e-4)


def is_other_result(item: Document, other: Document) -> bool:
    """Return whether two items of one id are different results, not versions of one.

    Ids of this release distinguish all results; those of others and of earlier releases do not.
    What one of the items lacks does not count.
    """
    facts, others = _identity_facts(migrated(item)), _identity_facts(migrated(other))
    return any(
        others[name] is not None and value is not None and value != others[name]
        for name, value in facts.items()
    )


def upgrade_item(item: Document, folder: Path) -> pystac.Item:
    """Describe the rasters of an old item anew.

    Args:
        item: as the first release wrote it, or served it.
        folder: holds its rasters under their names (`lai.tif`, …); a process graph that the item
            holds is written there.

    Returns:
        A valid Item with an id of its own, or the one of today that it has.

    Raises:
        DescriptionError: the item is none of ours, or lacks what its identity is made of.
        RasterError: a raster is missing or unreadable.
    """
    if not is_ours(item):
        raise DescriptionError(f"{item.get('id')} is no item of LAI rasters with a model")
    if _has_current_id(item):
        return _with_sigma_of_level(item, folder)
    item = migrated(item)
    properties = item["properties"]
    graph = _graph_of(item, folder)
    sources = [link for link in _links(item, "derived_from") if "mlm:name" not in link]
    models = [link for link in _links(item, "derived_from") if "mlm:name" in link]
    upgraded = build_item(
        folder,
        model=_model_of(properties),
        datetime=properties["datetime"],
        platform=properties.get("platform"),
        process_graph=graph,
        job_metadata={"links": sources, **_job_fields(properties)},
        target=properties.get(fields.TARGET, "sl2p"),
        samples=properties.get(fields.MC_SAMPLES, 0),
        seed=properties.get(fields.RANDOM_SEED),
        mgrs_tile=str(properties.get("grid:code", "")).removeprefix("MGRS-") or None,
        settings={"level": _level(item), **_settings_of(graph)},
        model_href=models[0]["href"] if models else None,
        created=properties.get("created"),
    )
    upgraded.properties |= {name: properties[name] for name in _KEPT if name in properties}
    return upgraded


def _with_sigma_of_level(item: Document, folder: Path) -> pystac.Item:
    counts, _ = count_pixels(open_product(folder), _level(item))
    found = counts.describe()
    made = pystac.Item.from_dict(dict(item), migrate=False)
    made.properties |= {name: found.values[name] for name in SIGMA_FIELDS if name in found.values}
    if found.requirements:
        made.properties[fields.REQUIREMENTS] = [entry.to_dict() for entry in found.requirements]
    return made


def upgrade_folder(folder: Path) -> Path:
    """Describe a folder with an item and its rasters anew, and name it after its new id.

    Args:
        folder: as `make demo`, `lai_stac.describe` or `lai-udf run` of the first release wrote it;
            a run gets the item it did not have.

    Returns:
        The folder, renamed if it had the name of the item; the same one where it is current.

    Raises:
        LaiStacError: it holds no item of ours and no run, or a folder of the new name is there.
    """
    try:
        path, item = _read_item(folder)
    except DescriptionError:
        if not (folder / "lai.tif").is_file():
            raise
        return describe_cogs(folder, bundles=(open_bundle(), _bundle_of(folder))).parent
    if is_current(item):
        return folder
    upgraded = upgrade_item(item, folder)
    target = folder.with_name(upgraded.id) if folder.name == item["id"] else folder
    if target != folder and target.exists():
        raise LaiStacError(f"{target} exists: {folder} is left as it is")
    write_item(upgraded, folder)
    if path.stem != upgraded.id:
        path.unlink()
    return folder.rename(target) if target != folder else folder


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a folder, by hard links where the disk allows."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file():
            try:
                os.link(path, target / path.name)
            except OSError:
                shutil.copyfile(path, target / path.name)


def _identity_facts(item: Document) -> dict[str, Any]:
    """Return the facts of an item that identify its result; None if absent."""
    properties = item.get("properties") or {}
    assets = item.get("assets") or {}
    texts = [
        f"{link.get('title', '')} {link.get('href', '')}" for link in _links(item, "derived_from")
    ]
    products = sorted(found[0] for found in map(PRODUCT.search, texts) if found)
    names = (fields.TARGET, fields.RANDOM_SEED, fields.MODEL_VERSION)
    return {
        **{name: properties.get(name) for name in names},
        fields.MC_SAMPLES: properties.get(fields.MC_SAMPLES, 0),
        "datetime": properties.get("datetime"),
        "gsd": properties.get("gsd"),
        "transform": (assets.get("lai") or {}).get("proj:transform"),
        "shape": (assets.get("lai") or {}).get("proj:shape"),
        "products": products or None,
    }


def _read_item(folder: Path) -> tuple[Path, dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and is_ours(document):
            return path, document
    raise DescriptionError(f"{folder} holds no item of LAI rasters")


def _links(item: Document, relation: str) -> list[dict[str, Any]]:
    return [dict(link) for link in item.get("links") or [] if link.get("rel") == relation]


def _graph_of(item: Document, folder: Path) -> dict[str, Any] | None:
    """Return the process graph: of the item, or of the file that was laid beside its rasters."""
    expression = item["properties"].get("processing:expression")
    if isinstance(expression, Mapping) and isinstance(expression.get("expression"), Mapping):
        return dict(expression["expression"])
    if not (folder / GRAPH_FILE).is_file():
        return None
    graph: dict[str, Any] = json.loads((folder / GRAPH_FILE).read_text(encoding="utf-8"))
    return graph


def _settings_of(graph: dict[str, Any] | None) -> Document:
    """Return the settings that the graph names beside those of the item; none without a run."""
    if graph is None:
        return {}
    try:
        return read_settings(graph).others
    except DescriptionError:
        return {}


def _job_fields(properties: Document) -> dict[str, Any]:
    names = ("processing:facility", "processing:datetime", "processing:version")
    return {name: properties[name] for name in names if name in properties}


def _bundle_of(folder: Path) -> Bundle:
    """Return as much of the bundle that made a run as the tags of its files hold."""
    tags = open_result(folder).tags
    absent = [name for name in ("MODEL_ID", "MODEL_VERSION", "MODEL_CHECKSUM") if name not in tags]
    if absent:
        raise DescriptionError(f"lai.tif in {folder.name} has no tag {', '.join(absent)}")
    known = {
        fields.MODEL_ID: tags["MODEL_ID"],
        fields.MODEL_VERSION: tags["MODEL_VERSION"],
        fields.MODEL_CHECKSUM: tags["MODEL_CHECKSUM"],
    }
    return Bundle(folder, _model_of(known))


def _model_of(properties: Document) -> dict[str, Any]:
    """Return as much of `model.json` as the item holds: the bundle itself may be gone."""
    low, high = properties.get(fields.VALID_RANGE, (0.0, 8.0))
    name, version = properties[fields.MODEL_ID], properties[fields.MODEL_VERSION]
    checksum = properties.get(fields.MODEL_CHECKSUM)
    contract = {
        "model_id": name,
        "model_version": version,
        "output": {"minimum": low, "maximum": high},
    }
    return {
        "id": f"{name}-{version}",
        "properties": {"mlm:name": name, "lai:contract": contract},
        "assets": {"model": {"file:checksum": checksum}} if checksum else {},
    }
