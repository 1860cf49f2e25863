"""What names and texts of a product state: time, platform, baseline."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lai_udf.errors import MetadataError

PRODUCT_NAME = re.compile(
    r"(?P<mission>S2[ABCD])_MSIL2A_(?P<time>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?"
)
"""Start of the name of an L2A product: mission, time of the data take, processing baseline."""

LEVEL_1C_NAME = re.compile(r"S2[ABCD]_MSIL1C_")

BAND_FILE_NAMES = (
    # a file of a SAFE folder: T31UFS_20230605T105621_B8A_20m.jp2
    re.compile(r"(?P<tile>T\d{2}[A-Z]{3})_(?P<time>\d{8}T\d{6})_(?P<band>\w+?)_(10|20|60)m$"),
    # Copernicus Browser: 2023-06-05-00:00_2023-06-05-23:59_Sentinel-2_L2A_B8A_(Raw)
    re.compile(
        r"(?P<time>\d{4}-\d\d-\d\d)[-_T:\d]*_Sentinel-2_(Quarterly_)?L2A_(?P<band>[A-Za-z0-9]+)"
        r"(_\(Raw\))?$"
    ),
    # Earth Search, downloaded: S2A_31UFS_20230605_0_L2A_B8A or S2A_31UFS_20230605_0_L2A_nir08
    re.compile(
        r"(?P<mission>S2[ABCD])_(?P<tile>\d{1,2}[A-Z]{3})_(?P<time>\d{8})_\d_L2A[_-](?P<band>\w+)$"
    ),
    # the same after a product name: S2A_MSIL2A_20230605T105621_..._B8A
    re.compile(r"(?P<mission>S2[ABCD])_MSIL2A_(?P<time>\d{8}T\d{6})_.*_(?P<band>[A-Za-z0-9]+)$"),
    # a bare band: B8A, nir08, B02_20m, SCL
    re.compile(r"(?P<band>\w+?)([-_](10|20|60)m)?$"),
)
"""Names, without suffix, of files that hold one band each; the first that fits counts."""

TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y%m%dT%H%M%S", "%Y%m%d")
"""TIFFTAG_DATETIME; product names; dates of Earth Search. ISO 8601 is tried first."""


@dataclass(frozen=True)
class SceneMetadata:
    """What is known of a scene beside its pixels."""

    datetime: str
    """Time of acquisition, ISO 8601, UTC, with a trailing Z."""

    platform: str = ""
    """`sentinel-2a`, `sentinel-2b` or `sentinel-2c`; empty when unknown."""

    product_id: str = ""
    """Name of the product, without `.SAFE`; empty when unknown."""

    processing_baseline: str = ""
    """For example `05.09`; empty when unknown."""


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
    for read in (*(_by(pattern) for pattern in TIME_FORMATS), datetime.fromisoformat):
        try:
            time = read(text.strip())
        except ValueError:
            continue
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        return time.isoformat().replace("+00:00", "Z")
    raise MetadataError(f"{where}: {text!r} is no time; write it as 2021-06-24T10:30:31Z")


def _by(pattern: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, pattern)
