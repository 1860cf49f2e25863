"""Describe a STAC Item of a Sentinel-2 L2A scene, whatever catalogue wrote it.

In: an Item (path or href) of Earth Search v0 and v1, Planetary Computer, CDSE or stactools, or one
whose asset is a multiband GeoTIFF with named `bands`. Out: a `SceneSource`: 20 m assets before
10 m ones, scaling and offset of the Item (or by processing baseline), SCL, angles.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pystac
from rasterio.io import DatasetReader

from lai_udf.errors import MetadataError, UndeclaredScaleError, UnreadableProductError
from lai_udf.grid import Grid
from lai_udf.scenes.angles import (
    SUN_AZIMUTH,
    SUN_ZENITH,
    VIEW_AZIMUTH,
    VIEW_ZENITH,
    AngleGrid,
    constant_angle,
    read_tile_angles,
)
from lai_udf.scenes.geotiff import (
    LABELS,
    Declared,
    band_label,
    decimation_of,
    describe_band,
    read_product_name,
    utc,
)
from lai_udf.scenes.safe import (
    FIRST_BASELINE_WITH_OFFSET,
    FIRST_LOCAL_BASELINE,
    baseline_number,
)
from lai_udf.scenes.source import (
    REFLECTANCE_BANDS,
    BandSource,
    SceneMetadata,
    SceneSource,
    open_raster,
    require_bands,
    require_scheme,
)

COMMON_NAMES = {
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "swir16": "B11",
    "swir22": "B12",
}
"""Asset keys of Earth Search v1 and common names of the EO extension (1.1 and 2.0)."""

NOT_DATA = re.compile(r"visual|overview|preview|thumbnail|tci|aot|wvp", re.IGNORECASE)
NOT_DATA_ROLES = {"visual", "overview", "thumbnail", "metadata"}
L2A_SCALE = 1e-4
"""1 / BOA_QUANTIFICATION_VALUE of every L2A product so far."""

L2A_OFFSET = -0.1
"""BOA_ADD_OFFSET / BOA_QUANTIFICATION_VALUE from processing baseline 04.00 on."""

TIMEOUT_S = 30
Json = Mapping[str, Any]


@dataclass(frozen=True)
class BandAsset:
    """An asset, or a band in it, that holds one of our bands."""

    label: str
    """Band label."""

    href: str
    """What rasterio opens."""

    index: int
    """Number of the band in the file, from 1."""

    facts: Json
    """Fields of the asset and of the band; those of the band go first."""

    resolution_m: float | None
    """Pixel size that the Item states; None where it does not."""

    @property
    def rank(self) -> tuple[int, bool]:
        """Order of preference, small first: 20 m, 10 m, unstated; then not from a bucket."""
        order = {20.0: 0, 10.0: 1, None: 2}
        return order.get(self.resolution_m, 9), self.href.startswith("/vsis3/")


def describe_stac(href: str, declared: Declared) -> SceneSource:
    """Describe the scene of a STAC Item.

    Args:
        href: local path or http(s) href of the Item; relative asset hrefs are resolved against it.
        declared: scale, offset and time that go before those of the Item.

    Raises:
        UnreadableProductError: no answer, no JSON, no Item, or an asset that cannot be opened.
        MissingBandError: no usable asset for a band.
        UndeclaredScaleError: the Item says neither scale and offset nor processing baseline.
        GridError: bands on different grids, or not on a 20 m one.
    """
    return describe_item(read_item(href), href, declared)


def describe_item(item: pystac.Item, name: str, declared: Declared) -> SceneSource:
    """Describe the scene of an Item that has been read; `name` is what messages call it."""
    chosen = choose_assets(item)
    require_bands(list(chosen), f"STAC Item {item.id}")
    metadata = _metadata(item, declared)
    applied = any(
        item.properties.get(f"{p}:boa_offset_applied") for p in ("earthsearch", "sentinel")
    )
    bands: list[BandSource] = []
    grids: list[Grid] = []
    for label in LABELS:
        if label not in chosen:
            continue
        asset = chosen[label]
        with open_raster(asset.href, label) as dataset:
            decimation = decimation_of(dataset)
            grids.append(Grid.of_dataset(dataset, decimation))
            grids[0].require_same(grids[-1], f"{label} ({asset.href})")
            known = declared
            if label in REFLECTANCE_BANDS:
                known = item_scaling(asset, dataset, metadata, declared, offset_applied=applied)
            bands.append(describe_band(label, asset.href, asset.index, dataset, decimation, known))
    angles = {label: angle for label, angle in item_angles(item).items() if label not in chosen}
    return SceneSource(name, grids[0], tuple(bands), metadata, angles)


def read_item(href: str) -> pystac.Item:
    """Read a STAC Item from a path or an http(s) href; asset hrefs stay relative to it.

    Raises:
        UnreadableProductError: no answer, no JSON, or no Item.
    """
    document = read_document(href)
    if document.get("type") != "Feature":
        raise UnreadableProductError(
            f"{href} is no STAC Item but a {document.get('type', 'JSON object without a type')}: "
            "give one Item (a search result or a Collection holds several)"
        )
    return parse_item(document, href)


def read_document(href: str) -> Json:
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
        raise UnreadableProductError(
            f"cannot read {href} as a STAC Item or Collection ({error})"
        ) from error
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


def choose_assets(item: pystac.Item) -> dict[str, BandAsset]:
    """Return for each of our bands the asset to read: 20 m before 10 m, never 60 m."""
    chosen: dict[str, BandAsset] = {}
    for candidate in _candidates(item):
        best = chosen.get(candidate.label)
        if candidate.rank[0] < 9 and (best is None or candidate.rank < best.rank):
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
    stem = re.sub(r"([-_](10m|20m|60m|jp2))+$", "", key, flags=re.IGNORECASE)
    names = (stem, entry.get("name"), entry.get("eo:common_name"), entry.get("common_name"))
    for name in names:
        label = band_label(name) or COMMON_NAMES.get(str(name).lower())
        if label is not None:
            return label
    return None


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
) -> Declared:
    """Return scale and offset of a reflectance band, by what knows it best.

    The caller; that the catalogue already took the offset off (`earthsearch:boa_offset_applied`:
    its `raster:bands` still say -0.1); the Item's raster fields; the file; the baseline.

    Raises:
        UndeclaredScaleError: none of them says it.
    """
    if not np.issubdtype(np.dtype(dataset.dtypes[asset.index - 1]), np.integer):
        return declared
    file_scale = dataset.scales[asset.index - 1]
    baseline = baseline_number(metadata.processing_baseline)
    scale = asset.facts.get("raster:scale") if declared.scale is None else declared.scale
    if scale is None:
        scale = file_scale if file_scale != 1.0 else (L2A_SCALE if baseline is not None else None)
    offset = None if scale is None else declared.offset_at(scale)
    if offset is None:
        offset = 0.0 if offset_applied else asset.facts.get("raster:offset")
    if offset is None and file_scale != 1.0:
        offset = dataset.offsets[asset.index - 1]
    if offset is None and baseline is not None and baseline < FIRST_LOCAL_BASELINE:
        offset = L2A_OFFSET if baseline >= FIRST_BASELINE_WITH_OFFSET else 0.0
    if scale is None or offset is None:
        raise UndeclaredScaleError(
            f"{asset.label} ({asset.href}): neither the Item nor the file says reflectance scale "
            "and offset, and the processing baseline is unknown: set SCALE= and OFFSET= "
            "(reflectance_scale, reflectance_offset); L2A: 0.0001 and -0.1 (0 before 04.00)"
        )
    return Declared(float(scale), float(offset), declared.datetime)


def item_angles(item: pystac.Item) -> dict[str, AngleGrid]:
    """Return the angles that the Item knows: grids of a local `MTD_TL.xml`, else scene means.

    `view:off_nadir` 0 is a placeholder of Earth Search v0 and is not taken.
    """
    for key in ("granule_metadata", "granule-metadata"):
        asset = item.assets.get(key)
        path = Path(_openable(asset)) if asset is not None else None
        if path is not None and path.name == "MTD_TL.xml" and path.is_file():
            return read_tile_angles(path)
    p = item.properties
    elevation = p.get("view:sun_elevation")
    found = {
        SUN_ZENITH: p.get("s2:mean_solar_zenith") if elevation is None else 90 - elevation,
        SUN_AZIMUTH: p.get("view:sun_azimuth", p.get("s2:mean_solar_azimuth")),
        VIEW_ZENITH: p.get("view:incidence_angle", p.get("view:off_nadir") or None),
        VIEW_AZIMUTH: p.get("view:azimuth"),
    }
    return {label: constant_angle(float(v)) for label, v in found.items() if v is not None}


def _metadata(item: pystac.Item, declared: Declared) -> SceneMetadata:
    p = item.properties
    product = next(
        (p[key] for key in ("s2:product_uri", "sentinel:product_id", "product_id") if p.get(key)),
        item.id,
    )
    named = read_product_name(product)
    baseline = next(
        (
            str(p[key])
            for key in (
                "s2:processing_baseline",
                "sentinel:processing_baseline",
                "processing:version",
            )
            if p.get(key)
        ),
        named.processing_baseline if named else "",
    )
    time = declared.datetime or p.get("datetime") or p.get("start_datetime")
    if time is None:
        raise MetadataError(f"STAC Item {item.id} has no datetime; set DATETIME= (datetime)")
    return SceneMetadata(
        datetime=utc(time, item.id),
        platform=str(p.get("platform", named.platform if named else "")).lower(),
        product_id=product.removesuffix(".SAFE"),
        processing_baseline=baseline,
    )
