"""From STAC items to band sources: which file and which band of it holds `B8A` of a scene.

Reads STAC 1.0 and 1.1 items and collections from local folders or over http; of the files
themselves no more than their headers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from odc.geo.geom import Geometry
from pystac.utils import make_absolute_href

from lai_backend.access import allowed_path, check_address, get, is_web_address
from lai_backend.errors import SourceError
from lai_backend.extents import TimeSpan, parse_instant, wrapped_boxes

MAX_ITEMS = 2000
PAGE_SIZE = 250
PLANETARY_COMPUTER = "planetarycomputer.microsoft.com"
"""Its assets are read with addresses that `planetary_computer` signs."""
MAX_JSON_BYTES = 20_000_000
STAC_TYPES = {"Feature", "Collection", "Catalog", "FeatureCollection"}
RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
BAND_FIELDS = (
    "raster:scale",
    "raster:offset",
    "scale",
    "nodata",
    "data_type",
    "unit",
    "eo:common_name",
    "eo:center_wavelength",
)
"""Fields of an asset that describe its band, and so belong into a collection."""
OFFSET_APPLIED = "earthsearch:boa_offset_applied"
"""Where true, the offset that the assets declare is in their pixels already."""
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True)
class BandSource:
    """One band of one raster file."""

    href: str  # local path or http address of the file
    index: int  # band number in the file, from 1
    nodata: float | None  # no-data value the STAC metadata declare; None: that of the file
    scale: float | None = None
    """Physical value of one step of the stored numbers (`raster:scale`); None: not declared."""
    offset: float = 0.0  # physical value of the stored number 0 (`raster:offset`)
    factor: float = 1.0  # what stored numbers are multiplied by as they are read
    shift: float = 0.0  # what is added then
    description: dict[str, Any] = field(default_factory=dict, compare=False)
    """STAC metadata of the band: name, raster:scale, raster:offset, eo:common_name, …"""


@dataclass(frozen=True)
class Scene:
    """One STAC item, reduced to what loading needs."""

    id: str  # identifier of the item
    instant: datetime  # acquisition time, UTC
    bbox: tuple[float, float, float, float] | None
    """West, south, east, north in degrees; None: not in the item."""
    bands: dict[str, BandSource]  # source of each band, in the order of the item
    properties: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Properties of the item, for filters."""
    href: str | None = None
    """Address of the item: its self link, else where it was read; None: unknown."""


def read_stac(href: str, roots: Sequence[Path]) -> dict[str, Any]:
    """Read a STAC object and make its links and assets absolute.

    Args:
        href: http address, `file://` address or absolute path.
        roots: folders below which local files may be read.
    """
    try:
        if is_web_address(href):
            text = get(href).raw.read(MAX_JSON_BYTES, decode_content=True).decode("utf-8")
            base = place = href
        else:
            path = allowed_path(href, roots)
            text = path.read_text(encoding="utf-8")
            base, place = str(path), path.as_uri()
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise SourceError(f"Cannot read STAC from {href}: {error}.") from error
    if not isinstance(content, dict) or content.get("type") not in STAC_TYPES:
        raise SourceError(f"{href} is not a STAC item, collection or catalogue.")
    _make_absolute(content, base)
    links = content.setdefault("links", [])
    own = [link.get("href", "") for link in links if link.get("rel") == "self"]
    if not any(is_web_address(href) for href in own):
        links.append({"rel": "self", "href": place})
    return content


def _make_absolute(content: dict[str, Any], base: str) -> None:
    for entry in (*content.get("links", []), *content.get("assets", {}).values()):
        if href := entry.get("href"):
            entry["href"] = make_absolute_href(href, base)
    for feature in content.get("features", []):
        _make_absolute(feature, base)


def walk_items(href: str, roots: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield the items behind a STAC address: an item, a collection, a catalogue or a page of items.

    Follows `item`, `items`, `child` and `next` links; each address is read once. For a collection
    of a STAC API there is `search_items`.
    """
    waiting = [href]
    seen: set[str] = set()
    while waiting:
        address = waiting.pop(0)
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > MAX_ITEMS:
            raise SourceError(f"{href} leads to more than {MAX_ITEMS} STAC objects; narrow it.")
        content = read_stac(address, roots)
        if content["type"] == "Feature":
            yield content
            continue
        yield from content.get("features", [])
        for link in content.get("links", []):
            if link.get("rel") in {"item", "items", "child", "next"} and "href" in link:
                waiting.append(link["href"])


def search_items(
    collection: Mapping[str, Any], span: TimeSpan, region: Geometry | None
) -> Iterator[dict[str, Any]]:
    """Yield the items of a collection of a STAC API that lie in the extents, found by its search.

    Args:
        collection: as `read_stac` gives it; one for which `is_searchable` is true.
        span: of time.
        region: area; one beyond 180 degrees is asked for in two parts.
    """
    import planetary_computer  # configures pydantic the old way, with a warning at each import
    import pystac_client

    links = _links(collection)
    root = links.get("root") or str(links["items"]).partition("/collections/")[0]
    check_address(root)
    times = [f"{edge:%Y-%m-%dT%H:%M:%SZ}" if edge else ".." for edge in (span.start, span.end)]
    signed = planetary_computer.sign_inplace if PLANETARY_COMPUTER in root else None
    try:
        client = pystac_client.Client.open(root, modifier=signed)
        for box in [None] if region is None else wrapped_boxes(region):
            found = client.search(
                collections=[str(collection["id"])],
                bbox=box,
                datetime=None if times == ["..", ".."] else "/".join(times),
                limit=PAGE_SIZE,
                max_items=MAX_ITEMS + 1,
            )
            for count, item in enumerate(found.items_as_dicts()):
                if count == MAX_ITEMS:
                    raise SourceError(
                        f"{root} has more than {MAX_ITEMS} items of {collection['id']} in the "
                        "extents asked for; narrow them."
                    )
                yield item
    except (OSError, pystac_client.exceptions.APIError, ValueError, KeyError) as error:
        raise SourceError(f"Cannot search {root} for {collection['id']}: {error}.") from error


def is_searchable(content: Mapping[str, Any]) -> bool:
    """Return whether a STAC object is a collection of a STAC API."""
    return content.get("type") == "Collection" and is_web_address(_links(content).get("items", ""))


def _links(content: Mapping[str, Any]) -> dict[str, str]:
    return {str(link.get("rel")): str(link.get("href")) for link in content.get("links", [])}


def read_scene(item: dict[str, Any], roots: Sequence[Path]) -> Scene:
    """Reduce a STAC item with absolute hrefs to a scene; local files lie below `roots`.

    Bands are found by name: `bands` (STAC 1.1) or `eo:bands` of an asset; an asset without them
    is one band named by its key.
    """
    properties = item.get("properties", {})
    time = properties.get("datetime") or properties.get("start_datetime")
    if not time:
        raise SourceError(f"Item {item.get('id')} has neither datetime nor start_datetime.")
    instant = parse_instant(time)
    assert instant is not None  # "time" is not null here
    bands: dict[str, BandSource] = {}
    for key, asset in item.get("assets", {}).items():
        if _is_raster(asset):
            for name, source in _asset_bands(key, asset, properties, roots):
                bands.setdefault(name, source)
    links = {link.get("rel"): link.get("href") for link in item.get("links", [])}
    edges = item.get("bbox") or ()  # with heights: west south low east north high
    half = len(edges) // 2
    box = (edges[0], edges[1], edges[half], edges[half + 1]) if edges else None
    return Scene(str(item.get("id")), instant, box, bands, properties, links.get("self"))


def _is_raster(asset: dict[str, Any]) -> bool:
    roles = asset.get("roles") or []
    if {"thumbnail", "overview", "visual", "metadata"} & set(roles):
        return False
    media_type = str(asset.get("type", "")).split(";")[0].strip()
    return media_type in RASTER_TYPES or str(asset.get("href", "")).lower().endswith(
        RASTER_SUFFIXES
    )


def _asset_bands(
    key: str, asset: dict[str, Any], properties: Mapping[str, Any], roots: Sequence[Path]
) -> Iterator[tuple[str, BandSource]]:
    href = asset["href"]
    if is_web_address(href):
        check_address(href)
    place = href if is_web_address(href) else str(allowed_path(href, roots))
    declared = asset.get("bands") or asset.get("eo:bands") or [{"name": key}]
    raster = asset.get("raster:bands") or []
    for position, band in enumerate(declared):
        details = {**asset, **(raster[position] if position < len(raster) else {}), **band}
        nodata = details.get("nodata")
        value = None if nodata is None else float(nodata)
        name = str(band.get("name", key))
        described = {k: v for k, v in details.items() if k.startswith(BAND_FIELDS)}
        scale, offset = _read_scaling(details, properties)
        band_details = {"name": name, **described}
        yield name, BandSource(place, position + 1, value, scale, offset, description=band_details)


def _read_scaling(
    details: Mapping[str, Any], properties: Mapping[str, Any]
) -> tuple[float | None, float]:
    """Return scale and offset of a band: its own, else those of the item."""
    found: list[float | None] = []
    for name in ("scale", "offset"):
        places = ((details, f"raster:{name}"), (details, name), (properties, f"raster:{name}"))
        values = [place[key] for place, key in places if place.get(key) is not None]
        found.append(float(values[0]) if values else None)
    scale, offset = found
    is_applied = str(properties.get(OFFSET_APPLIED)).lower() == "true"  # a text `false` is not
    return scale or None, 0.0 if is_applied else offset or 0.0
