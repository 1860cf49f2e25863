"""The names that filters and sort orders may use, as a JSON schema.

Any property of an item may be filtered; these are the ones worth offering in a form.
"""

from typing import Any

_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_LAI = {"type": "number", "minimum": 0}

PROPERTIES: dict[str, dict[str, Any]] = {
    "id": {"title": "Item id", "type": "string"},
    "collection": {"title": "Collection id", "type": "string"},
    "geometry": {"title": "Footprint", "$ref": "https://geojson.org/schema/Geometry.json"},
    "datetime": {"title": "Acquisition time", "type": "string", "format": "date-time"},
    "platform": {"title": "Satellite", "type": "string"},
    "laiq:quantity": {"title": "LAI definition", "type": "string"},
    "laiq:model_id": {"title": "Model", "type": "string"},
    "laiq:model_version": {"title": "Model version", "type": "string"},
    "laiq:lai_mean": {"title": "Mean LAI (m² m⁻²)", **_LAI},
    "laiq:lai_median": {"title": "Median LAI (m² m⁻²)", **_LAI},
    "laiq:lai_p05": {"title": "5th percentile of LAI (m² m⁻²)", **_LAI},
    "laiq:lai_p95": {"title": "95th percentile of LAI (m² m⁻²)", **_LAI},
    "laiq:uncertainty_mean": {"title": "Mean uncertainty of LAI (m² m⁻²)", **_LAI},
    "laiq:valid_fraction": {"title": "Usable pixels (fraction)", **_FRACTION},
    "laiq:cloud_fraction": {"title": "Cloudy pixels (fraction)", **_FRACTION},
    "laiq:input_out_of_domain_fraction": {"title": "Input out of domain (fraction)", **_FRACTION},
    "laiq:gcos_goal_fraction": {"title": "Predicted within GCOS goal (fraction)", **_FRACTION},
    "laiq:gcos_threshold_fraction": {
        "title": "Predicted within GCOS threshold (fraction)",
        **_FRACTION,
    },
}


def queryables(address: str) -> dict[str, Any]:
    """Return the JSON schema of the queryables, found at this address."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": address,
        "type": "object",
        "title": "Queryables of the LAI catalogue",
        "properties": PROPERTIES,
        "additionalProperties": True,
    }
