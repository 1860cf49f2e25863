"""What is stated of a scene beside its pixels: time, platform, baseline, scaling.

By its names and texts, and by the caller, who goes before what files and catalogues state.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeGuard

import numpy as np

from lai_udf.errors import MetadataError, UndeclaredScaleError, UnreadableProductError

PRODUCT_NAME = re.compile(
    r"(?P<mission>S2[ABCD])_MSIL2A_(?P<time>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?"
)
"""Start of the name of an L2A product: mission, time of the data take, processing baseline."""
LEVEL_1C_NAME = re.compile(r"S2[ABCD]_MSIL1C_")
TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y%m%dT%H%M%S", "%Y%m%d")
"""TIFFTAG_DATETIME; product names; dates of Earth Search. ISO 8601 is tried first."""
L2A_SCALE = 1e-4  # 1 / BOA_QUANTIFICATION_VALUE of every L2A product so far
L2A_OFFSET = -0.1  # BOA_ADD_OFFSET / BOA_QUANTIFICATION_VALUE from processing baseline 04.00 on
FIRST_BASELINE_WITH_OFFSET = 4.0
"""From processing baseline 04.00 (25 January 2022) on, L2A products carry BOA_ADD_OFFSET."""
FIRST_LOCAL_BASELINE = 90.0
"""Baseline 99.99: a Sen2Cor run by a user; only its metadata state whether it has offsets."""
CALLER = "as the caller says"
Offset = float | Mapping[str, float]
"""Reflectance at digital number 0: one number, or one from each date on."""


@dataclass(frozen=True)
class Scaling:
    """How stored numbers become reflectance: `number * scale + offset` (GDAL's convention)."""

    scale: float = 1.0  # reflectance per digital number, 0.0001 for L2A
    offset: float = 0.0
    """Reflectance at digital number 0: -0.1 from processing baseline 04.00 on, 0 before."""
    is_known: bool = True  # whether the offset is stated; else it is taken as 0 and may be judged
    found: str = ""  # where it was found, such as `MTD_MSIL2A.xml`
    is_certain: bool = True
    """False where it is stated beside floats, to which it may have been applied already."""

    def __post_init__(self) -> None:
        """Refuse what can be no scaling."""
        if not 0 < self.scale < np.inf:
            rule = "a finite number above 0"
            raise UndeclaredScaleError(
                parameter="reflectance_scale", value=self.scale, expected=rule
            )
        if not np.isfinite(self.offset):
            raise UndeclaredScaleError(
                parameter="reflectance_offset", value=self.offset, expected="a finite number"
            )

    def __str__(self) -> str:
        """Return scale, offset and where they were found."""
        known = "" if self.is_known else ", offset not stated"
        return f"scale {self.scale:g}, offset {self.offset:g}{known} ({self.found or 'as stored'})"


class Scaled(ABC):
    """Properties of a scene or a cube that follow from the scalings of its reflectance bands."""

    @property
    @abstractmethod
    def scalings(self) -> Sequence[Scaling]:
        """Of the reflectance bands."""

    @property
    def offset_is_known(self) -> bool:
        """Whether metadata or the caller state the offset of every reflectance band."""
        return all(scaling.is_known for scaling in self.scalings)

    @property
    def scaling_is_known(self) -> bool:
        """Whether a scale is stated beside the offset, and not of floats; else it is judged."""
        certain = all(scaling.is_certain for scaling in self.scalings)
        scaled = any(scaling.scale != 1 for scaling in self.scalings)
        return self.offset_is_known and certain and scaled

    @property
    def scaling_text(self) -> str:
        """Scaling in use and where it was found, one phrase."""
        return "; ".join(dict.fromkeys(map(str, self.scalings)))


SATURATED_DN = 65535  # special value SATURATED of the product metadata of L2A; 0 is NODATA


@dataclass(frozen=True)
class SceneMetadata:
    """What is known of a scene beside its pixels; empty where it is unknown."""

    datetime: str  # time of acquisition, ISO 8601, UTC, with a trailing Z
    platform: str = ""  # `sentinel-2a`, `sentinel-2b` or `sentinel-2c`
    product_id: str = ""  # name of the product, without `.SAFE`
    processing_baseline: str = ""  # for example `05.09`


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
    """What the caller declares: `Declaration` with its defaults, see `lai_udf.open_scene`."""

    reflectance_scale: float | None = None
    reflectance_offset: Offset | None = None
    datetime: str | None = None
    bands: Sequence[str] = ()
    resolution: int = 20
    reproject: bool = False

    def __post_init__(self) -> None:
        """Refuse what can be no scaling of reflectance."""
        scale, offset = self.reflectance_scale, self.reflectance_offset
        if not (scale is None or (is_finite(scale) and 0 < scale <= 1)):
            raise UndeclaredScaleError(
                parameter="reflectance_scale",
                value=scale,
                expected="a number above 0 and at most 1, such as 0.0001",
            )
        offsets = (
            list(offset.values())
            if isinstance(offset, Mapping)
            else [0.0 if offset is None else offset]
        )
        if not (offsets and all(is_finite(each) and each < 1 for each in offsets)):
            raise UndeclaredScaleError(
                parameter="reflectance_offset",
                value=offset,
                expected="a number below 1, such as -0.1 or -1000, or one from each date on",
            )

    def refuse_time(self, where: str) -> None:
        """Raise `MetadataError` where a time is declared of what has times of its own."""
        if self.datetime is not None:
            raise MetadataError(
                f"{where} has times of its own",
                parameter="datetime",
                value=self.datetime,
            )

    def scaling(self, found: Scaling | None, *, time: str = "") -> Scaling | None:
        """Return the scaling of a band: what is declared, else what was found, else None.

        Raises:
            UndeclaredScaleError: an offset by date, and the time of the scene is unknown.
        """
        offset = self.offset_at(time)
        if self.reflectance_scale is None and offset is None:
            return found
        base = found or Scaling(1.0, 0.0, is_known=False)
        scale = base.scale if self.reflectance_scale is None else self.reflectance_scale
        if offset is None:
            return Scaling(scale, base.offset, base.is_known, CALLER)
        return Scaling(scale, offset * scale if abs(offset) >= 1 else offset, True, CALLER)

    def offset_at(self, time: str) -> float | None:
        """Return the declared offset of a date, as it was given."""
        if not isinstance(self.reflectance_offset, Mapping):
            return self.reflectance_offset
        if not time:
            raise UndeclaredScaleError(
                "the scene has no time, which an offset by date needs",
                parameter="reflectance_offset",
                expected="one number",
            )
        starts = sorted((utc(str(day), "offset"), n) for day, n in self.reflectance_offset.items())
        given = [number for start, number in starts if _moment(start) <= _moment(time)]
        return given[-1] if given else 0.0


def is_true(value: object) -> bool:
    """Return whether a property of a catalogue is true, as JSON or as a text: `false` is not."""
    return str(value).lower() == "true"


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value that a caller gives is a finite number, of Python or of numpy."""
    number = value.item() if isinstance(value, np.ndarray | np.number) and not value.ndim else value
    return type(number) in (int, float) and math.isfinite(number)  # type: ignore[arg-type]


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

    Floats without any are stored as reflectance.

    Raises:
        UndeclaredScaleError: whole numbers, and no scale is stated.
    """
    if found is None and dtype.kind == "f":
        found = Scaling(1.0, 0.0, False, "as stored")
    known = found is not None or declared.reflectance_scale is not None
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


def complete_metadata(
    names: Iterable[str],
    where: str,
    *,
    time: str | None,
    platform: str | None = None,
    product_id: str = "",
    baseline: str | None = None,
) -> SceneMetadata:
    """Return what is stated of a scene, completed by the first name of an L2A product.

    Raises:
        MetadataError: no time, or one that is none.
    """
    named = next(filter(None, map(read_product_name, names)), SceneMetadata(""))
    time = time or named.datetime
    if not time:
        raise MetadataError(
            f"{where} states no time of acquisition",
            parameter="datetime",
            expected="a time such as 2021-06-24T10:30:31Z",
        )
    return SceneMetadata(
        datetime=utc(time, where.partition(", ")[0]),  # without the places that were searched
        platform=(platform or named.platform).lower(),
        product_id=(product_id or named.product_id).removesuffix(".SAFE"),
        processing_baseline=baseline or named.processing_baseline,
    )


def read_product_name(text: str) -> SceneMetadata | None:
    """Return what an L2A product name states, None where the text holds no such name."""
    match = PRODUCT_NAME.search(text)
    if match is None:
        return None
    baseline = match["baseline"] or ""
    return SceneMetadata(
        datetime=utc(match["time"], text),
        platform=platform_of(match["mission"]),
        product_id=text[match.start() :].removesuffix(".SAFE"),
        processing_baseline=f"{baseline[:2]}.{baseline[2:]}" if baseline else "",
    )


def level_1c_error(where: str) -> UnreadableProductError:
    """Return the error of a Level-1C product."""
    return UnreadableProductError(
        f"{where} is a Level-1C product (top of atmosphere); LAI needs Level-2A: "
        "take the L2A product of the same tile and date"
    )


def platform_of(name: str) -> str:
    """Return the platform that a name begins with or holds (`S2A`), empty where it has none."""
    match = re.search(r"S2([ABCD])(_|$)", name)
    return f"sentinel-2{match[1].lower()}" if match else ""


def baseline_number(baseline: str) -> float | None:
    """Return a processing baseline such as `05.09` as a number, None where it is none."""
    try:
        return float(baseline)
    except ValueError:
        return None


def utc(text: str, where: str) -> str:
    """Return a time as ISO 8601 in UTC with a trailing Z; times without a zone are UTC.

    Raises:
        MetadataError: not a time.
    """
    for pattern in (*TIME_FORMATS, None):
        try:
            bare = text.strip()
            time = datetime.strptime(bare, pattern) if pattern else datetime.fromisoformat(bare)
        except ValueError:
            continue
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        return time.isoformat().replace("+00:00", "Z")
    raise MetadataError(
        f"{where}: {text!r} is no time",
        parameter="datetime",
        value=text,
        expected="a time such as 2021-06-24T10:30:31Z",
    )
