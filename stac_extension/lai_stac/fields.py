"""The fields of the lai-quality and uncertainty extensions: one table, and their names in code.

``json-schema/fields.csv`` is the table: name, JSON type, unit, where a field may stand (Item, Asset
and band, Summaries, Collection) and what it means. The pystac classes are made of it; tests hold
the schemas and ``stac_extension/README.md`` against it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

SCHEMA_URI: Final = "https://sentinel2-lai.github.io/lai-quality/v0.1.0/schema.json"
UNCERTAINTY_URI: Final = "https://sentinel2-lai.github.io/uncertainty/v0.1.0/schema.json"
SCHEMA_URIS: Final = (SCHEMA_URI, UNCERTAINTY_URI)


@dataclass(frozen=True)
class Field:
    """A row of the table."""

    name: str
    """With prefix, such as `laiq:lai_mean`."""
    type: str
    """JSON type, `[number]` for a list; or an object of `lai_stac.objects`."""
    unit: str
    """UCUM-like; empty for what has none."""
    where: str
    """Of I (Item), A (Asset, item asset, band), S (summaries) and C (top of a Collection)."""
    description: str
    """As in the README."""


def _read_table() -> dict[str, Field]:
    table = (files("lai_stac") / "json-schema" / "fields.csv").read_text(encoding="utf-8")
    return {row["name"]: Field(**row) for row in csv.DictReader(table.splitlines())}


FIELDS: Final = _read_table()
"""By name, in the order of the README."""

# What is estimated
VARIABLE: Final = "laiq:variable"
QUANTITY: Final = "laiq:quantity"
ELEMENTS: Final = "laiq:elements"
TARGET: Final = "laiq:target"
VALID_RANGE: Final = "laiq:valid_range"
# What an uncertainty is, of whatever quantity
UNCERTAINTY_OF: Final = "unc:of"
UNCERTAINTY_TYPE: Final = "unc:type"
UNCERTAINTY_METHOD: Final = "unc:method"
UNCERTAINTY_COMPONENTS: Final = "unc:components"
COVERAGE_FACTOR: Final = "unc:coverage_factor"
CONFIDENCE_LEVEL: Final = "unc:confidence_level"
MC_SAMPLES: Final = "unc:samples"
DROPOUT_RATE: Final = "unc:dropout_rate"
RANDOM_SEED: Final = "unc:random_seed"
ERROR_CORRELATION: Final = "unc:error_correlation"
# Which model
MODEL_ID: Final = "laiq:model_id"
MODEL_VERSION: Final = "laiq:model_version"
MODEL_CHECKSUM: Final = "laiq:model_checksum"
# Statistics of the pixels
LAI_MEAN: Final = "laiq:lai_mean"
LAI_MEDIAN: Final = "laiq:lai_median"
LAI_P05: Final = "laiq:lai_p05"
LAI_P95: Final = "laiq:lai_p95"
UNCERTAINTY_MEAN: Final = "laiq:uncertainty_mean"
UNCERTAINTY_MEDIAN: Final = "laiq:uncertainty_median"
UNCERTAINTY_P95: Final = "laiq:uncertainty_p95"
RELATIVE_UNCERTAINTY_MEDIAN: Final = "laiq:relative_uncertainty_median"
PIXEL_COUNT: Final = "laiq:pixel_count"
VALID_FRACTION: Final = "laiq:valid_fraction"
CLOUD_FRACTION: Final = "laiq:cloud_fraction"
SHADOW_FRACTION: Final = "laiq:shadow_fraction"
SNOW_FRACTION: Final = "laiq:snow_fraction"
WATER_FRACTION: Final = "laiq:water_fraction"
NODATA_FRACTION: Final = "laiq:nodata_fraction"
INPUT_OUT_OF_DOMAIN_FRACTION: Final = "laiq:input_out_of_domain_fraction"
OUTPUT_OUT_OF_RANGE_FRACTION: Final = "laiq:output_out_of_range_fraction"
# How far it can be trusted
REQUIREMENTS: Final = "laiq:requirements"
GCOS_GOAL_FRACTION: Final = "laiq:gcos_goal_fraction"
GCOS_THRESHOLD_FRACTION: Final = "laiq:gcos_threshold_fraction"
CALIBRATION: Final = "unc:calibration"
VALIDATION: Final = "laiq:validation"

FLAG_FRACTIONS: Final = (
    CLOUD_FRACTION,
    WATER_FRACTION,
    INPUT_OUT_OF_DOMAIN_FRACTION,
    OUTPUT_OUT_OF_RANGE_FRACTION,
)
"""What the flags of an observation say; a series has none."""

STATISTIC_FIELDS: Final = tuple(
    name
    for name, field in FIELDS.items()
    if name.startswith("laiq:") and field.type.startswith(("number", "integer"))
)
"""Flat numbers of an item: the ones that search, sort and summaries use."""
