"""The fields of the lai-quality and uncertainty extensions: table, names, objects, old names.

``json-schema/fields.csv`` is the table: name, JSON type, unit, where a field may stand (Item, Asset
and band, Summaries, Collection) and what it means. The pystac classes are made of it; tests hold
the schemas and ``stac_extension/README.md`` against it. Objects are checked when built: an unknown
key or a fraction of 3 is an error here, not a surprise in somebody's search. `migrated` gives a
document of lai-quality 1.0.0 today's fields, uncertainty in an extension of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Final, Literal, Self

import pydantic
from pydantic import BaseModel, ConfigDict, model_validator

from lai_stac import fields

SCHEMA_URI: Final = "https://sentinel2-lai.github.io/lai-quality/v0.1.0/schema.json"
UNCERTAINTY_URI: Final = "https://sentinel2-lai.github.io/uncertainty/v0.1.0/schema.json"
SCHEMA_URIS: Final = (SCHEMA_URI, UNCERTAINTY_URI)


@dataclass(frozen=True)
class Field:
    """A row of the table."""

    name: str  # with prefix, such as `laiq:lai_mean`
    type: str  # JSON type, `[number]` for a list; or an object of `OBJECTS`
    unit: str  # UCUM-like; empty for what has none
    where: str
    """Of I (Item), A (Asset, item asset, band), S (summaries) and C (top of a Collection)."""
    description: str  # as in the README


def _read_table() -> dict[str, Field]:
    table = (files("lai_stac") / "json-schema" / "fields.csv").read_text(encoding="utf-8")
    return {row["name"]: Field(**row) for row in csv.DictReader(table.splitlines())}


FIELDS: Final = _read_table()  # by name, in the order of the README

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
"""Counted from the flags of an observation; a series has none."""

STATISTIC_FIELDS: Final = tuple(
    name
    for name, field in FIELDS.items()
    if name.startswith("laiq:") and field.type.startswith(("number", "integer"))
)
"""Flat numbers of an item: the ones that search, sort and summaries use."""


Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Positive = Annotated[float, pydantic.Field(gt=0)]
Count = Annotated[int, pydantic.Field(ge=1)]
Text = Annotated[str, pydantic.Field(min_length=1)]


class _StacObject(BaseModel):
    """Closed and frozen; written without the keys that are not set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """Write the object as STAC JSON."""
        return self.model_dump(mode="json", exclude_none=True)


class Requirement(_StacObject):
    """A stated accuracy requirement and the share of pixels predicted or shown to meet it."""

    id: Text
    """Name of requirement and level, for example `GCOS-2022-threshold`."""
    relative: Positive | None = None
    """Allowed uncertainty relative to LAI, unit 1, where LAI >= `switch_lai`."""
    absolute: Positive | None = None
    """Allowed uncertainty, m2 m-2, where LAI < `switch_lai`."""
    switch_lai: NotNegative | None = None
    """LAI, m2 m-2, from which on the relative limit holds."""
    coverage_factor: Positive
    """k of the uncertainty that the limit refers to (GCOS: 2)."""
    fraction: Fraction
    """Share of valid pixels that meet the limit."""
    basis: Literal["predicted", "validated"]
    """`predicted`: by the product's own uncertainty; `validated`: against references."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.relative is None and self.absolute is None:
            raise ValueError(f"requirement {self.id}: give a relative or an absolute limit")
        return self


class Calibration(_StacObject):
    """Whether and how the uncertainty was calibrated, and what it then covers."""

    applied: bool
    """True where the published uncertainty is the calibrated one."""
    method: Text | None = None
    """For example `conformal by site-date`."""
    dataset: Text | None = None
    """What it was calibrated against."""
    n: Count | None = None
    """Number of reference values."""
    coverage: dict[Annotated[str, pydantic.Field(pattern=r"^0\.[0-9]+$")], Fraction] | None = None
    """Nominal level -> observed coverage on data not used for the calibration."""
    ece: Fraction | None = None
    """Expected calibration error: mean |observed - nominal| over the levels."""
    scale_factor: Positive | None = None
    """Factor by which the raw uncertainty was multiplied."""


class Validation(_StacObject):
    """How the product compares with reference measurements; absent where it was not compared."""

    stage: Annotated[int, pydantic.Field(ge=0, le=4)]
    """CEOS LPV validation stage."""
    n_sites: Count | None = None
    n_samples: Count | None = None
    rmse: NotNegative | None = None
    """m2 m-2."""
    bias: float | None = None
    """Product minus reference, m2 m-2."""
    mae: NotNegative | None = None
    """m2 m-2."""
    r2: Annotated[float, pydantic.Field(le=1)] | None = None
    """1 - SSE/SST; may be negative."""
    uncertainty_agreement_ratio: Fraction | None = None
    """Share of pairs within the stated requirement."""
    reference: Text | None = None
    """The reference data in words."""
    doi: Annotated[str, pydantic.Field(pattern=r"^10\.[0-9a-zA-Z]{4,}/[^\s]+$")] | None = None
    """DOI of data or publication, without resolver."""
    period: tuple[str | None, str | None] | None = None
    """First and last reference measurement, RFC 3339; None: open."""


OBJECTS: dict[str, type[Requirement | Calibration | Validation]] = {
    "Requirement": Requirement,
    "Calibration": Calibration,
    "Validation": Validation,
}
"""By the type that `lai_stac.fields` gives."""


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


def is_model(document: Mapping[str, Any]) -> bool:
    """Return whether an Item describes a model (extension mlm), as `model.json` of a bundle."""
    properties = document.get("properties")
    return isinstance(properties, Mapping) and "mlm:name" in properties


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
