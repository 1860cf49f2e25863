"""The lai-quality STAC extension in pystac's manner."""

from __future__ import annotations

import pystac
from pystac.extensions.hooks import ExtensionHooks

SCHEMA_URI = "https://sentinel2-lai.github.io/lai-quality/v1.0.0/schema.json"


class LaiQualityExtensionHooks(ExtensionHooks):
    """Migration hooks of lai-quality; version 1.0.0 has no predecessor."""

    schema_uri: str = SCHEMA_URI
    prev_extension_ids: set[str] = set()  # noqa: RUF012
    stac_object_types: set[pystac.STACObjectType] = {pystac.STACObjectType.ITEM, pystac.STACObjectType.COLLECTION}  # noqa: RUF012


LAIQ_EXTENSION_HOOKS: ExtensionHooks = LaiQualityExtensionHooks()
