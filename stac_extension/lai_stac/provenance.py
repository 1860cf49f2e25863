"""Where a product comes from: scene, model, software and process graph.

The processing extension records how, `derived_from` links from what.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pystac

from lai_stac import fields
from lai_stac.errors import DescriptionError
from lai_stac.files import replace_file
from lai_stac.objects import Calibration
from lai_udf.identity import utc

GRAPH_FILE = "process-graph.json"

MEDIA_TYPES = {
    ".json": pystac.MediaType.GEOJSON,
    ".geojson": pystac.MediaType.GEOJSON,
    ".tif": pystac.MediaType.GEOTIFF,
    ".tiff": pystac.MediaType.GEOTIFF,
}

KEPT_JOB_FIELDS = (
    "processing:facility",
    "processing:datetime",
    "processing:version",
    "created",
    "updated",
)
"""What is taken over from the metadata of an openEO job, where it is there."""


def model_contract(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what we promise about a model: `lai:contract` of its MLM item.

    Raises:
        DescriptionError: it lacks the contract, the model's name or its version.
    """
    contract: Mapping[str, Any] = model.get("properties", {}).get("lai:contract", {})
    missing = [key for key in ("model_id", "model_version", "output") if key not in contract]
    if missing:
        raise DescriptionError(
            f"model {model.get('id', 'without id')!r} lacks {', '.join(missing)} under "
            "properties.lai:contract: pass model.json of a model bundle"
        )
    return contract


def model_fields(model: Mapping[str, Any], target: str, samples: int) -> dict[str, Any]:
    """Return the ``laiq:`` fields that the model fixes."""
    contract = model_contract(model)
    output = contract["output"]
    values: dict[str, Any] = {
        fields.MODEL_ID: str(contract["model_id"]),
        fields.MODEL_VERSION: str(contract["model_version"]),
        fields.VALID_RANGE: [float(output["minimum"]), float(output["maximum"])],
    }
    checksum = model.get("assets", {}).get("model", {}).get("file:checksum")
    if checksum:
        values[fields.MODEL_CHECKSUM] = checksum
    if samples and "rate" in contract.get("masks", {}):
        values[fields.DROPOUT_RATE] = float(contract["masks"]["rate"])
    calibration = _calibration(contract.get("calibration", {}), target)
    if calibration is not None:
        values[fields.CALIBRATION] = calibration.to_dict()
    return values


def _calibration(contract: Mapping[str, Any], target: str) -> Calibration | None:
    """Return how the interval of a target was calibrated and what it covered elsewhere."""
    if "LAI" not in contract.get("variables", {}):
        return None
    scores = contract.get("scores_left_out_site_dates", {}).get(target, {})
    return Calibration(
        applied=True,
        method=contract.get("method"),
        dataset=_dataset(contract),
        n=contract.get("n_pairs"),
        coverage=_coverage(scores, contract.get("level", 0.95)) or None,
    )


def _coverage(scores: Mapping[str, float], level: float) -> dict[str, float]:
    """Return observed by nominal coverage: of the published interval, and of the narrower ones.

    Args:
        scores: `coverage` at the published level, `coverage_68` and so on at others.
        level: that of the published interval, 0 to 1.
    """
    named = ((re.fullmatch(r"coverage_(\d+)", name), share) for name, share in scores.items())
    found = {int(name[1]) / 100: share for name, share in named if name}
    if "coverage" in scores:
        found[level] = scores["coverage"]
    return {f"{nominal:g}": found[nominal] for nominal in sorted(found)}


def _dataset(contract: Mapping[str, Any]) -> str | None:
    """Return what the interval was calibrated against, as far as the bundle records it."""
    if "n_site_dates" in contract:
        return f"Field measurements of LAI at {contract['n_site_dates']} site-dates"
    return contract.get("data")


def processing_fields(
    contract: Mapping[str, Any],
    *,
    target: str,
    samples: int,
    resolution_m: float,
    job_metadata: Mapping[str, Any] | None,
    series: str | None = None,
) -> dict[str, Any]:
    """Return the `processing:` fields: level, lineage and software."""
    job = _job_properties(job_metadata)
    name, number = contract["model_id"], contract["model_version"]
    meant = "as SL2P (SNAP) would estimate it" if target == "sl2p" else "corrected to field LAI"
    draws = f"; {samples} Monte-Carlo dropout draws" if samples else ""
    draws += (
        f"; smoothed over time, clouds rejected and gaps filled, from {series}" if series else ""
    )
    values: dict[str, Any] = {
        "processing:level": "L3" if series else "L2",
        "processing:lineage": (
            f"Leaf area index, {meant}, from Sentinel-2 L2A surface reflectance at "
            f"{resolution_m:g} m by the network {name} {number}{draws}; interval calibrated on "
            f"field measurements{' of single dates' if series else ''}."
        ),
        "processing:software": {
            **dict(job.get("processing:software", {})),
            "sentinel2-lai": version("sentinel2-lai"),
            str(name): str(number),
        },
    }
    values |= {key: job[key] for key in KEPT_JOB_FIELDS if job.get(key)}
    return values


def write_graph(process_graph: Mapping[str, Any], directory: Path) -> pystac.Link:
    """Write an openEO process graph beside its results and return the link to it.

    In the item it would be four fifths of all that every search answers with.

    Raises:
        OutputError: the folder cannot be written.
    """
    text = json.dumps(dict(process_graph), indent=1, sort_keys=True) + "\n"
    replace_file(directory / GRAPH_FILE, text.encode())
    return pystac.Link(
        "processing-expression",
        f"./{GRAPH_FILE}",
        media_type=pystac.MediaType.JSON,
        title="openEO process graph",
        extra_fields={"processing:format": "openeo"},
    )


def stamp(values: Mapping[str, Any], created: dt.datetime | str | None) -> dict[str, Any]:
    """Return `created` and `updated` if the caller gives them; the clock is never read."""
    if created is None:
        return {}
    moment = utc(created).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"created": values.get("created", moment), "updated": moment}


def source_links(
    model: Mapping[str, Any],
    *,
    model_href: str | None,
    scene_href: str | None,
    job_metadata: Mapping[str, Any] | None,
    items: Sequence[str] = (),
) -> list[pystac.Link]:
    """Return the `derived_from` links: scene, items, what the job names, and the model.

    The model is linked at `model_href`, else at the address in its own item; without either
    the ``laiq:model_`` fields are all there is, because a link into nothing helps nobody.
    """
    links = []
    if scene_href:
        links.append(_link(scene_href, "Sentinel-2 L2A scene"))
    for name in items:
        links.append(_link(f"../{name}/{name}.json", f"LAI of one date: {name}"))
    for link in (job_metadata or {}).get("links", []):
        if link.get("rel") == "derived_from" and link.get("href") not in {x.href for x in links}:
            links.append(_link(link["href"], link.get("title", "Input of the openEO job")))
    href = model_href or _self_href(model)
    if href:
        contract = model_contract(model)
        link = _link(href, f"Model {contract['model_id']} {contract['model_version']}")
        link.media_type = pystac.MediaType.GEOJSON
        link.extra_fields["mlm:name"] = model["properties"].get("mlm:name", contract["model_id"])
        links.append(link)
    return links


def _link(href: str, title: str) -> pystac.Link:
    suffix = PurePosixPath(urlsplit(href).path).suffix.lower()
    is_item = suffix not in MEDIA_TYPES and href.startswith(("http://", "https://"))
    kind = pystac.MediaType.GEOJSON if is_item else MEDIA_TYPES.get(suffix)
    return pystac.Link(pystac.RelType.DERIVED_FROM, href, media_type=kind, title=title)


def _self_href(model: Mapping[str, Any]) -> str | None:
    for link in model.get("links", []):
        if link.get("rel") in ("self", "canonical"):
            return str(link["href"])
    return None


def _job_properties(job_metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the facts of a job: openEO writes them at the top (Collection) or in properties."""
    metadata = job_metadata or {}
    return {**metadata, **metadata.get("properties", {})}
