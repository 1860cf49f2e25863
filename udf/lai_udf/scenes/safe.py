"""Describe an L2A product as ESA delivers it: a SAFE folder with JPEG 2000 bands.

In: the folder (or its `MTD_MSIL2A.xml`). Out: a `SceneSource` with the 20 m bands, B08 and what
else R20m lacks averaged from 10 m, SCL, and the sun and view angles of the granule.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from lai_udf.errors import MetadataError, UnreadableProductError
from lai_udf.grid import Grid
from lai_udf.scenes.angles import AngleGrid, read_tile_angles
from lai_udf.scenes.geotiff import Declared, read_product_name, utc
from lai_udf.scenes.source import (
    LOG,
    REFLECTANCE_BANDS,
    SCENE_CLASS_BAND,
    BandSource,
    Scaling,
    SceneMetadata,
    SceneSource,
    open_raster,
    require_bands,
)

BAND_IDS = (
    "B01",
    "B02",
    "B03",
    "B04",
    "B05",
    "B06",
    "B07",
    "B08",
    "B8A",
    "B09",
    "B10",
    "B11",
    "B12",
)
"""Bands by `band_id` (0 to 12) of the product metadata. Source: Spectral_Information_List."""

FIRST_BASELINE_WITH_OFFSET = 4.0
"""From processing baseline 04.00 (25 January 2022) on, L2A products carry BOA_ADD_OFFSET."""

FIRST_LOCAL_BASELINE = 90.0
"""Baseline 99.99: made by a Sen2Cor of one's own; only its metadata say whether it has offsets."""

IMAGE_SUFFIXES = (".jp2", ".tif")
"""Images as ESA delivers them; as some mirrors convert them."""


def describe_safe(folder: Path, declared: Declared) -> SceneSource:
    """Describe a SAFE folder.

    Args:
        folder: the product folder, that holds `MTD_MSIL2A.xml` and `GRANULE/`.
        declared: scale, offset and time that go before those of the metadata.

    Raises:
        UnreadableProductError: no L2A product, or an image that cannot be opened.
        MetadataError: metadata incomplete, or several granules.
        MissingBandError: an image is missing.
        GridError: images on different grids.
    """
    product = _parse(_product_metadata(folder))
    granule = _granule(folder)
    images = {label: _image(granule, label) for label in (*REFLECTANCE_BANDS, SCENE_CLASS_BAND)}
    found = {label: image for label, image in images.items() if image is not None}
    require_bands(list(found), str(granule / "IMG_DATA"))
    baseline = product.findtext(".//PROCESSING_BASELINE", "")
    scalings = _scalings(product, baseline, declared, folder)
    bands, grids = [], []
    for label, (path, decimation) in found.items():
        with open_raster(str(path), label) as dataset:
            grids.append(Grid.of_dataset(dataset, decimation))
        bands.append(
            BandSource(label, str(path), scaling=scalings.get(label), decimation=decimation)
        )
        grids[0].require_same(grids[-1], f"{label} ({path.name})")
    angles = _angles(granule)
    return SceneSource(
        str(folder), grids[0], tuple(bands), _metadata(product, baseline, declared, folder), angles
    )


def _product_metadata(folder: Path) -> Path:
    for path in sorted(folder.glob("MTD_MSIL2?.xml")):
        if path.stem.upper() == "MTD_MSIL2A":
            return path
    if (folder / "MTD_MSIL1C.xml").exists():
        raise UnreadableProductError(
            f"{folder} is a Level-1C product (top of atmosphere); LAI needs Level-2A: "
            "take the L2A product of the same tile and date"
        )
    raise UnreadableProductError(
        f"{folder} is no Sentinel-2 L2A product: MTD_MSIL2A.xml is missing; "
        "give the folder that ends in .SAFE, unpacked"
    )


def _parse(path: Path) -> ET.Element:
    try:
        return ET.parse(path).getroot()
    except (ET.ParseError, OSError) as error:
        raise MetadataError(f"{path} cannot be read ({error}); fetch the product again") from error


def _granule(folder: Path) -> Path:
    granules = sorted(path.parent for path in folder.glob("GRANULE/*/IMG_DATA"))
    if len(granules) != 1:
        raise MetadataError(
            f"{folder} holds {len(granules)} granules with IMG_DATA, expected is one: "
            "fetch the product again, or split a product of before December 2016 into its tiles"
        )
    return granules[0]


def _image(granule: Path, label: str) -> tuple[Path, int] | None:
    """Return the image of a band and how far to decimate it: 20 m before 10 m."""
    for folder, size, decimation in (("R20m", "20m", 1), ("R10m", "10m", 2)):
        for suffix in IMAGE_SUFFIXES:
            pattern = f"IMG_DATA/{folder}/*_{label}_{size}{suffix}"
            for path in sorted(granule.glob(pattern)):
                return path, decimation
    return None


def _scalings(
    product: ET.Element, baseline: str, declared: Declared, folder: Path
) -> dict[str, Scaling]:
    """Return the scaling of each reflectance band: what is declared, else the metadata."""
    quantification = product.findtext(".//BOA_QUANTIFICATION_VALUE") or product.findtext(
        ".//L2A_BOA_QUANTIFICATION_VALUE"
    )
    if quantification is None and declared.scale is None:
        raise MetadataError(
            f"{folder}: no BOA_QUANTIFICATION_VALUE in the metadata; set SCALE= (reflectance_scale)"
        )
    scale = 1 / float(quantification or 1) if declared.scale is None else declared.scale
    offsets_dn = {
        BAND_IDS[int(entry.get("band_id", "0"))]: float(entry.text or "nan")
        for entry in product.iterfind(".//BOA_ADD_OFFSET")
    }
    wanted = declared.offset_at(scale)
    if wanted is None and not offsets_dn:
        number = baseline_number(baseline)
        if number is None or FIRST_BASELINE_WITH_OFFSET <= number < FIRST_LOCAL_BASELINE:
            raise MetadataError(
                f"{folder}: processing baseline {baseline or 'unknown'} without BOA_ADD_OFFSET in "
                "the metadata; set OFFSET= (reflectance_offset), -0.1 from baseline 04.00 on"
            )
        wanted = 0.0
    if wanted is not None:
        return {label: Scaling(scale, wanted) for label in REFLECTANCE_BANDS}
    missing = [label for label in REFLECTANCE_BANDS if label not in offsets_dn]
    if missing:
        raise MetadataError(f"{folder}: no BOA_ADD_OFFSET for {', '.join(missing)}")
    return {label: Scaling(scale, offsets_dn[label] * scale) for label in REFLECTANCE_BANDS}


def baseline_number(baseline: str) -> float | None:
    """Return a processing baseline such as `05.09` as a number, None where it is none."""
    try:
        return float(baseline)
    except ValueError:
        return None


def _metadata(
    product: ET.Element, baseline: str, declared: Declared, folder: Path
) -> SceneMetadata:
    time = (
        declared.datetime
        or product.findtext(".//DATATAKE_SENSING_START")
        or product.findtext(".//PRODUCT_START_TIME")
    )
    if time is None:
        raise MetadataError(
            f"{folder}: no DATATAKE_SENSING_START in the metadata; set DATETIME= (datetime)"
        )
    name = (product.findtext(".//PRODUCT_URI") or folder.name).removesuffix(".SAFE")
    named = read_product_name(name)
    spacecraft = product.findtext(".//SPACECRAFT_NAME", "").strip().lower()
    return SceneMetadata(
        datetime=utc(time, str(folder)),
        platform=spacecraft or (named.platform if named else ""),
        product_id=name,
        processing_baseline=baseline,
    )


def _angles(granule: Path) -> dict[str, AngleGrid]:
    path = granule / "MTD_TL.xml"
    if not path.exists():
        LOG.warning("%s is missing: the scene is read without sun and view angles", path)
        return {}
    return read_tile_angles(path)
