"""A collection for published items, made when the first item arrives.

Its extent follows its items by itself (the catalogue answers with the extent of what it holds).
"""

from typing import Any

from lai_service.catalogue.port import Document

__all__ = ["collection_for"]

_ASSET_KEYS = ("title", "description", "type", "roles", "bands", "unit", "nodata", "data_type")
_PLACES = ("statistics", "raster:histogram")


def collection_for(collection_id: str, item: Document) -> Document:
    """Return a collection that fits a first item.

    Args:
        collection_id: its id.
        item: a published item; its extensions, assets and place are taken over.
    """
    properties = item["properties"]
    start = properties.get("start_datetime") or properties.get("datetime")
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": list(item.get("stac_extensions") or []),
        "id": collection_id,
        "title": "Leaf area index from Sentinel-2",
        "description": (
            "Leaf area index (LAI, m² m⁻²) at 20 m from Sentinel-2 L2A, with the calibrated 95 % "
            "interval of each pixel and its flags."
        ),
        "license": "other",
        "keywords": ["leaf area index", "Sentinel-2", "vegetation", "uncertainty"],
        "extent": {
            "spatial": {"bbox": [item.get("bbox") or [-180, -90, 180, 90]]},
            "temporal": {"interval": [[start, None]]},
        },
        "summaries": _summaries(properties),
        "item_assets": {key: _item_asset(asset) for key, asset in item["assets"].items()},
        "links": [],
    }


def _summaries(properties: dict[str, Any]) -> dict[str, Any]:
    names = ("platform", "constellation", "laiq:quantity", "laiq:model_id", "laiq:model_version")
    return {
        name: [properties[name]]
        for name in names
        if isinstance(properties.get(name), str | int | float)
    }


def _item_asset(asset: Document) -> Document:
    kept = {
        key: value
        for key, value in asset.items()
        if key in _ASSET_KEYS or key.startswith(("raster:scale", "raster:offset", "classification"))
    }
    if "bands" in kept:
        kept["bands"] = [
            {key: value for key, value in band.items() if key not in _PLACES}
            for band in kept["bands"]
        ]
    return kept
