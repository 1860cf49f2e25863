"""Small Sentinel-2 products for tests: GeoTIFF, SAFE folder, STAC Items, all 32 px wide.

The digital numbers are random but seeded; the layouts, names and encodings are the real ones.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
SIZE = 32
CORNER = (499980.0, 5900040.0)
CRS = "EPSG:32629"
PRODUCT = "S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454"


def make_dn(seed: int = 7, size: int = SIZE) -> dict[str, np.ndarray]:
    """Return digital numbers per band, uint16, from 500 (negative with the offset) to 6000."""
    rng = np.random.default_rng(seed)
    return {band: rng.integers(500, 6000, (size, size)).astype("uint16") for band in BANDS}


def write_raster(
    path: Path,
    layers: np.ndarray,
    *,
    pixel: float = 20.0,
    crs: str | None = CRS,
    corner: tuple[float, float] = CORNER,
    descriptions: tuple[str, ...] | None = None,
    scales: tuple[float, ...] | None = None,
    offsets: tuple[float, ...] | None = None,
    nodata: float | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Write layers, shape (bands, y, x) or (y, x), as GeoTIFF or lossless JPEG 2000."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = layers[np.newaxis] if layers.ndim == 2 else layers
    jp2 = path.suffix == ".jp2"
    options = {"REVERSIBLE": "YES", "QUALITY": "100"} if jp2 else {}
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG" if jp2 else "GTiff",
        height=layers.shape[1],
        width=layers.shape[2],
        count=layers.shape[0],
        dtype=layers.dtype,
        crs=crs,
        transform=Affine(pixel, 0, corner[0], 0, -pixel, corner[1]),
        nodata=nodata,
        **options,
    ) as dataset:
        dataset.write(layers)
        if descriptions is not None:
            dataset.descriptions = descriptions
        if scales is not None:
            dataset.scales = scales
        if offsets is not None:
            dataset.offsets = offsets
        if tags:
            dataset.update_tags(**tags)
    return path


def write_multiband(path: Path, dn: dict[str, np.ndarray], **changes: Any) -> Path:
    """Write a described multiband GeoTIFF: scale 0.0001, offset -0.1, no data 0, with a time."""
    settings: dict[str, Any] = {
        "descriptions": tuple(dn),
        "scales": (1e-4,) * len(dn),
        "offsets": (-0.1,) * len(dn),
        "nodata": 0,
        "tags": {"TIFFTAG_DATETIME": "2022:10:05 11:54:11"},
    }
    return write_raster(path, np.stack(list(dn.values())), **(settings | changes))


def product_xml(baseline: str = "04.00", offsets: bool = True) -> str:
    """Return the part of an `MTD_MSIL2A.xml` that readers need."""
    entries = "".join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13))
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{entries}</BOA_ADD_OFFSET_VALUES_LIST>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/x.xsd"><n1:General_Info>
<Product_Info><PRODUCT_START_TIME>2022-10-05T11:54:11.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{PRODUCT}.SAFE</PRODUCT_URI><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
<Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
<DATATAKE_SENSING_START>2022-10-05T11:54:11.024Z</DATATAKE_SENSING_START></Datatake></Product_Info>
<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
</QUANTIFICATION_VALUES_LIST>{listed if offsets else ""}</Product_Image_Characteristics>
</n1:General_Info></n1:Level-2A_User_Product>"""


def tile_xml(corner: tuple[float, float] = CORNER) -> str:
    """Return an `MTD_TL.xml` with 3x3 nodes: sun zenith 40 to 44, two detectors, one of them NaN.

    View zenith is 2 for one band and 4 for the other; view azimuths are 350 and 10.
    """

    def grid(rows: list[list[Any]]) -> str:
        values = "".join(f"<VALUES>{' '.join(map(str, row))}</VALUES>" for row in rows)
        step = '<COL_STEP unit="m">5000</COL_STEP><ROW_STEP unit="m">5000</ROW_STEP>'
        return f"{step}<Values_List>{values}</Values_List>"

    def view(band: int, detector: int, zenith: Any, azimuth: Any) -> str:
        return (
            f'<Viewing_Incidence_Angles_Grids bandId="{band}" detectorId="{detector}">'
            f"<Zenith>{grid([[zenith] * 3] * 3)}</Zenith>"
            f"<Azimuth>{grid([[azimuth] * 3] * 3)}</Azimuth></Viewing_Incidence_Angles_Grids>"
        )

    sun = [[40 + r + c for c in range(3)] for r in range(3)]
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/y.xsd"><n1:Geometric_Info>
<Tile_Geocoding><Geoposition resolution="20"><ULX>{corner[0]}</ULX><ULY>{corner[1]}</ULY>
</Geoposition></Tile_Geocoding><Tile_Angles>
<Sun_Angles_Grid><Zenith>{grid(sun)}</Zenith><Azimuth>{grid([[172] * 3] * 3)}</Azimuth>
</Sun_Angles_Grid>{view(0, 1, 2, 350)}{view(1, 1, 4, 10)}{view(1, 2, "NaN", "NaN")}</Tile_Angles>
</n1:Geometric_Info></n1:Level-2A_Tile_ID>"""


def write_safe(
    parent: Path,
    dn: dict[str, np.ndarray],
    *,
    product: str | None = None,
    tile: str | None = None,
    name: str = PRODUCT,
    crs: str = CRS,
    corner: tuple[float, float] = CORNER,
    level_b08: bool = True,
) -> Path:
    """Write a SAFE folder: R20m for all bands but B08, that lies in R10m (each pixel 2x2).

    With `level_b08` two of its four pixels are 2 higher, without they are all the same.
    """
    folder = parent / f"{name}.SAFE"
    granule = folder / "GRANULE" / "L2A_T29UNU_A038058_20221005T115407"
    images = granule / "IMG_DATA"
    size = dn["B02"].shape
    for band, layer in (dn | {"SCL": np.full(size, 4, "uint8")}).items():
        stem = f"T29UNU_20221005T115411_{band}"
        if band == "B08":
            fine = layer.repeat(2, axis=0).repeat(2, axis=1)
            fine[::2] += (
                2 * level_b08
            )  # 2x2 pixels differ: only their mean is the 20 m value plus one
            write_raster(
                images / "R10m" / f"{stem}_10m.jp2", fine, pixel=10, crs=crs, corner=corner
            )
        else:
            write_raster(images / "R20m" / f"{stem}_20m.jp2", layer, crs=crs, corner=corner)
    (folder / "MTD_MSIL2A.xml").write_text(product if product is not None else product_xml())
    (granule / "MTD_TL.xml").write_text(tile if tile is not None else tile_xml(corner))
    return folder


def write_item(path: Path, assets: dict[str, Any], properties: dict[str, Any]) -> Path:
    """Write a STAC Item with the given assets."""
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": path.stem,
        "geometry": {"type": "Point", "coordinates": [-9, 53.2]},
        "bbox": [-9, 53.2, -9, 53.2],
        "properties": {"datetime": "2022-10-05T11:54:11Z"} | properties,
        "links": [],
        "assets": assets,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(item))
    return path
