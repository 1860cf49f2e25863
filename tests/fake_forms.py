"""One scene, or a series, in every form that readers take: the same digital numbers everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import xarray as xr
from fake_cubes import fake_cube, to_digital_numbers
from fake_products import (
    BANDS,
    CORNER,
    CRS,
    PRODUCT,
    write_item,
    write_multiband,
    write_raster,
    write_safe,
)
from rasterio.warp import transform_bounds

SIDE = 48
TIME = "2022-10-05T11:54:11Z"
COMMON = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08")
COMMON_NAMES = dict(zip(BANDS, (*COMMON, "swir16", "swir22"), strict=True))


def numbers(seed: int = 8, side: int = SIDE) -> dict[str, np.ndarray]:
    """Return digital numbers of vegetation and soil, offset 1000 in them, a gap of no data."""
    cube = to_digital_numbers(fake_cube(np.random.default_rng(seed), side).isel(t=0))
    planes = dict(zip(BANDS, cube.values.astype("uint16"), strict=True))
    for plane in planes.values():
        plane[:5, :7] = 0
    return planes


def coordinates(side: int = SIDE, pixel: float = 20.0) -> dict[str, np.ndarray]:
    """Return centres of the pixels at the corner of `fake_products`."""
    steps = pixel * (np.arange(side) + 0.5)
    return {"y": CORNER[1] - steps, "x": CORNER[0] + steps}


def write_geotiff(folder: Path) -> Path:
    return write_multiband(folder / f"{PRODUCT}.tif", numbers())


def write_masked_geotiff(folder: Path) -> Path:
    """Write no data as a mask band, over numbers that would pass for data."""
    planes = {band: np.where(plane == 0, 1500, plane) for band, plane in numbers().items()}
    mask = np.where(numbers()["B02"] == 0, 0, 255).astype("uint8")
    path = folder / f"{PRODUCT}.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_multiband(path, planes, nodata=None)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
    return path


def write_vrt(folder: Path) -> Path:
    """Write a VRT over single-band files, as `gdalbuildvrt -separate` does."""
    bands = []
    for number, (band, plane) in enumerate(numbers().items(), start=1):
        write_raster(folder / f"{band}.tif", plane, nodata=0)
        bands.append(
            f'<VRTRasterBand dataType="UInt16" band="{number}"><Description>{band}</Description>'
            "<NoDataValue>0</NoDataValue><Scale>0.0001</Scale><Offset>-0.1</Offset><SimpleSource>"
            f'<SourceFilename relativeToVRT="1">{band}.tif</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
    with rasterio.open(folder / "B02.tif") as dataset:
        transform = ", ".join(str(number) for number in dataset.transform.to_gdal())
        wkt = dataset.crs.to_wkt()
    path = folder / f"{PRODUCT}.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>{wkt}</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path


def write_safe_folder(folder: Path) -> Path:
    planes = numbers()
    planes["B08"] = planes["B08"]  # R10m: each pixel of it 2x2
    return write_safe(folder, planes, level_b08=False)


def write_folder(folder: Path, name: Callable[[str], str], suffix: str = ".tif") -> Path:
    """Write a file for each band; B02 has pixels of 10 m."""
    for band, plane in numbers().items():
        pixel = 10.0 if band == "B02" else 20.0
        layer = plane if pixel == 20 else plane.repeat(2, axis=0).repeat(2, axis=1)
        write_raster(folder / f"{name(band)}{suffix}", layer, pixel=pixel, nodata=0)
    return folder


def write_safe_named(folder: Path) -> Path:
    """Write the files of R10m and R20m into a folder named by the product."""

    def name(band: str) -> str:
        return f"T29UNU_20221005T115411_{band}_{10 if band == 'B02' else 20}m"

    return write_folder(folder / PRODUCT, name, ".jp2")


def write_browser_named(folder: Path) -> Path:
    """Write files as the Copernicus Browser names them: reflectance, float32."""
    for band, plane in numbers().items():
        reflectance = np.where(plane == 0, 0, plane * 1e-4 - 0.1).astype("float32")
        day = "2022-10-05-00_00_2022-10-05-23_59"
        write_raster(folder / f"{day}_Sentinel-2_L2A_{band}_(Raw).tiff", reflectance)
    return folder


def write_earth_search_named(folder: Path) -> Path:
    """Write files as Earth Search names them, by common names; offset in the tags."""
    for band, plane in numbers().items():
        write_raster(
            folder / f"S2A_29UNU_20221005_0_L2A_{COMMON_NAMES[band]}.tif",
            plane,
            nodata=0,
            scales=(1e-4,),
            offsets=(-0.1,),
        )
    return folder


def make_item(
    folder: Path,
    name: str = "scene",
    *,
    suffix: str = ".tif",
    time: str = TIME,
    add: int = 0,
    baseline: str = "04.00",
) -> Path:
    """Write an Item with an asset for each band, each with a scaling of its own."""
    size = SIDE * 20
    bounds = (CORNER[0], CORNER[1] - size, CORNER[0] + size, CORNER[1])
    assets = {}
    for band, plane in numbers().items():
        # B03 is stored with an offset of its own: 500 more, taken off by -0.15
        own = add + (500 if band == "B03" else 0)
        layer = np.where(plane == 0, 0, plane.astype(int) + own).astype("uint16")
        write_raster(folder / name / f"{band}{suffix}", layer, nodata=0)
        assets[band] = {
            "href": f"./{name}/{band}{suffix}",
            "type": "image/tiff; application=geotiff" if suffix == ".tif" else "image/jp2",
            "roles": ["data"],
            "raster:bands": [
                {
                    "scale": 1e-4,
                    "offset": -0.1 - own * 1e-4,
                    "nodata": 0,
                    "data_type": "uint16",
                }
            ],
            "proj:transform": [20.0, 0.0, CORNER[0], 0.0, -20.0, CORNER[1]],
            "proj:shape": [SIDE, SIDE],
        }
    west, south, east, north = transform_bounds(CRS, "EPSG:4326", *bounds)
    path = write_item(
        folder / f"{name}.json",
        assets,
        {"datetime": time, "proj:epsg": 32629, "s2:processing_baseline": baseline},
    )
    item = pystac.Item.from_file(str(path))
    item.bbox = [west, south, east, north]
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item.geometry = {"type": "Polygon", "coordinates": [ring]}
    item.stac_extensions += [
        "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
        "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    ]
    item.save_object(include_self_link=False, dest_href=str(path))
    return path


def write_jp2_item(folder: Path) -> Path:
    return make_item(folder, suffix=".jp2")


def write_eopf(folder: Path) -> Path:
    """Write a product in EOPF Zarr: scale and offset as EOPF's own attributes, B08 at 10 m."""
    own = {"scale_factor": 1e-4, "add_offset": -0.1, "fill_value": 0}
    planes: dict[int, dict[str, Any]] = {10: {}, 20: {}}
    for band, plane in numbers().items():
        size = 10 if band == "B08" else 20
        layer = plane if size == 20 else plane.repeat(2, axis=0).repeat(2, axis=1)
        planes[size][band.lower()] = (("y", "x"), layer, {"_eopf_attrs": own})
    classes = np.full((SIDE, SIDE), 4, "uint8")
    nodes = {"y": CORNER[1] - 5000.0 * np.arange(3), "x": CORNER[0] + 5000.0 * np.arange(3)}
    sun = np.stack([np.full((3, 3), 40.0), np.full((3, 3), 170.0)])
    view = np.stack([np.full((3, 3), 5.0), np.full((3, 3), 100.0)])[None, None]
    tree = xr.DataTree.from_dict({
        "/": xr.Dataset(),
        "/measurements/reflectance/r10m": xr.Dataset(
            planes[10], coords=coordinates(2 * SIDE, 10.0)
        ),
        "/measurements/reflectance/r20m": xr.Dataset(planes[20], coords=coordinates()),
        "/conditions/mask/l2a_classification/r20m": xr.Dataset(
            {"scl": (("y", "x"), classes)}, coords=coordinates()
        ),
        "/conditions/geometry": xr.Dataset(
            {
                "sun_angles": (("angle", "y", "x"), sun),
                "viewing_incidence_angles": (("band", "detector", "angle", "y", "x"), view),
            },
            coords={**nodes, "angle": ["zenith", "azimuth"]},
        ),
    })  # fmt: skip
    tree.attrs = {
        "stac_discovery": {"id": PRODUCT, "properties": {"datetime": TIME}},
        "other_metadata": {"horizontal_CRS_code": CRS},
    }
    path = folder / f"{PRODUCT}.zarr"
    tree.to_zarr(path, mode="w", zarr_format=2, consolidated=True)
    return path


def cube_dataset(*, names: dict[str, str] | None = None, **attributes: Any) -> xr.Dataset:
    """Return a Dataset of one date, digital numbers as stored."""
    planes = {
        (names or {}).get(band, band): (("time", "y", "x"), plane[None], dict(attributes))
        for band, plane in numbers().items()
    }
    time = np.array([TIME.removesuffix("Z")], "datetime64[ns]")
    described: xr.Dataset = xr.Dataset(planes, coords=coordinates() | {"time": time}).rio.write_crs(
        CRS
    )
    return described


CF = {"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": np.uint16(0)}


def write_netcdf(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cube_dataset(**CF).to_netcdf(folder / "cube.nc")
    return folder / "cube.nc"


def write_zarr(folder: Path) -> Path:
    dataset = cube_dataset(names=COMMON_NAMES, scale_factor=1e-4, add_offset=-0.1)
    dataset.to_zarr(folder / "cube.zarr", mode="w", zarr_format=2)
    return folder / "cube.zarr"


FORMS: dict[str, Callable[[Path], Path]] = {
    "geotiff": write_geotiff,
    "mask band": write_masked_geotiff,
    "vrt": write_vrt,
    "files named as in SAFE": write_safe_named,
    "files of the Copernicus Browser": write_browser_named,
    "files of Earth Search": write_earth_search_named,
    "STAC with COG": make_item,
    "STAC with JP2": write_jp2_item,
    "SAFE": write_safe_folder,
    "EOPF Zarr": write_eopf,
    "netCDF": write_netcdf,
    "Zarr": write_zarr,
}
"""Ways to write the same scene."""
