"""Describe a multiband GeoTIFF whose band descriptions name the Sentinel-2 bands.

In: a path or href; band descriptions `B02` … `B12`, optionally `SCL` and angle bands; GDAL scale
and offset; the time in a tag or in the file name. Out: a `SceneSource`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
from rasterio.io import DatasetReader

from lai_udf.errors import MetadataError, UndeclaredScaleError
from lai_udf.grid import Grid
from lai_udf.scenes.angles import ANGLE_BANDS
from lai_udf.scenes.source import (
    LOG,
    PIXEL_SIZE_M,
    REFLECTANCE_BANDS,
    SCENE_CLASS_BAND,
    BandSource,
    Scaling,
    SceneMetadata,
    SceneSource,
    open_raster,
    require_bands,
)

PRODUCT_NAME = re.compile(
    r"(?P<mission>S2[ABCD])_MSIL2A_(?P<time>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?"
)
"""Start of the name of an L2A product: mission, time of the data take, processing baseline."""

TIME_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y%m%dT%H%M%S")
"""TIFFTAG_DATETIME; product names. ISO 8601 is tried first."""

LABELS = (*REFLECTANCE_BANDS, SCENE_CLASS_BAND, *ANGLE_BANDS)
"""Labels that a scene may have, in the order in which `read` returns them."""


@dataclass(frozen=True)
class Declared:
    """What the caller declares about a scene; it goes before what files and catalogues say."""

    scale: float | None = None
    """Reflectance per digital number."""

    offset: float | None = None
    """Reflectance at digital number 0; beyond ±1 it is taken as digital numbers (-1000)."""

    datetime: str | None = None
    """Time of acquisition, ISO 8601."""

    def offset_at(self, scale: float) -> float | None:
        """Return the declared offset as reflectance, also where it is in digital numbers."""
        if self.offset is None or abs(self.offset) <= 1:
            return self.offset
        return self.offset * scale


def describe_geotiff(href: str, declared: Declared) -> SceneSource:
    """Describe a multiband GeoTIFF.

    Args:
        href: local path or http href.
        declared: scale, offset and time that go before those in the file.

    Raises:
        UnreadableProductError: cannot be opened.
        MissingBandError: a band is not among the descriptions.
        MetadataError: no time, or two bands described as the same one.
        UndeclaredScaleError: integer data, and neither the file nor the caller says the scale.
        GridError: wrong CRS or pixel size.
    """
    with open_raster(href, "scene") as dataset:
        indices = find_bands(dataset.descriptions, href)
        require_bands(list(indices), href)
        decimation = decimation_of(dataset)
        bands = tuple(
            describe_band(label, href, indices[label], dataset, decimation, declared)
            for label in LABELS
            if label in indices
        )
        if declared.scale is not None and declared.offset is None:
            _tell_offset(dataset, [indices[label] for label in REFLECTANCE_BANDS], href)
        grid = Grid.of_dataset(dataset, decimation)
        metadata = _metadata(href, dataset.tags(), declared)
    return SceneSource(href, grid, bands, metadata)


def find_bands(descriptions: Sequence[str | None], where: str) -> dict[str, int]:
    """Return the number, from 1, of each band whose description we know.

    Raises:
        MetadataError: two bands are described as the same one.
    """
    indices: dict[str, int] = {}
    for index, text in enumerate(descriptions, start=1):
        label = band_label(text)
        if label in indices:
            raise MetadataError(
                f"{where}: bands {indices[label]} and {index} are both described as {label}: "
                "describe each band once"
            )
        if label is not None:
            indices[label] = index
    return indices


def describe_band(
    label: str,
    path: str,
    index: int,
    dataset: DatasetReader,
    decimation: int,
    declared: Declared,
) -> BandSource:
    """Describe one band of an open raster by its own scale, offset and no-data value.

    Raises:
        UndeclaredScaleError: integer reflectance, and nobody says its scale.
    """
    is_integer = np.issubdtype(np.dtype(dataset.dtypes[index - 1]), np.integer)
    nodata = dataset.nodatavals[index - 1]
    if nodata is None and is_integer and label not in ANGLE_BANDS:
        nodata = 0.0  # digital number 0 is no data in every L2A product
    scale, offset = dataset.scales[index - 1], dataset.offsets[index - 1]
    if label == SCENE_CLASS_BAND:
        return BandSource(label, path, index, None, nodata, decimation)
    if label in REFLECTANCE_BANDS:
        if is_integer and (scale, offset) == (1.0, 0.0) and declared.scale is None:
            raise UndeclaredScaleError(
                f"{label} of {path} holds {dataset.dtypes[index - 1]} without a GDAL scale: "
                "set SCALE= and OFFSET= (reflectance_scale, reflectance_offset), for L2A digital "
                "numbers 0.0001 and, from processing baseline 04.00 on, -0.1 (0 before)"
            )
        scale = scale if declared.scale is None else declared.scale
        wanted = declared.offset_at(scale)
        offset = offset if wanted is None else wanted
    scaling = None if (scale, offset) == (1.0, 0.0) else Scaling(scale, offset)
    return BandSource(label, path, index, scaling, nodata, decimation)


def _tell_offset(dataset: DatasetReader, indices: Sequence[int], href: str) -> None:
    """Warn, once a file, where digital numbers are taken to have no offset."""
    whole = [i for i in indices if np.issubdtype(np.dtype(dataset.dtypes[i - 1]), np.integer)]
    if any(dataset.offsets[index - 1] == 0 for index in whole):
        LOG.warning("%s: no reflectance offset is declared; 0 is taken", href)


def band_label(text: str | None) -> str | None:
    """Return the label of the scene contract for a band description, None for a foreign one.

    `b2`, `B2` and `B02` are all `B02`; SCL and the angle bands are matched without case.
    """
    name = (text or "").strip()
    match = re.fullmatch(r"[Bb]0?(\d{1,2}|8[Aa])", name)
    if match:
        number = match[1].upper()
        name = f"B{number}" if number == "8A" else f"B{int(number):02d}"
    by_lower_case = {label.lower(): label for label in LABELS}
    return by_lower_case.get(name.lower())


def decimation_of(dataset: DatasetReader) -> int:
    """Return 2 for pixels of 10 m, 1 otherwise (what is not 20 m then fails the grid check)."""
    return 2 if abs(dataset.transform.a - PIXEL_SIZE_M / 2) < 1e-3 * PIXEL_SIZE_M else 1


def read_product_name(text: str) -> SceneMetadata | None:
    """Return what an L2A product name says, None where the text holds no such name."""
    match = PRODUCT_NAME.search(text)
    if match is None:
        return None
    baseline = match["baseline"] or ""
    return SceneMetadata(
        datetime=utc(match["time"], text),
        platform=f"sentinel-2{match['mission'][-1].lower()}",
        product_id=text[match.start() :].removesuffix(".SAFE"),
        processing_baseline=f"{baseline[:2]}.{baseline[2:]}" if baseline else "",
    )


def utc(text: str, where: str) -> str:
    """Return a time as ISO 8601 in UTC with a trailing Z; times without a zone are UTC.

    Raises:
        MetadataError: not a time.
    """
    for read in (datetime.fromisoformat, *(_by(pattern) for pattern in TIME_FORMATS)):
        try:
            time = read(text.strip())
        except ValueError:
            continue
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        return time.isoformat().replace("+00:00", "Z")
    raise MetadataError(f"{where}: {text!r} is no time; write it as 2021-06-24T10:30:31Z")


def _by(pattern: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, pattern)


def _metadata(href: str, tags: Mapping[str, str], declared: Declared) -> SceneMetadata:
    """Collect time, platform, product and baseline from the tags, then from names."""
    lower = {key.lower(): value for key, value in tags.items()}
    product = lower.get("product_id") or lower.get("product") or ""
    stem = re.sub(r"\.tiff?$", "", PurePosixPath(href).name, flags=re.IGNORECASE)
    named = read_product_name(product) or read_product_name(stem)
    time = declared.datetime or lower.get("datetime") or lower.get("tifftag_datetime")
    if not time:
        time = named.datetime if named else None
    if not time:
        raise MetadataError(
            f"{href}: no time of acquisition in the tags DATETIME and TIFFTAG_DATETIME nor in the "
            "file name (S2A_MSIL2A_20210624T103031…); set DATETIME= (datetime)"
        )
    return SceneMetadata(
        datetime=utc(time, href),
        platform=lower.get("platform") or _platform(product or stem),
        product_id=product or (named.product_id if named else stem),
        processing_baseline=lower.get("processing_baseline")
        or (named.processing_baseline if named else ""),
    )


def _platform(name: str) -> str:
    match = re.search(r"S2([ABCD])_", name)
    return f"sentinel-2{match[1].lower()}" if match else ""
