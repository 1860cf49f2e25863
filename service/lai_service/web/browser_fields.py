"""How STAC Browser shows our fields: labels, units and words, as its `fields.config.js`.

The registry is that of `@radiantearth/stac-fields`. What a formatter of ours returns is put into
the page as HTML, so it escapes everything that comes from an item.
"""

import json
from typing import Any

__all__ = ["FIELD_ORDER", "fields_config"]

_LAI = {"unit": "m² m⁻²"}
_PERCENT = "percent"
_GRAPH = "processGraph"

_UNCERTAINTY_TYPES = {
    "standard_deviation": "Standard deviation",
    "expanded": "Expanded uncertainty",
    "ci_half_width": "Half width of the interval",
    "interval_lower": "Lower end of the interval",
    "interval_upper": "Upper end of the interval",
}
_METHODS = {
    "mc_dropout": "Monte-Carlo dropout",
    "ensemble": "Ensemble",
    "heteroscedastic": "Estimated by the network",
    "conformal": "Conformal: calibrated on measurements",
    "other": "Other",
}
_TARGETS = {
    "sl2p": "What SL2P (SNAP) would say",
    "field": "Corrected to field measurements",
}
_REQUIREMENT = {
    "id": {"label": "Requirement", "order": 0, "id": True},
    "relative": {"label": "Limit, relative to LAI", "order": 1, "formatter": _PERCENT},
    "absolute": {"label": "Limit of low LAI", "order": 2, **_LAI},
    "switch_lai": {"label": "Low LAI is below", "order": 3, **_LAI},
    "coverage_factor": {"label": "Coverage factor k", "order": 4},
    "fraction": {"label": "Pixels within the limit", "order": 5, "formatter": _PERCENT},
    "basis": {"label": "Judged", "order": 6},
}
_CALIBRATION = {
    "applied": "Applied to the published interval",
    "method": "Method",
    "dataset": "Calibrated on",
    "n": "Reference values",
    "coverage": "Observed coverage by nominal level",
    "ece": "Expected calibration error",
    "scale_factor": "Scale factor",
}
_VALIDATION = {
    "stage": "CEOS LPV stage",
    "n_sites": "Sites",
    "n_samples": "Pairs",
    "rmse": {"label": "RMSE", **_LAI},
    "bias": {"label": "Bias", **_LAI},
    "mae": {"label": "MAE", **_LAI},
    "r2": "R² = 1 - SSE/SST",
    "uncertainty_agreement_ratio": {"label": "Within the requirement", "formatter": _PERCENT},
    "reference": "Reference",
    "doi": {"label": "DOI", "format": "DOI"},
    "period": {"label": "Period", "format": "TemporalExtent"},
}


def _share(label: str) -> dict[str, Any]:
    return {"label": label, "formatter": _PERCENT}


# The order is that of the page: LAI, how sure, how much of it, what it is, where it comes from.
_FIELDS: dict[str, dict[str, Any]] = {
    "laiq:lai_mean": {"label": "Mean LAI", **_LAI},
    "laiq:lai_median": {"label": "Median LAI", **_LAI},
    "laiq:lai_p05": {"label": "LAI, 5th percentile", **_LAI},
    "laiq:lai_p95": {"label": "LAI, 95th percentile", **_LAI},
    "laiq:uncertainty_mean": {"label": "Mean uncertainty", **_LAI},
    "laiq:uncertainty_median": {"label": "Median uncertainty", **_LAI},
    "laiq:uncertainty_p95": {"label": "Uncertainty, 95th percentile", **_LAI},
    "laiq:relative_uncertainty_median": _share("Median relative uncertainty"),
    "laiq:valid_fraction": _share("Valid pixels"),
    "laiq:cloud_fraction": _share("Cloud"),
    "laiq:shadow_fraction": _share("Cloud shadow"),
    "laiq:snow_fraction": _share("Snow"),
    "laiq:water_fraction": _share("Water"),
    "laiq:nodata_fraction": _share("No data"),
    "laiq:input_out_of_domain_fraction": _share("Input out of domain"),
    "laiq:output_out_of_range_fraction": _share("Output out of range"),
    "laiq:pixel_count": {"label": "Pixels"},
    "laiq:variable": {"label": "Variable"},
    "laiq:quantity": {"label": "LAI definition"},
    "laiq:elements": {"label": "Plant elements counted"},
    "laiq:target": {"label": "What the estimate aims at", "mapping": _TARGETS},
    "laiq:valid_range": {"label": "Valid range of LAI", "format": "Extent", **_LAI},
    "unc:of": {"label": "Uncertainty of"},
    "unc:type": {"label": "Type of uncertainty", "mapping": _UNCERTAINTY_TYPES},
    "unc:method": {"label": "Method of uncertainty", "mapping": _METHODS},
    "unc:components": {"label": "Components of uncertainty", "format": "CSV"},
    "unc:confidence_level": _share("Confidence level"),
    "unc:coverage_factor": {"label": "Coverage factor k"},
    "laiq:gcos_goal_fraction": _share("Predicted within GCOS goal"),
    "laiq:gcos_threshold_fraction": _share("Predicted within GCOS threshold"),
    "laiq:requirements": {"label": "Requirements", "items": _REQUIREMENT},
    "unc:calibration": {"label": "Calibration", "properties": _CALIBRATION},
    "laiq:validation": {"label": "Validation", "properties": _VALIDATION},
    "laiq:model_id": {"label": "Model"},
    "laiq:model_version": {"label": "Model version"},
    "laiq:model_checksum": {"label": "Checksum of the model", "format": "Checksum"},
    "unc:samples": {"label": "Monte-Carlo samples"},
    "unc:dropout_rate": _share("Dropout rate"),
    "unc:random_seed": {"label": "Random seed"},
    "processing:expression": {"label": "Process", "formatter": _GRAPH, "summary": False},
}

FIELD_ORDER = tuple(name for name in _FIELDS if name.startswith(("laiq:", "unc:")))
"""Our fields in the order in which a page shows them; documents come sorted by name."""

_HEAD = """import { Registry } from '@radiantearth/stac-fields';

const escape = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);

// 0.0597 -> 6 %; summaries hand over ranges and lists, which stay as they are
const percent = value => typeof value !== 'number' ? escape(JSON.stringify(value))
  : `${Number((100 * value).toPrecision(3))} %`;

const steps = graph => Object.values(graph || {}).flatMap(node => [
  node.process_id,
  ...Object.values(node.arguments || {}).flatMap(a => steps(a && a.process_graph)),
]);

// The text of a UDF fills pages: the names of the processes, the whole graph on demand.
const processGraph = value => {
  const whole = escape(JSON.stringify(value && value.expression, null, 2));
  const names = value && value.format === 'openeo' ? steps(value.expression) : [];
  return `${escape(value && value.format)}: ${escape(names.join(', '))}
    <details><summary>whole expression</summary>
    <pre style="max-height:30em;overflow:auto">${whole}</pre></details>`;
};

Registry.addExtension('laiq', 'LAI quality');
Registry.addExtension('unc', 'Uncertainty');

// STAC writes units for machines
const bands = Registry.getSpecification('bands');
if (bands.items && bands.items.unit) {
  Object.assign(bands.items.unit, { mapping: { 'm2 m-2': 'm² m⁻²' } });
}
"""


def fields_config() -> str:
    """Return the `fields.config.js` that gives our fields their labels, units and words."""
    lines = [f"Registry.addMetadataField('{name}', {_js(spec)});" for name, spec in _FIELDS.items()]
    return _HEAD + "\n".join(lines) + "\n"


def _js(spec: object) -> str:
    """Write a specification as JavaScript: JSON, but formatters are names of functions."""
    if not isinstance(spec, dict):
        return json.dumps(spec, ensure_ascii=False)
    entries = (
        f"{json.dumps(key)}: {value if key == 'formatter' else _js(value)}"
        for key, value in spec.items()
    )
    return "{ " + ", ".join(entries) + " }"
