"""Documents with lai-quality 1.0.0 as they read today, uncertainty in an extension of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lai_stac import fields

Document = dict[str, Any]

OLD_URI = "https://sentinel2-lai.github.io/lai-quality/v1.0.0/schema.json"
RENAMED = {
    "laiq:uncertainty_type": fields.UNCERTAINTY_TYPE,
    "laiq:uncertainty_method": fields.UNCERTAINTY_METHOD,
    "laiq:uncertainty_components": fields.UNCERTAINTY_COMPONENTS,
    "laiq:coverage_factor": fields.COVERAGE_FACTOR,
    "laiq:confidence_level": fields.CONFIDENCE_LEVEL,
    "laiq:mc_samples": fields.MC_SAMPLES,
    "laiq:dropout_rate": fields.DROPOUT_RATE,
    "laiq:random_seed": fields.RANDOM_SEED,
    "laiq:calibration": fields.CALIBRATION,
}
"""Fields of 1.0.0 and their names today."""


def migrated(document: Mapping[str, Any]) -> Document:
    """Return an Item or Collection of lai-quality 1.0.0 in today's fields; others unchanged.

    Args:
        document: its JSON; not changed.
    """
    declared = document.get("stac_extensions") or []
    if OLD_URI not in declared:
        return dict(document)
    uris = [uri for uri in declared if uri not in (OLD_URI, *fields.SCHEMA_URIS)]
    moved: Document = {key: _moved(value) for key, value in document.items()}
    return {**_renamed(moved), "stac_extensions": [*fields.SCHEMA_URIS, *uris]}


def _moved(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    """Rename fields in objects and in the objects that they hold."""
    if isinstance(value, Mapping):
        return _renamed({key: _moved(inner) for key, inner in value.items()})
    return [_moved(inner) for inner in value] if isinstance(value, list) else value


def _renamed(values: Mapping[str, Any]) -> Document:
    return {RENAMED.get(key, key): value for key, value in values.items()}
