"""What the caller declares about a scene; it goes before what files and catalogues state."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from lai_udf.errors import MetadataError, UndeclaredScaleError
from lai_udf.scenes.bands import SATURATED_DN, Scaling
from lai_udf.scenes.names import baseline_number, utc

L2A_SCALE = 1e-4
"""1 / BOA_QUANTIFICATION_VALUE of every L2A product so far."""

L2A_OFFSET = -0.1
"""BOA_ADD_OFFSET / BOA_QUANTIFICATION_VALUE from processing baseline 04.00 on."""

FIRST_BASELINE_WITH_OFFSET = 4.0
"""From processing baseline 04.00 (25 January 2022) on, L2A products carry BOA_ADD_OFFSET."""

FIRST_LOCAL_BASELINE = 90.0
"""Baseline 99.99: made by a Sen2Cor of one's own; only its metadata say whether it has offsets."""

CALLER = "as the caller says"

Offset = float | Mapping[str, float]
"""Reflectance at digital number 0: one number, or one from each date on."""


class Declaration(TypedDict, total=False):
    """Keywords of `lai_udf.open_scene`, `open_scenes` and `read_scene`, which explains them."""

    reflectance_scale: float | None
    reflectance_offset: Offset | None
    datetime: str | None
    bands: Sequence[str]
    resolution: int
    reproject: bool


@dataclass(frozen=True)
class Declared:
    """What the caller declares."""

    scale: float | None = None
    """Reflectance per digital number."""

    offset: Offset | None = None
    """Reflectance at digital number 0; of a size of 1 or more it is in digital numbers (-1000)."""

    datetime: str | None = None
    """Time of acquisition, ISO 8601."""

    bands: Sequence[str] = ()
    """Names of the bands in order, for files that do not name them."""

    resolution_m: int = 20
    """Side of a pixel of the scene: 20 m, or 10 m."""

    reproject: bool = False
    """Reproject what is not on a UTM grid of that side."""

    @classmethod
    def of(cls, given: Declaration) -> "Declared":
        """Return what keywords declare."""
        return cls(
            given.get("reflectance_scale"),
            given.get("reflectance_offset"),
            given.get("datetime"),
            tuple(given.get("bands", ())),
            given.get("resolution", 20),
            given.get("reproject", False),
        )

    def scaling(self, found: Scaling | None, *, time: str = "") -> Scaling | None:
        """Return the scaling of a band: what is declared, else what was found, else None.

        Args:
            found: what file or catalogue state.
            time: of the scene, for offsets that differ by date.

        Raises:
            UndeclaredScaleError: an offset by date, and the date is unknown.
        """
        offset = self.offset_at(time)
        if self.scale is None and offset is None:
            return found
        base = found or Scaling(1.0, 0.0, is_known=False)
        scale = base.scale if self.scale is None else self.scale
        if offset is None:
            return Scaling(scale, base.offset, base.is_known, CALLER)
        return Scaling(scale, offset * scale if abs(offset) >= 1 else offset, True, CALLER)

    def offset_at(self, time: str) -> float | None:
        """Return the declared offset of a date, as it was given."""
        if self.offset is None or not isinstance(self.offset, Mapping):
            return self.offset
        if not time:
            raise UndeclaredScaleError(
                "the scene has no time, which an offset by date needs",
                parameter="reflectance_offset",
                expected="one number",
            )
        starts = sorted((utc(start, "offset"), number) for start, number in self.offset.items())
        given = [number for start, number in starts if _moment(start) <= _moment(time)]
        return given[-1] if given else 0.0


def _moment(time: str) -> np.datetime64:
    return np.datetime64(time.removesuffix("Z"), "us")


def baseline_scaling(baseline: str, found: str) -> Scaling | None:
    """Return the scaling of L2A products of a processing baseline, None where it is not known."""
    number = baseline_number(baseline)
    if number is None or number >= FIRST_LOCAL_BASELINE:
        return None
    offset = L2A_OFFSET if number >= FIRST_BASELINE_WITH_OFFSET else 0.0
    return Scaling(L2A_SCALE, offset, True, found)


def choose_scaling(
    found: Scaling | None, declared: Declared, dtype: np.dtype[Any], where: str, *, time: str = ""
) -> Scaling:
    """Return the scaling of a reflectance band: what is declared, else what was found.

    Args:
        found: what file or catalogue state; None for floats: they are stored as reflectance.
        declared: goes before it.
        dtype: of the stored numbers.
        where: how messages call the band.
        time: of the scene, for offsets that differ by date.

    Raises:
        UndeclaredScaleError: whole numbers, and nobody states a scale.
    """
    if found is None and dtype.kind == "f":
        found = Scaling(1.0, 0.0, False, "as stored")
    known = found is not None or declared.scale is not None
    scaling = declared.scaling(found, time=time) if known else None
    if scaling is None:
        raise UndeclaredScaleError(
            f"{where} holds whole numbers without a scale",
            parameter="reflectance_scale",
            expected="0.0001 for L2A (and the offset to -0.1 from processing baseline 04.00 on, "
            "to 0 before)",
        )
    return scaling


def no_data_numbers(stated: Iterable[float], dtype: np.dtype[Any], scale: float) -> list[float]:
    """Return the stored numbers of no data of a reflectance band: those stated, 0, saturation."""
    numbers = [*stated, *([0.0] if dtype.kind != "f" or scale != 1 else [])]
    return list(dict.fromkeys([*numbers, *([float(SATURATED_DN)] if dtype == np.uint16 else [])]))


def require_time(time: str | None, where: str) -> str:
    """Return a time in UTC; raise `MetadataError` if it is not stated."""
    if not time:
        raise MetadataError(
            f"{where} states no time of acquisition",
            parameter="datetime",
            expected="a time such as 2021-06-24T10:30:31Z",
        )
    return utc(time, where.partition(", ")[0])  # without the places that were searched
