"""Describe an L2A product as ESA delivers it: a SAFE folder with JPEG 2000 bands.

In: the folder (or its `MTD_MSIL2A.xml`). Out: a `SceneSource` with the 20 m bands, B08 and what
else R20m lacks averaged from 10 m, SCL, and the sun and view angles of the granule.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lai_udf.errors import MetadataError, UnreadableProductError
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.scenes.bands import (
    SUN_AZIMUTH,
    SUN_ZENITH,
    VIEW_AZIMUTH,
    VIEW_ZENITH,
    AngleGrid,
    BandSource,
    Nodes,
    holds_mask,
    open_raster,
)
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.metadata import (
    FIRST_BASELINE_WITH_OFFSET,
    FIRST_LOCAL_BASELINE,
    SATURATED_DN,
    Declared,
    Scaling,
    SceneMetadata,
    baseline_number,
    complete_metadata,
    level_1c_error,
)
from lai_udf.scenes.source import LOG, SceneSource, require_bands

_NUMBERED = [f"B{number:02d}" for number in range(1, 13)]
BAND_IDS = (*_NUMBERED[:8], "B8A", *_NUMBERED[8:])
"""Bands by `band_id` (0 to 12) of the product metadata. Source: Spectral_Information_List."""
IMAGE_SUFFIXES = (".jp2", ".tif")  # images as ESA delivers them; as some mirrors convert them


def describe_safe(folder: Path, declared: Declared) -> SceneSource:
    """Describe a SAFE folder, that holds `MTD_MSIL2A.xml` and `GRANULE/`.

    Raises:
        ProductError: no L2A product, several granules, an image missing or damaged, or metadata.
    """
    described = _product_metadata(folder)
    try:
        product = ET.parse(described).getroot()
    except (ET.ParseError, OSError) as error:
        again = f"({error}); fetch the product again"
        raise MetadataError(f"{described} cannot be read {again}") from error
    granule = _granule(folder)
    sizes = (20, 10) if declared.resolution == 20 else (10, 20)
    images = {
        label: image
        for label in (*BANDS, SCENE_CLASS_BAND)
        if (image := _image(granule, label, sizes)) is not None
    }
    require_bands(list(images), str(granule / "IMG_DATA"))
    metadata = _metadata(product, declared, folder)
    scalings = _scalings(product, metadata, declared, folder)
    special = _special_numbers(product)
    bands = []
    for label, path in images.items():
        with open_raster(str(path), label) as dataset:
            band = BandSource(label, str(path), has_mask=holds_mask(dataset, 1))
            if label in BANDS:
                band = replace(band, scaling=scalings[label], nodata=special)
            bands.append((band, Grid.of_dataset(dataset)))
    return SceneSource.of_files(str(folder), bands, metadata, declared, _angles(granule))


def _product_metadata(folder: Path) -> Path:
    for path in sorted(folder.glob("MTD_MSIL2?.xml")):
        if path.stem.upper() == "MTD_MSIL2A":
            return path
    if (folder / "MTD_MSIL1C.xml").exists():
        raise level_1c_error(str(folder))
    raise UnreadableProductError(
        f"{folder} is no Sentinel-2 L2A product: MTD_MSIL2A.xml is missing; "
        "give the folder that ends in .SAFE, unpacked"
    )


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
    if quantification is None and declared.reflectance_scale is None:
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
        if expected and declared.reflectance_offset is None:
            raise MetadataError(
                f"{folder}: processing baseline {metadata.processing_baseline or 'unknown'} "
                "without BOA_ADD_OFFSET in the metadata",
                parameter="reflectance_offset",
                expected="-0.1 from baseline 04.00 on, to 0 before",
            )
        offsets_dn = dict.fromkeys(BANDS, 0.0)
    wrong = [number for number in offsets_dn.values() if not -1 < number * scale <= 0]
    if wrong and declared.reflectance_offset is None:
        raise MetadataError(f"{folder}: BOA_ADD_OFFSET {wrong[0]:g} is no offset of reflectance")
    missing = [label for label in BANDS if label not in offsets_dn]
    if missing and declared.reflectance_offset is None:
        raise MetadataError(f"{folder}: no BOA_ADD_OFFSET for {', '.join(missing)}")
    stated = {
        label: Scaling(scale, offsets_dn.get(label, 0.0) * scale, True, "MTD_MSIL2A.xml")
        for label in BANDS
    }
    time = metadata.datetime
    return {label: declared.scaling(own, time=time) or own for label, own in stated.items()}


def _metadata(product: ET.Element, declared: Declared, folder: Path) -> SceneMetadata:
    sensed = [
        product.findtext(f".//{tag}") for tag in ("DATATAKE_SENSING_START", "PRODUCT_START_TIME")
    ]
    name = product.findtext(".//PRODUCT_URI") or folder.name
    return complete_metadata(
        [name],
        f"{folder}, without DATATAKE_SENSING_START,",
        time=declared.datetime or sensed[0] or sensed[1],
        platform=product.findtext(".//SPACECRAFT_NAME", "").strip(),
        product_id=name,
        baseline=product.findtext(".//PROCESSING_BASELINE"),
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


def read_tile_angles(path: Path) -> dict[str, AngleGrid]:
    """Read sun and mean view angles of an L2A (or L1C) granule, `MTD_TL.xml`, by band label.

    View angles are means over all bands and detectors that see a node: zenith arithmetic, azimuth
    by unit vectors. Nodes outside the swath take the value of the nearest one inside. A file
    without angles of the view gives those of the sun alone, with a warning.

    Raises:
        MetadataError: not XML, or without grids of the sun or corner.

    Source: Sentinel-2 Products Specification Document, Tile_Angles.
    """
    try:
        root = ET.parse(path).getroot()
        corner = _find(root, ".//Geoposition[@resolution='20']")
        left, top = (float(corner.findtext(tag, "")) for tag in ("ULX", "ULY"))
        sun = _find(root, ".//Sun_Angles_Grid")
        step_m = float(sun.findtext("Zenith/COL_STEP", ""))
        if not step_m > 0:
            raise ValueError(f"COL_STEP is {step_m:g} m")
        nodes = dict(zip((SUN_ZENITH, SUN_AZIMUTH), _zenith_and_azimuth(sun), strict=True))
        angles = angle_grids(nodes, left, top, step_m)
    except (ET.ParseError, ValueError, OSError) as error:
        raise MetadataError(f"{path}: no usable sun and view angles ({error})") from error
    try:
        views = map(_zenith_and_azimuth, root.iterfind(".//Viewing_Incidence_Angles_Grids"))
        nodes = mean_view_angles(*np.stack(list(views), axis=1))
        return angles | angle_grids(nodes, left, top, step_m)
    except ValueError as error:
        LOG.warning("%s: no usable view angles (%s); the scene is read without them", path, error)
        return angles


def _zenith_and_azimuth(element: ET.Element) -> tuple[Nodes, Nodes]:
    return _nodes(_find(element, "Zenith")), _nodes(_find(element, "Azimuth"))


def _nodes(element: ET.Element) -> Nodes:
    rows = [(row.text or "").split() for row in element.iterfind("Values_List/VALUES")]
    nodes = np.array(rows, np.float64)
    if nodes.ndim != 2 or nodes.size == 0:
        raise ValueError(f"{element.tag} holds no grid of values")
    return nodes


def _find(element: ET.Element, path: str) -> ET.Element:
    child = element.find(path)
    if child is None:
        raise ValueError(f"{path} is missing")
    return child


def mean_view_angles(zenith: Nodes, azimuth: Nodes) -> dict[str, Nodes]:
    """Average view angles over bands and detectors, zenith arithmetic, azimuth by unit vectors.

    (n, rows, columns), degrees, NaN where a detector does not see a node; ValueError if none is.
    """
    seen = np.isfinite(zenith) & np.isfinite(azimuth)
    count = seen.sum(axis=0)
    if not count.any():
        raise ValueError("no view angles with values")
    turn = np.deg2rad(azimuth)
    sums = [np.where(seen, part, 0).sum(axis=0) for part in (zenith, np.sin(turn), np.cos(turn))]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, east, north = (total / count for total in sums)
    return {VIEW_ZENITH: mean, VIEW_AZIMUTH: np.rad2deg(np.arctan2(east, north)) % 360}


def fill_nearest(nodes: Nodes) -> Nodes:
    """Give every NaN node the value of the nearest finite one."""
    finite = np.argwhere(np.isfinite(nodes))
    if len(finite) == 0:
        raise ValueError("an angle grid holds NaN only")
    filled = nodes.copy()
    for row, column in np.argwhere(~np.isfinite(nodes)):
        nearest = finite[np.argmin(((finite - (row, column)) ** 2).sum(axis=1))]
        filled[row, column] = nodes[tuple(nearest)]
    return filled


def angle_grids(
    nodes: Mapping[str, Nodes], left: float, top: float, step_m: float
) -> dict[str, AngleGrid]:
    """Return angles by band label; nodes without a value take that of the nearest one."""
    return {
        label: AngleGrid(fill_nearest(values), left, top, step_m, "Azimuth" in label)
        for label, values in nodes.items()
    }
