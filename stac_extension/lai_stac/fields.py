"""Names and vocabularies of the lai-quality and uncertainty extensions, each with its unit.

The meaning of every field is written in ``stac_extension/README.md``; the shape in
``json-schema/schema.json`` and ``uncertainty.json``. A test keeps the three in step.
"""

from __future__ import annotations

from typing import Final

from pystac.utils import StringEnum

SCHEMA_URI: Final = "https://sentinel2-lai.github.io/lai-quality/v0.1.0/schema.json"
UNCERTAINTY_URI: Final = "https://sentinel2-lai.github.io/uncertainty/v0.1.0/schema.json"
SCHEMA_URIS: Final = (SCHEMA_URI, UNCERTAINTY_URI)
PREFIX: Final = "laiq:"
UNCERTAINTY_PREFIX: Final = "unc:"

# What is estimated
VARIABLE: Final = "laiq:variable"  # of an asset
QUANTITY: Final = "laiq:quantity"
ELEMENTS: Final = "laiq:elements"
TARGET: Final = "laiq:target"
VALID_RANGE: Final = "laiq:valid_range"  # m2 m-2

# What an uncertainty is, of whatever quantity
UNCERTAINTY_OF: Final = "unc:of"  # key of the asset or name of the band it belongs to
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

# What the pixels say
LAI_MEAN: Final = "laiq:lai_mean"  # m2 m-2
LAI_MEDIAN: Final = "laiq:lai_median"  # m2 m-2
LAI_P05: Final = "laiq:lai_p05"  # m2 m-2
LAI_P95: Final = "laiq:lai_p95"  # m2 m-2
UNCERTAINTY_MEAN: Final = "laiq:uncertainty_mean"  # m2 m-2, one sigma
UNCERTAINTY_MEDIAN: Final = "laiq:uncertainty_median"  # m2 m-2, one sigma
UNCERTAINTY_P95: Final = "laiq:uncertainty_p95"  # m2 m-2, one sigma
RELATIVE_UNCERTAINTY_MEDIAN: Final = "laiq:relative_uncertainty_median"  # 1
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

STATISTIC_FIELDS: Final = (
    LAI_MEAN,
    LAI_MEDIAN,
    LAI_P05,
    LAI_P95,
    UNCERTAINTY_MEAN,
    UNCERTAINTY_MEDIAN,
    UNCERTAINTY_P95,
    RELATIVE_UNCERTAINTY_MEDIAN,
    PIXEL_COUNT,
    VALID_FRACTION,
    CLOUD_FRACTION,
    SHADOW_FRACTION,
    SNOW_FRACTION,
    WATER_FRACTION,
    NODATA_FRACTION,
    INPUT_OUT_OF_DOMAIN_FRACTION,
    OUTPUT_OUT_OF_RANGE_FRACTION,
    GCOS_GOAL_FRACTION,
    GCOS_THRESHOLD_FRACTION,
)
"""Flat numbers of an item: the ones that search, sort and summaries use."""


class Quantity(StringEnum):
    """Which leaf area index: the first question of the CEOS LPV protocol."""

    TRUE = "true"
    EFFECTIVE = "effective"


class Elements(StringEnum):
    """Which plant elements are counted."""

    LEAF = "leaf"
    GREEN = "green"
    PLANT = "plant"


class UncertaintyType(StringEnum):
    """What the numbers of an uncertainty band are."""

    STANDARD_DEVIATION = "standard_deviation"
    EXPANDED = "expanded"
    CI_HALF_WIDTH = "ci_half_width"
    INTERVAL_LOWER = "interval_lower"
    INTERVAL_UPPER = "interval_upper"


class UncertaintyMethod(StringEnum):
    """How the uncertainty was obtained."""

    MC_DROPOUT = "mc_dropout"
    ENSEMBLE = "ensemble"
    HETEROSCEDASTIC = "heteroscedastic"
    CONFORMAL = "conformal"
    OTHER = "other"


class UncertaintyComponent(StringEnum):
    """Which sources of error the uncertainty answers for."""

    EPISTEMIC = "epistemic"
    ALEATORIC = "aleatoric"
    INPUT = "input"
    REPRESENTATIVENESS = "representativeness"
