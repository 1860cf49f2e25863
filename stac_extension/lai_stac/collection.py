"""A Collection of LAI items: extents, summaries and asset definitions taken from the items.

Facts for a reader of a catalogue before opening an item: where, when, which LAI, which
models, how clear, how certain.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pystac

from lai_stac import fields
from lai_stac.assets import asset_title
from lai_stac.errors import DescriptionError
from lai_stac.fields import Validation
from lai_stac.files import write_json
from lai_stac.validation import validate_collection
from lai_udf.cog import ENCODINGS, GAP_DAYS
from lai_udf.longitudes import enclosing_box, flat_box

COLLECTION_ID = "sentinel2-lai"

DESCRIPTION = (
    "Leaf area index (LAI, m² m⁻²) from Sentinel-2 L2A, with a calibrated prediction "
    "interval, a standard deviation and quality flags for every pixel."
)
SERIES_DESCRIPTION = (
    "Leaf area index (LAI, m² m⁻²) from Sentinel-2 L2A on a grid of dates: every pixel smoothed "
    "over time, clouds, haze and shadow rejected, mowing and harvest kept, gaps filled. With the "
    "standard deviation of another acquisition about the series, the prediction interval of "
    "leaf area index in the field, and the days to the nearest usable date."
)

LISTED = (
    "platform",
    "constellation",
    "instruments",
    "gsd",
    "proj:code",
    "grid:code",
    fields.QUANTITY,
    fields.ELEMENTS,
    fields.TARGET,
    fields.UNCERTAINTY_METHOD,
    fields.UNCERTAINTY_COMPONENTS,
    fields.MC_SAMPLES,
    fields.MODEL_ID,
    fields.MODEL_VERSION,
)
"""Fields whose distinct values are listed; the values of lists are listed one by one."""

RANGED = fields.STATISTIC_FIELDS  # fields of which minimum and maximum are given

PROVIDERS = (
    pystac.Provider(
        "European Union/ESA/Copernicus",
        "Of the Sentinel-2 L2A products that LAI is estimated from",
        [pystac.ProviderRole.LICENSOR, pystac.ProviderRole.PRODUCER],
        "https://dataspace.copernicus.eu",
    ),
    pystac.Provider(
        "sentinel2-lai",
        "Software and model",
        [pystac.ProviderRole.PROCESSOR],
        "https://github.com/sentinel2-lai/sentinel2-lai",
    ),
)
LICENCE_HREF = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
"""Legal notice on the use of Copernicus Sentinel data, which what is derived of them refers to."""
TARGETS = {"field": "corrected to field measurements", "sl2p": "as SL2P estimates it"}

SHARED_ASSET_FIELDS = (
    "type",
    "roles",
    "classification:bitfields",
    fields.QUANTITY,
    fields.ELEMENTS,
    fields.UNCERTAINTY_TYPE,
    fields.COVERAGE_FACTOR,
    fields.CONFIDENCE_LEVEL,
    fields.UNCERTAINTY_METHOD,
    fields.UNCERTAINTY_COMPONENTS,
    fields.MC_SAMPLES,
)
"""Fields of an asset that a definition may state where all items agree."""
TITLES = {
    series: {
        encoding.key: asset_title(
            band, None, empty=False, level=None, series=series or band == GAP_DAYS
        )
        for band, encoding in ENCODINGS.items()
    }
    for series in (False, True)
}
"""Of the definitions of our assets, by whether all items are series; of any level and draws."""
SHARED_BAND_FIELDS = ("name", "data_type", "nodata", "unit", "raster:scale")
"""The same of a band of an asset."""


def build_collection(
    items: Sequence[pystac.Item],
    *,
    collection_id: str = COLLECTION_ID,
    licence: str = "other",
    licence_href: str = LICENCE_HREF,
    providers: Sequence[pystac.Provider] = (),
    validation: Validation | None = None,
) -> pystac.Collection:
    """Describe a set of LAI items.

    Args:
        items: at least one, as `build_item` makes them.
        collection_id: id of the Collection.
        licence: SPDX identifier of the data; `other` if the licence is the text at `licence_href`.
        licence_href: text of the licence.
        providers: who hosts the data, beside those of scenes and software.
        validation: how the product compares with reference measurements; absent unless known.

    Returns:
        A valid Collection with the link to its licence and, where an item has one at an address of
        its own, a thumbnail; links to itself are for the publisher to add.

    Raises:
        DescriptionError: there is no item, or one has no place or time.
    """
    if not items:
        raise DescriptionError("a collection needs at least one item to describe")
    collection = pystac.Collection(
        id=collection_id,
        title=_title(items),
        description=SERIES_DESCRIPTION if _are_series(items) else DESCRIPTION,
        keywords=["leaf area index", "LAI", "Sentinel-2", "uncertainty", "vegetation"],
        license=licence,
        providers=[*PROVIDERS, *providers],
        extent=_extent(items),
        stac_extensions=_extensions(items),
    )
    for name in LISTED:
        values = _distinct(item.properties.get(name) for item in items)
        if values:
            collection.summaries.add(name, values)
    for name in RANGED:
        found = [item.properties.get(name) for item in items]
        numbers = [number for number in found if number is not None]
        if numbers:
            collection.summaries.add(name, pystac.RangeSummary(min(numbers), max(numbers)))
    collection.item_assets = _item_assets(items)
    collection.add_link(pystac.Link("license", licence_href, "text/html", "Licence of the data"))
    if (thumbnail := _thumbnail(items)) is not None:
        collection.add_asset("thumbnail", thumbnail)
    if validation is not None:
        collection.extra_fields[fields.VALIDATION] = validation.to_dict()
    validate_collection(collection)
    return collection


def write_collection(collection: pystac.Collection, path: Path) -> Path:
    """Write a Collection as JSON, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    document = collection.to_dict(include_self_link=False, transform_hrefs=False)
    return write_json(path, document)


def _are_series(items: Sequence[pystac.Item]) -> bool:
    return all("gap_days" in item.assets for item in items)


def _title(items: Sequence[pystac.Item]) -> str:
    """Return a title with what all items have in common: series, target and pixel."""
    notes = ["through clouds and gaps"] if _are_series(items) else []
    targets = _distinct(item.properties.get(fields.TARGET) for item in items)
    if len(targets) == 1 and targets[0] in TARGETS:
        notes.append(TARGETS[targets[0]])
    pixels = _distinct(item.properties.get("gsd") for item in items)
    if len(pixels) == 1:
        notes.append(f"{pixels[0]:g} m")
    return ", ".join(["Leaf area index from Sentinel-2", *notes])


def _thumbnail(items: Sequence[pystac.Item]) -> pystac.Asset | None:
    """Return the thumbnail of the latest item that has one at an address, not beside it."""
    for item in sorted(items, key=lambda item: str(item.datetime), reverse=True):
        asset = item.assets.get("thumbnail")
        if asset is not None and not asset.href.startswith("."):
            title = f"{asset.title or 'Leaf area index'}: {item.id}"
            return pystac.Asset(asset.href, title, None, asset.media_type, ["thumbnail"])
    return None


def _extent(items: Sequence[pystac.Item]) -> pystac.Extent:
    boxes, times = [], []
    for item in items:
        if item.bbox is None or item.datetime is None:
            raise DescriptionError(f"item {item.id} has no bbox or no datetime")
        boxes.append(flat_box(item.bbox))
        times.append(item.datetime.astimezone(dt.UTC))
    return pystac.Extent(
        pystac.SpatialExtent([list(enclosing_box(boxes))]),
        pystac.TemporalExtent([[min(times), max(times)]]),
    )


def _extensions(items: Sequence[pystac.Item]) -> list[str]:
    """Return what the Collection itself uses: ours, and classification of its assets."""
    wanted = ("/lai-quality/", "/uncertainty/", "/classification/")
    declared = {uri for item in items for uri in item.stac_extensions}
    return sorted(uri for uri in declared if any(part in uri for part in wanted))


def _distinct(values: Any) -> list[Any]:  # noqa: ANN401  (whatever JSON holds)
    """Return the distinct values, sorted, lists taken apart, without None."""
    single: set[Any] = set()
    for value in values:
        single.update(value if isinstance(value, list) else [] if value is None else [value])
    return sorted(single)


def _item_assets(
    items: Sequence[pystac.Item],
) -> dict[str, pystac.ItemAssetDefinition | dict[str, Any]]:
    """Define the assets: what is the same in every item that has them."""
    keys = dict.fromkeys(key for item in items for key in item.assets)
    series = _are_series(items)
    return {
        key: _definition(key, [i.assets[key] for i in items if key in i.assets], series)
        for key in keys
    }


def _definition(
    key: str, assets: Sequence[pystac.Asset], series: bool
) -> pystac.ItemAssetDefinition:
    first, *others = [asset.to_dict() for asset in assets]
    values = {name: first[name] for name in SHARED_ASSET_FIELDS if name in first}
    values["title"] = TITLES[series].get(key) or first.get("title") or key
    if "bands" in first:
        values["bands"] = [
            {name: band[name] for name in SHARED_BAND_FIELDS if name in band}
            for band in first["bands"]
        ]
    return pystac.ItemAssetDefinition(functools.reduce(agreed_definition, others, values))


def agreed_definition(definition: Mapping[str, Any], asset: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the definition of an asset states that the asset of an item does not contradict.

    Args:
        definition: of `item_assets` of a Collection; what is no fact of the pixels stays.
        asset: of an Item, as JSON.
    """
    kept = _agreed(definition, asset, SHARED_ASSET_FIELDS)
    if kept.get(fields.UNCERTAINTY_METHOD) == "mc_dropout" and fields.MC_SAMPLES not in kept:
        del kept[fields.UNCERTAINTY_METHOD]  # incomplete without its number
    if fields.CONFIDENCE_LEVEL in definition and fields.CONFIDENCE_LEVEL not in kept:
        kept.pop(fields.UNCERTAINTY_TYPE, None)  # so is a bound without its level
    if "bands" in kept:
        others = itertools.chain(asset.get("bands", ()), itertools.repeat({}))
        kept["bands"] = [_agreed(b, next(others), SHARED_BAND_FIELDS) for b in kept["bands"]]
    return kept


def _agreed(
    stated: Mapping[str, Any], other: Mapping[str, Any], shared: Sequence[str]
) -> dict[str, Any]:
    return {k: v for k, v in stated.items() if k not in shared or other.get(k) == v}
