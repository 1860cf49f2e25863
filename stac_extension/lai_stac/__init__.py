"""Describe: LAI rasters and their model become STAC Items with the lai-quality extension.

Data flow: `describe` reads the COGs of a result, `statistics` counts their
pixels, `footprint` where they are, `provenance` where they come from; `extension` gives the
``laiq:`` fields pystac's manner, `validation` checks the outcome offline.

pystac loads `lai_stac.extension` when it starts, so the names of this package are imported when
they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lai_stac.cog_items import describe_cogs, describe_runs
    from lai_stac.collection import build_collection, write_collection
    from lai_stac.errors import LaiStacError
    from lai_stac.extension import LaiQualityExtension
    from lai_stac.facts import ResultFacts
    from lai_stac.files import write_model_item, write_thumbnail
    from lai_stac.item import build_item, describe, describe_cube, write_item
    from lai_stac.job_items import describe_job
    from lai_stac.validation import validate_collection, validate_item

__all__ = [
    "LaiQualityExtension",
    "LaiStacError",
    "ResultFacts",
    "UncertaintyExtension",
    "build_collection",
    "build_item",
    "describe",
    "describe_cogs",
    "describe_cube",
    "describe_job",
    "describe_runs",
    "validate_collection",
    "validate_item",
    "write_collection",
    "write_item",
    "write_model_item",
    "write_thumbnail",
]

_HOMES = {
    "cog_items": ("describe_cogs", "describe_runs"),
    "collection": ("build_collection", "write_collection"),
    "errors": ("LaiStacError",),
    "extension": ("LaiQualityExtension", "UncertaintyExtension"),
    "facts": ("ResultFacts",),
    "files": ("write_model_item", "write_thumbnail"),
    "item": ("build_item", "describe", "describe_cube", "write_item"),
    "job_items": ("describe_job",),
    "validation": ("validate_collection", "validate_item"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
