"""Describe an L2A product as ESA delivers it: a SAFE folder with JPEG 2000 bands.

In: the folder (or its `MTD_MSIL2A.xml`). Out: a `SceneSource` with the 20 m bands, B08 and what
else R20m lacks averaged from 10 m, SCL, and the sun and view angles of the granule.
"""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from lai_udf.errors import MetadataError, UnreadableProductError
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.angles import AngleGrid, read_tile_angles
from lai_udf.scenes.bands import SATURATED_DN, BandSource, Scaling, holds_mask, open_raster
from lai_udf.scenes.declared import (
    FIRST_BASELINE_WITH_OFFSET,
    FIRST_LOCAL_BASELINE,
    Declared,
    require_time,
)
from lai_udf.scenes.gridding import fit_band, scene_grid
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.names import SceneMetadata, baseline_number, read_product_name
from lai_udf.scenes.source import LOG, SceneSource, require_bands

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
    sizes = (20, 10) if declared.resolution_m == 20 else (10, 20)
    images = {label: _image(granule, label, sizes) for label in (*BANDS, SCENE_CLASS_BAND)}
    found = {label: image for label, image in images.items() if image is not None}
    require_bands(list(found), str(granule / "IMG_DATA"))
    baseline = product.findtext(".//PROCESSING_BASELINE", "")
    metadata = _metadata(product, baseline, declared, folder)
    scalings = _scalings(product, metadata, declared, folder)
    special = _special_numbers(product)
    described, grids = [], []
    for label, path in found.items():
        with open_raster(str(path), label) as dataset:
            grids.append(Grid.of_dataset(dataset))
            band = BandSource(label, str(path), has_mask=holds_mask(dataset, 1))
        if label in BANDS:
            band = replace(band, scaling=scalings[label], nodata=special)
        described.append(band)
    grid = scene_grid(grids, declared, str(folder))
    bands = [
        fit_band(band, own, grid, declared, Path(band.path).name)
        for band, own in zip(described, grids, strict=True)
    ]
    return SceneSource(str(folder), grid, tuple(bands), metadata, _angles(granule))


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


def _image(granule: Path, label: str, sizes: tuple[int, ...]) -> Path | None:
    """Return the image of a band, of the first pixel size that there is."""
    for size in sizes:
        for suffix in IMAGE_SUFFIXES:
            pattern = f"IMG_DATA/R{size}m/*_{label}_{size}m{suffix}"
            for path in sorted(granule.glob(pattern)):
                return path
    return None


def _special_numbers(product: ET.Element) -> tuple[float, ...]:
    """Return the numbers that the metadata call no data or saturated."""
    listed = {
        entry.findtext("SPECIAL_VALUE_TEXT", ""): entry.findtext("SPECIAL_VALUE_INDEX", "")
        for entry in product.iterfind(".//Special_Values")
    }
    numbers = [float(n) for text, n in listed.items() if text in ("NODATA", "SATURATED") and n]
    return tuple(dict.fromkeys([0.0, float(SATURATED_DN), *numbers]))


def _scalings(
    product: ET.Element, metadata: SceneMetadata, declared: Declared, folder: Path
) -> dict[str, Scaling]:
    """Return the scaling of each reflectance band: what is declared, else the metadata."""
    quantification = product.findtext(".//BOA_QUANTIFICATION_VALUE") or product.findtext(
        ".//L2A_BOA_QUANTIFICATION_VALUE"
    )
    if quantification is None and declared.scale is None:
        raise MetadataError(
            f"{folder}: no BOA_QUANTIFICATION_VALUE in the metadata",
            parameter="reflectance_scale",
            expected="0.0001",
        )
    scale = 1 / float(quantification or 1)
    offsets_dn = {
        BAND_IDS[int(entry.get("band_id", "0"))]: float(entry.text or "nan")
        for entry in product.iterfind(".//BOA_ADD_OFFSET")
    }
    if not offsets_dn:
        number = baseline_number(metadata.processing_baseline)
        expected = number is None or FIRST_BASELINE_WITH_OFFSET <= number < FIRST_LOCAL_BASELINE
        if expected and declared.offset is None:
            raise MetadataError(
                f"{folder}: processing baseline {metadata.processing_baseline or 'unknown'} "
                "without BOA_ADD_OFFSET in the metadata",
                parameter="reflectance_offset",
                expected="-0.1 from baseline 04.00 on, to 0 before",
            )
        offsets_dn = dict.fromkeys(BANDS, 0.0)
    missing = [label for label in BANDS if label not in offsets_dn]
    if missing and declared.offset is None:
        raise MetadataError(f"{folder}: no BOA_ADD_OFFSET for {', '.join(missing)}")
    scalings = {}
    for label in BANDS:
        stated = Scaling(scale, offsets_dn.get(label, 0.0) * scale, True, "MTD_MSIL2A.xml")
        scalings[label] = declared.scaling(stated, time=metadata.datetime) or stated
    return scalings


def _metadata(
    product: ET.Element, baseline: str, declared: Declared, folder: Path
) -> SceneMetadata:
    time = (
        declared.datetime
        or product.findtext(".//DATATAKE_SENSING_START")
        or product.findtext(".//PRODUCT_START_TIME")
    )
    name = (product.findtext(".//PRODUCT_URI") or folder.name).removesuffix(".SAFE")
    named = read_product_name(name)
    spacecraft = product.findtext(".//SPACECRAFT_NAME", "").strip().lower()
    return SceneMetadata(
        datetime=require_time(time, f"{folder}, without DATATAKE_SENSING_START,"),
        platform=spacecraft or (named.platform if named else ""),
        product_id=name,
        processing_baseline=baseline,
    )


def _angles(granule: Path) -> dict[str, AngleGrid]:
    path = granule / "MTD_TL.xml"
    if not path.exists():
        LOG.warning("%s is missing: the scene is read without sun and view angles", path)
        return {}
    try:
        return read_tile_angles(path)
    except MetadataError as error:
        LOG.warning("%s; the scene is read without them", error)
        return {}
