"""Describe the scenes of STAC Items of Sentinel-2 L2A, whatever catalogue wrote them.

In: an Item (path or href) of Earth Search v0 and v1, Planetary Computer, CDSE or stactools, or one
whose asset is a multiband GeoTIFF with named `bands`; or a Collection, Catalog or ItemCollection of
such. Out: a `SceneSource`: 20 m assets before 10 m ones, scaling and offset of the Item (or by
processing baseline), SCL, angles.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pystac
from rasterio.io import DatasetReader

from lai_udf.errors import (
    EmptySceneError,
    MetadataError,
    UndeclaredScaleError,
    UnreadableProductError,
)
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.bands import (
    SUN_AZIMUTH,
    SUN_ZENITH,
    VIEW_AZIMUTH,
    VIEW_ZENITH,
    AngleGrid,
    BandSource,
    open_raster,
)
from lai_udf.scenes.geotiff import describe_band
from lai_udf.scenes.labels import LABELS, band_label
from lai_udf.scenes.metadata import (
    CALLER,
    LEVEL_1C_NAME,
    Declaration,
    Declared,
    Scaling,
    SceneMetadata,
    baseline_scaling,
    complete_metadata,
    is_finite,
    is_true,
    level_1c_error,
)
from lai_udf.scenes.safe import read_tile_angles
from lai_udf.scenes.source import LOG, SceneEntry, SceneSource, require_bands, require_scheme

NOT_DATA = re.compile(r"visual|overview|preview|thumbnail|tci|aot|wvp", re.IGNORECASE)
NOT_DATA_ROLES = {"visual", "overview", "thumbnail", "metadata"}
ITEM_SUFFIXES = {".json", ".geojson"}
TIMEOUT_S = 30
LINKING: dict[str, type[pystac.Catalog]]
LINKING = {"Collection": pystac.Collection, "Catalog": pystac.Catalog}
"""Documents that link to their Items, by `type`."""
HOLDING = "FeatureCollection"  # `type` of an ItemCollection
Json = Mapping[str, Any]


@dataclass(frozen=True)
class BandAsset:
    """An asset, or a band in it, that holds one of our bands."""

    label: str
    href: str  # what rasterio opens
    index: int  # number of the band in the file, from 1
    facts: Json  # fields of the asset and of the band; those of the band go first
    resolution_m: float | None  # pixel size that the Item states; None where it does not

    def rank(self, wanted_m: int) -> tuple[int, bool]:
        """Return the order of preference, small first: pixel wanted, other, unstated; bucket."""
        order = {float(wanted_m): 0, 30.0 - wanted_m: 1, None: 2}
        return order.get(self.resolution_m, 9), self.href.startswith("/vsis3/")


def describe_stac(href: str, declared: Declared) -> SceneSource:
    """Describe the scene of a STAC Item, by path or http(s) href.

    Raises:
        ProductError: no answer, no Item, an asset missing or damaged, no scaling, grids apart.
    """
    return describe_item(read_item(href), href, declared)


def describe_item(item: pystac.Item, name: str, declared: Declared) -> SceneSource:
    """Describe the scene of an Item that has been read; `name` is what messages call it."""
    chosen = choose_assets(item, declared.resolution)
    require_bands(list(chosen), f"STAC Item {item.id}")
    metadata = _metadata(item, declared)
    stated = [item.properties.get(f"{p}:boa_offset_applied") for p in ("earthsearch", "sentinel")]
    applied = any(map(is_true, stated))
    bands: list[tuple[BandSource, Grid]] = []
    for label in (label for label in LABELS if label in chosen):
        asset = chosen[label]
        with open_raster(asset.href, label) as dataset:
            found = None
            if label in BANDS:
                found = item_scaling(asset, dataset, metadata, declared, offset_applied=applied)
            band = describe_band(label, asset.href, asset.index, dataset, declared, metadata, found)
            bands.append((band, Grid.of_dataset(dataset)))
    angles = {label: angle for label, angle in item_angles(item).items() if label not in chosen}
    return SceneSource.of_files(name, bands, metadata, declared, angles)


def read_item(href: str) -> pystac.Item:
    """Read a STAC Item from a path or an http(s) href; asset hrefs stay relative to it.

    Raises:
        UnreadableProductError: no answer, no JSON, or no Item.
    """
    document = read_document(href)
    kind = document.get("type", "JSON object without a type")
    if kind != "Feature":
        raise UnreadableProductError(
            f"{href} is no STAC Item but a {kind}: give one Item (a search result or a Collection "
            "holds several)"
        )
    return parse_item(document, href)


def read_document(href: str, what: str = "a STAC Item or Collection") -> Json:
    """Read a JSON object from a path or an http(s) href; raise `UnreadableProductError`."""
    require_scheme(href, "a STAC document", "http", "https", "file")
    try:
        if href.startswith(("http://", "https://")):
            request = Request(href, headers={"Accept": "application/geo+json, application/json"})
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                document = json.load(answer)
        else:
            document = json.loads(Path(href.removeprefix("file://")).read_text(encoding="utf-8"))
    except (OSError, URLError, ValueError) as error:
        raise UnreadableProductError(f"cannot read {href} as {what} ({error})") from error
    if not isinstance(document, dict):
        raise UnreadableProductError(
            f"{href} is no STAC document but a JSON {type(document).__name__}: give a STAC Item"
        )
    return document


def parse_item(document: Json, href: str) -> pystac.Item:
    """Return an Item; its relative asset hrefs are resolved against `href`."""
    try:
        return pystac.Item.from_dict(dict(document), href=href)
    except Exception as error:  # pystac lets KeyError, ValueError and its own errors through
        raise UnreadableProductError(f"{href} is no valid STAC Item ({error!r})") from error


def choose_assets(item: pystac.Item, wanted_m: int = 20) -> dict[str, BandAsset]:
    """Return for each of our bands the asset to read: the pixel that is wanted, never 60 m."""
    chosen: dict[str, BandAsset] = {}
    for candidate in _candidates(item):
        best = chosen.get(candidate.label)
        rank = candidate.rank(wanted_m)
        if rank[0] < 9 and (best is None or rank < best.rank(wanted_m)):
            chosen[candidate.label] = candidate
    return chosen


def _candidates(item: pystac.Item) -> Iterator[BandAsset]:
    for key, asset in item.assets.items():
        if NOT_DATA.search(key) or NOT_DATA_ROLES & set(asset.roles or ()):
            continue
        if not re.search(r"image/|\.tiff?\b|\.jp2\b", f"{asset.media_type} {asset.href}"):
            continue
        fields = asset.extra_fields
        entries = fields.get("bands") or fields.get("eo:bands") or [{}]
        raster = fields.get("raster:bands") or []
        for number, entry in enumerate(entries):
            own = entry if isinstance(entry, dict) else {}
            label = _label(key if len(entries) == 1 else "", own)
            if label is None:
                continue
            described = raster[number] if number < len(raster) else {}
            facts = {**fields, **{f"raster:{name}": v for name, v in described.items()}, **own}
            path = _openable(asset)
            yield BandAsset(label, path, number + 1, facts, _resolution(key, path, facts))


def _label(key: str, entry: Json) -> str | None:
    """Return our band for an asset key and band entry: by the key, the name, the common name."""
    names = (key, entry.get("name"), entry.get("eo:common_name"), entry.get("common_name"))
    return next((label for name in names if (label := band_label(name)) is not None), None)


def _resolution(key: str, href: str, facts: Json) -> float | None:
    """Return the pixel size in metres that key, projection, raster fields or name state."""
    in_key = re.search(r"[-_](\d\d)m\b", key)
    if in_key:
        return float(in_key[1])
    transform = facts.get("proj:transform") or [None]
    in_href = re.search(r"_(10|20|60)m\.|/R(10|20|60)m/", href)
    named = in_href and (in_href[1] or in_href[2])
    for value in (transform[0], facts.get("raster:spatial_resolution"), named, facts.get("gsd")):
        if value is not None:
            return float(value)
    return None


def _openable(asset: pystac.Asset) -> str:
    href = asset.get_absolute_href() or asset.href
    if href.startswith("s3://"):
        return href.replace("s3://", "/vsis3/", 1)
    return href.removeprefix("file://")


def item_scaling(
    asset: BandAsset,
    dataset: DatasetReader,
    metadata: SceneMetadata,
    declared: Declared,
    *,
    offset_applied: bool,
) -> Scaling | None:
    """Return what Item, file or baseline state of a reflectance band, None for float data.

    That the catalogue already took the offset off (`earthsearch:boa_offset_applied`: its
    `raster:bands` still give -0.1); the Item's raster fields; the file; the baseline.

    Raises:
        UndeclaredScaleError: none of them states it, nor does the caller.
    """
    if not np.issubdtype(np.dtype(dataset.dtypes[asset.index - 1]), np.integer):
        return None
    file_scale, file_offset = dataset.scales[asset.index - 1], dataset.offsets[asset.index - 1]
    by_baseline = baseline_scaling(metadata.processing_baseline, "processing baseline")
    scale, origin = asset.facts.get("raster:scale"), "STAC Item"
    if scale is None and file_scale != 1.0:
        scale, origin = file_scale, "tags of the file"
    if scale is None and by_baseline is not None:
        scale, origin = by_baseline.scale, by_baseline.found
    offset = 0.0 if offset_applied else asset.facts.get("raster:offset")
    if offset is None and file_scale != 1.0:
        offset = file_offset
    if offset is None and by_baseline is not None:
        offset, origin = by_baseline.offset, f"{origin}, offset by processing baseline"
    if scale is None:
        scale, origin = declared.reflectance_scale, CALLER
    rule = "-0.1, or to 0 before baseline 04.00"
    if scale is None or (offset is None and declared.reflectance_offset is None):
        raise UndeclaredScaleError(
            f"{asset.label} ({asset.href}): neither the Item nor the file states reflectance "
            "scale and offset, and the processing baseline is unknown",
            parameter="reflectance_scale" if scale is None else "reflectance_offset",
            expected=f"0.0001 (and the offset to {rule})" if scale is None else rule,
        )
    return Scaling(float(scale), float(offset or 0.0), True, origin)


def item_angles(item: pystac.Item) -> dict[str, AngleGrid]:
    """Return the angles of an Item: grids of a local `MTD_TL.xml`, else scene means.

    `view:off_nadir` 0 is a placeholder of Earth Search v0 and is not taken.
    """
    for key in ("granule_metadata", "granule-metadata"):
        asset = item.assets.get(key)
        path = Path(_openable(asset)) if asset is not None else None
        if path is not None and path.name == "MTD_TL.xml" and path.is_file():
            try:
                return read_tile_angles(path)
            except MetadataError as error:
                LOG.warning("%s; means of the Item stand in", error)
    p = item.properties
    elevation = p.get("view:sun_elevation")
    angles = {
        SUN_ZENITH: 90 - elevation if is_finite(elevation) else p.get("s2:mean_solar_zenith"),
        SUN_AZIMUTH: p.get("view:sun_azimuth", p.get("s2:mean_solar_azimuth")),
        VIEW_ZENITH: p.get("view:incidence_angle", p.get("view:off_nadir") or None),
        VIEW_AZIMUTH: p.get("view:azimuth"),
    }
    return {
        label: AngleGrid(np.full((1, 1), v, float)) for label, v in angles.items() if is_finite(v)
    }


def _metadata(item: pystac.Item, declared: Declared) -> SceneMetadata:
    p = item.properties
    product = _first(p, "s2:product_uri", "sentinel:product_id", "product_id") or item.id
    if LEVEL_1C_NAME.search(product) or p.get("s2:product_type") == "S2MSI1C":
        raise level_1c_error(f"STAC Item {item.id}")
    return complete_metadata(
        [product],
        f"STAC Item {item.id}",
        time=declared.datetime or _first(p, "datetime", "start_datetime"),
        platform=p.get("platform"),
        product_id=product,
        baseline=_first(
            p, "s2:processing_baseline", "sentinel:processing_baseline", "processing:version"
        ),
    )


def _first(properties: Json, *keys: str) -> str | None:
    return next((str(properties[key]) for key in keys if properties.get(key)), None)


def holds_items(href: str) -> bool:
    """Return whether a path or href is a document of several Items, as opposed to a scene.

    Raises:
        UnreadableProductError: it ends in `.json` and cannot be read.
    """
    if Path(urlsplit(href).path).suffix.lower() not in ITEM_SUFFIXES:
        return False
    return read_document(href).get("type") in {*LINKING, HOLDING}


def open_items(href: str, **given: Unpack[Declaration]) -> Iterator[tuple[str, SceneSource]]:
    """Describe the scenes of a Collection or ItemCollection, each when its turn comes.

    Args:
        href: path or href.
        **given: as in `lai_udf.open_scene`, for all of them.

    Yields:
        Id of the Item, which may name a folder, and its scene.

    Raises:
        ProductError: there is no Item, or one cannot be read, or shares its id with another.
    """
    for entry in describe_items(href, Declared(**given)):
        yield entry.name, entry.open()


def describe_items(href: str, declared: Declared) -> Iterator[SceneEntry]:
    """Yield the scenes of a document; see `open_items`."""
    declared.refuse_time(f"each Item of {href}")
    known: set[str] = set()
    for item in read_items(href):
        named = Path(item.id).name == item.id and item.id[:1] not in ("", ".")
        if not named or item.id in known:
            raise UnreadableProductError(
                f"{href}: the id {item.id!r} of an Item is no name for a folder, or two Items "
                "have it: run each Item by itself"
            )
        known.add(item.id)
        yield SceneEntry(item.id, partial(describe_item, item, f"{href}, Item {item.id}", declared))
    if not known:
        raise EmptySceneError(f"{href} has no Item: give a Collection that links to its Items")


def read_items(href: str) -> Iterator[pystac.Item]:
    """Yield the Items of a document; relative hrefs are resolved against where they stand.

    Raises:
        UnreadableProductError: it or one of its Items is missing or damaged.
    """
    document = dict(read_document(href))
    links = document.get("links") or []
    if document.get("type") == HOLDING:
        if any(link.get("rel") == "next" for link in links):
            LOG.warning("%s is one page of a search: Items of further pages are not read", href)
        yield from (parse_item(feature, href) for feature in document.get("features") or [])
        return
    try:
        parent = LINKING[str(document["type"])].from_dict(document, href=href)
        yield from parent.get_items(recursive=True)
    except Exception as error:  # pystac lets KeyError, ValueError and its own errors through
        raise UnreadableProductError(f"{href}: its Items cannot be read ({error!r})") from error
