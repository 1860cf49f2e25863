"""What is known of a result beside its pixels: time, scene, model, settings, provenance.

`ResultFacts` gives the identity of a result, and its provenance in the item: the
processing extension records how, `derived_from` links from what.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

import pystac

from lai_stac import fields
from lai_stac.errors import DescriptionError
from lai_stac.fields import Calibration
from lai_stac.files import replace_file
from lai_udf.errors import IdentityError
from lai_udf.grid import Grid
from lai_udf.identity import PRODUCT, ResultIdentity, source_name, tile_name, tile_of, utc

LOG = logging.getLogger("lai_stac")

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


@dataclass(frozen=True, kw_only=True)
class ResultFacts:
    """What `build_item` takes beside the folder of COGs."""

    model: Mapping[str, Any]  # `model.json` of the bundle that made them
    datetime: dt.datetime | str
    """Time of the observation, with zone; the start where it took a while."""
    end_datetime: dt.datetime | str | None = None  # time of the last scene of a mosaic
    platform: str | None = None  # such as `sentinel-2a`
    scene_href: str | None = None  # the L2A scene it was made from
    sources: Sequence[str] = ()
    """Names of further scenes that went in, see `lai_udf.identity.source_name`."""
    derived_from: Sequence[str] = ()
    """Ids of items that it was made from: those of the dates of a series."""
    series: str | None = None
    """Of a series: which dates went in, such as `38 dates from 2018-01-03 to 2018-11-30`."""
    scene_classification: bool = True
    """Whether SCL went in; without it the share of cloud is unknown."""
    process_graph: Mapping[str, Any] | None = None  # the openEO process graph, where there was one
    job_metadata: Mapping[str, Any] | None = None  # STAC metadata of the openEO job's results
    target: Literal["sl2p", "field"] = "sl2p"  # what the estimate aims at
    samples: int = 0  # Monte-Carlo draws; 0 = none
    seed: int | None = None  # of the draws
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that change the numbers: `level`, `region`, `calibration`, …"""
    mgrs_tile: str | None = None  # such as `32TQM`, where the raster is that tile
    result_id: str | None = None
    """Id that the run gave its result; else it is made of all the other facts."""
    model_href: str | None = None  # where the model's own STAC Item is
    created: dt.datetime | str | None = None  # when the product was made; None if unknown

    def __post_init__(self) -> None:
        """Refuse draws that make no spread, and times and tiles that are none."""
        if self.samples and (self.samples < 2 or isinstance(self.samples, bool)):
            raise DescriptionError(f"samples={self.samples!r}: use 0 or at least 2 draws")
        try:
            for moment in (self.datetime, self.end_datetime, self.created):
                if moment is not None:
                    utc(moment)
            if self.mgrs_tile:
                tile_name(self.mgrs_tile)
        except IdentityError as error:
            raise DescriptionError(str(error)) from error

    @property
    def source_names(self) -> list[str]:
        """Names of all scenes that went in, each once."""
        links = (self.job_metadata or {}).get("links", [])
        texts = [f"{x.get('title', '')} {x.get('href', '')}" for x in links if _is_source(x)]
        hrefs = [self.scene_href] if self.scene_href else []
        names = [*self.sources, *hrefs, *(_product_in(text) for text in texts)]
        return sorted({*self.derived_from, *(source_name(name) for name in names)})

    @property
    def level(self) -> float:
        """Level of the interval, 0 to 1."""
        return float(self.settings.get("level") or 0.95)

    def item_id(self, grid: Grid, variables: Sequence[str]) -> str:
        """Return the id of the result on its grid.

        Raises:
            DescriptionError: time, target or tile make no sense.
        """
        if self.result_id:
            return self.result_id
        contract = model_contract(self.model)
        names = self.source_names
        identity = ResultIdentity(
            datetime=self.datetime,
            grid=grid,
            model_id=str(contract["model_id"]),
            model_version=str(contract["model_version"]),
            model_checksum=self.model.get("assets", {}).get("model", {}).get("file:checksum", ""),
            sources=names,
            mgrs_tile=self.mgrs_tile or tile_of(names),
            target=self.target,
            variables=variables,
            resolution=grid.pixel_m,
            samples=self.samples,
            seed=self.seed,
            settings={**self.settings, "series": self.series},
        )
        try:
            return identity.id
        except IdentityError as error:
            raise DescriptionError(str(error)) from error


def _is_source(link: Mapping[str, Any]) -> bool:
    return link.get("rel") == "derived_from" and "mlm:name" not in link


def _product_in(text: str) -> str:
    found = PRODUCT.search(text)
    return found[0] if found else text.split(" ")[-1]


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


def model_fields(known: ResultFacts) -> dict[str, Any]:
    """Return the ``laiq:`` fields that the model fixes."""
    contract = model_contract(known.model)
    output = contract["output"]
    values: dict[str, Any] = {
        fields.MODEL_ID: str(contract["model_id"]),
        fields.MODEL_VERSION: str(contract["model_version"]),
        fields.VALID_RANGE: [float(output["minimum"]), float(output["maximum"])],
    }
    checksum = known.model.get("assets", {}).get("model", {}).get("file:checksum")
    if checksum:
        values[fields.MODEL_CHECKSUM] = checksum
    if known.samples and "rate" in contract.get("masks", {}):
        values[fields.DROPOUT_RATE] = float(contract["masks"]["rate"])
    calibration = _calibration(contract.get("calibration", {}), known.target)
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
        dataset=f"Field measurements of LAI at {contract['n_site_dates']} site-dates"
        if "n_site_dates" in contract
        else contract.get("data"),
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


def processing_fields(known: ResultFacts, resolution_m: float) -> dict[str, Any]:
    """Return the `processing:` fields: level, lineage and software."""
    contract, metadata = model_contract(known.model), known.job_metadata or {}
    # openEO writes the facts of a job at the top (Collection) or in properties
    job = {**metadata, **metadata.get("properties", {})}
    name, number, series = contract["model_id"], contract["model_version"], known.series
    meant = (
        "as SL2P (SNAP) would estimate it" if known.target == "sl2p" else "corrected to field LAI"
    )
    if known.settings.get("calibration"):
        meant += " and to points of the date"
    new = " for regions without field data" if known.settings.get("region") == "new" else ""
    draws = f"; {known.samples} Monte-Carlo dropout draws" if known.samples else ""
    draws += (
        f"; smoothed over time, clouds rejected and gaps filled, from {series}" if series else ""
    )
    return {
        "processing:level": "L3" if series else "L2",
        "processing:lineage": (
            f"Leaf area index, {meant}, from Sentinel-2 L2A surface reflectance at "
            f"{resolution_m:g} m by the network {name} {number}{draws}; interval calibrated on "
            f"field measurements{' of single dates' if series else ''}{new}."
        ),
        "processing:software": {
            **dict(job.get("processing:software", {})),
            "sentinel2-lai": version("sentinel2-lai"),
            str(name): str(number),
        },
        **{key: job[key] for key in KEPT_JOB_FIELDS if job.get(key)},
    }


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


def source_links(known: ResultFacts) -> list[pystac.Link]:
    """Return the `derived_from` links: scene, items, what the job names, and the model.

    The model is linked at `model_href`, else at the address in its own item; without either
    the ``laiq:model_`` fields are all there is, because a link into nothing helps nobody.
    """
    links = []
    if known.scene_href:
        links.append(_link(known.scene_href, "Sentinel-2 L2A scene"))
    for name in known.derived_from:
        links.append(_link(f"../{name}/{name}.json", f"LAI of one date: {name}"))
    for link in (known.job_metadata or {}).get("links", []):
        if link.get("rel") == "derived_from" and link.get("href") not in {x.href for x in links}:
            links.append(_link(link["href"], link.get("title", "Input of the openEO job")))
    own = (x["href"] for x in known.model.get("links", []) if x.get("rel") in ("self", "canonical"))
    href = known.model_href or next(own, None)
    if href:
        contract = model_contract(known.model)
        link = _link(str(href), f"Model {contract['model_id']} {contract['model_version']}")
        link.media_type = pystac.MediaType.GEOJSON
        name = known.model["properties"].get("mlm:name", contract["model_id"])
        link.extra_fields["mlm:name"] = name
        links.append(link)
    return links


def _link(href: str, title: str) -> pystac.Link:
    suffix = PurePosixPath(urlsplit(href).path).suffix.lower()
    is_item = suffix not in MEDIA_TYPES and href.startswith(("http://", "https://"))
    kind = pystac.MediaType.GEOJSON if is_item else MEDIA_TYPES.get(suffix)
    return pystac.Link(pystac.RelType.DERIVED_FROM, href, media_type=kind, title=title)
