"""The three objects of the extensions: requirement, calibration, validation.

They are checked when built: an unknown key or a fraction of 3 is an error here, not a surprise in
somebody's search.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


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
    """k of the uncertainty that the limit speaks of (GCOS: 2)."""
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
    coverage: dict[Annotated[str, Field(pattern=r"^0\.[0-9]+$")], Fraction] | None = None
    """Nominal level -> observed coverage on data not used for the calibration."""
    ece: Fraction | None = None
    """Expected calibration error: mean |observed - nominal| over the levels."""
    scale_factor: Positive | None = None
    """Factor by which the raw uncertainty was multiplied."""


class Validation(_StacObject):
    """How the product compares with reference measurements; absent where it was not compared."""

    stage: Annotated[int, Field(ge=0, le=4)]
    """CEOS LPV validation stage."""
    n_sites: Count | None = None
    n_samples: Count | None = None
    rmse: NotNegative | None = None
    """m2 m-2."""
    bias: float | None = None
    """Product minus reference, m2 m-2."""
    mae: NotNegative | None = None
    """m2 m-2."""
    r2: Annotated[float, Field(le=1)] | None = None
    """1 - SSE/SST; may be negative."""
    uncertainty_agreement_ratio: Fraction | None = None
    """Share of pairs within the stated requirement."""
    reference: Text | None = None
    """The reference data in words."""
    doi: Annotated[str, Field(pattern=r"^10\.[0-9a-zA-Z]{4,}/[^\s]+$")] | None = None
    """DOI of data or publication, without resolver."""
    period: tuple[str | None, str | None] | None = None
    """First and last reference measurement, RFC 3339; None: open."""


OBJECTS: dict[str, type[Requirement | Calibration | Validation]] = {
    "Requirement": Requirement,
    "Calibration": Calibration,
    "Validation": Validation,
}
"""By the type that `lai_stac.fields` gives."""
