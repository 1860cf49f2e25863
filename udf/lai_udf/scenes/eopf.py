"""Describe an L2A product in EOPF Zarr, the format that follows SAFE.

In: the `.zarr` folder or href, a tree of groups: `measurements/reflectance/r20m/b05`,
`conditions/mask/l2a_classification/r20m/scl`, `conditions/geometry/sun_angles`. Out: a
`SceneSource`. Scale and offset are EOPF's own attributes (`_eopf_attrs`) or CF's.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rasterio.crs import CRS

from lai_udf.errors import GridError, UnreadableProductError
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.angles import AngleGrid, fill_nearest
from lai_udf.scenes.bands import ArrayBand
from lai_udf.scenes.cubes import as_plane
from lai_udf.scenes.declared import Declared, require_time
from lai_udf.scenes.gridding import fit_band, scene_grid
from lai_udf.scenes.labels import LABELS, SCENE_CLASS_BAND
from lai_udf.scenes.locating import find_crs, find_grid
from lai_udf.scenes.names import SceneMetadata, read_product_name
from lai_udf.scenes.source import LOG, SceneSource, require_bands

REFLECTANCE = "measurements/reflectance"
CLASSES = "conditions/mask/l2a_classification"
GEOMETRY = "conditions/geometry"
Json = Mapping[Any, Any]


def is_eopf(href: str) -> bool:
    """Return whether a Zarr folder is a product of EOPF, as opposed to a cube."""
    root = Path(href)
    if not root.exists():
        return "measurements" in href or "MSIL2A" in Path(href).name
    return (root / "measurements" / "reflectance").is_dir()


def describe_eopf(href: str, declared: Declared) -> SceneSource:
    """Describe a product.

    Raises:
        UnreadableProductError: it cannot be opened, or its reader is missing.
        MissingBandError: a band is missing.
        UndeclaredScaleError: whole numbers without a scale.
        GridError: bands on different grids, or no CRS.
    """
    try:
        tree = xr.open_datatree(href, engine="zarr", mask_and_scale=False)
    except Exception as error:  # backends raise what they like
        raise UnreadableProductError(
            f"cannot read {href} ({error}); give a product in EOPF Zarr"
        ) from error
    metadata = _metadata(href, tree.attrs, declared)
    arrays = _choose(tree, declared)
    require_bands(list(arrays), href)
    bands, grids = [], []
    for label in (label for label in LABELS if label in arrays):
        array = arrays[label]
        crs = _crs(tree, array, href)
        own, turned = find_grid({label: array}, array, crs, href)
        plane = as_plane(label, turned[label], declared, metadata.datetime, href)
        grids.append(own)
        bands.append(
            ArrayBand(
                label, href, scaling=plane.scaling(0), nodata=plane.nodata, array=plane.values
            )
        )
    grid = scene_grid(grids, declared, href)
    fitted = [
        fit_band(band, own, grid, declared, href) for band, own in zip(bands, grids, strict=True)
    ]
    if any(band.warp is not None for band in fitted):
        raise GridError(f"{href}: a product in EOPF Zarr is not reprojected: give one in UTM")
    return SceneSource(href, grid, tuple(fitted), metadata, _angles(tree, href))


def _choose(tree: xr.DataTree, declared: Declared) -> dict[str, xr.DataArray]:
    """Return the array of each band, of the pixel size that is wanted."""
    found: dict[str, xr.DataArray] = {}
    sizes = ("r20m", "r10m") if declared.resolution_m == 20 else ("r10m", "r20m")
    for label, group in (*((band, REFLECTANCE) for band in BANDS), (SCENE_CLASS_BAND, CLASSES)):
        for size in sizes:
            path = f"{group}/{size}/{label.lower()}"
            try:
                array = tree[path]
            except KeyError:
                continue
            if isinstance(array, xr.DataArray):
                found[label] = array
                break
    return found


def _crs(tree: xr.DataTree, array: xr.DataArray, href: str) -> CRS:
    stated = tree.attrs.get("other_metadata") or {}
    code = stated.get("horizontal_CRS_code") or stated.get("horizontal_crs_code")
    properties = (tree.attrs.get("stac_discovery") or {}).get("properties") or {}
    code = code or properties.get("proj:code") or properties.get("proj:epsg")
    try:
        return find_crs(array, href)
    except GridError:
        if code is None:
            raise
        return find_crs(array.assign_attrs(crs=code), href)


def _metadata(href: str, attributes: Json, declared: Declared) -> SceneMetadata:
    discovery = attributes.get("stac_discovery") or {}
    p = discovery.get("properties") or {}
    name = str(discovery.get("id") or Path(href.rstrip("/")).name).removesuffix(".zarr")
    named = read_product_name(name)
    time = declared.datetime or p.get("datetime") or p.get("start_datetime")
    baseline = str(p.get("processing:version") or p.get("s2:processing_baseline") or "")
    return SceneMetadata(
        datetime=require_time(time or (named.datetime if named else None), href),
        platform=str(p.get("platform") or (named.platform if named else "")).lower(),
        product_id=name.removesuffix(".SAFE"),
        processing_baseline=baseline or (named.processing_baseline if named else ""),
    )


def _angles(tree: xr.DataTree, href: str) -> dict[str, AngleGrid]:
    """Return sun and view angles on their coarse grids; what is missing is left out."""
    try:
        return dict(_read_angles(tree[GEOMETRY].to_dataset()))
    except (KeyError, ValueError) as error:
        LOG.warning("%s: no usable sun and view angles (%s); it is read without", href, error)
        return {}


def _read_angles(geometry: xr.Dataset) -> Iterator[tuple[str, AngleGrid]]:
    sun = geometry["sun_angles"].transpose("angle", ...)
    zenith, azimuth = (sun.sel(angle=name) for name in ("zenith", "azimuth"))
    left, top, step = _corner(zenith)
    yield ANGLES[0], AngleGrid(fill_nearest(zenith.values.astype(float)), left, top, step)
    yield ANGLES[1], AngleGrid(fill_nearest(azimuth.values.astype(float)), left, top, step, True)
    if "viewing_incidence_angles" not in geometry:
        return
    view = geometry["viewing_incidence_angles"]
    others = [dim for dim in view.dims if dim not in ("angle", "y", "x")]
    degrees = view.sel(angle="zenith").mean(others, skipna=True).values
    radians = xr.ufuncs.deg2rad(view.sel(angle="azimuth"))
    turns: tuple[xr.DataArray, ...] = (xr.ufuncs.sin(radians), xr.ufuncs.cos(radians))
    east, north = (turn.mean(others, skipna=True).values for turn in turns)
    yield ANGLES[2], AngleGrid(fill_nearest(degrees), left, top, step)
    turned = np.rad2deg(np.arctan2(east, north)) % 360
    yield ANGLES[3], AngleGrid(fill_nearest(turned), left, top, step, True)


def _corner(plane: xr.DataArray) -> tuple[float, float, float]:
    x, y = plane["x"].values.astype(float), plane["y"].values.astype(float)
    if len(x) < 2 or y[0] < y[-1]:
        raise ValueError("the grid of angles has no falling y")
    return float(x[0]), float(y[0]), float(x[1] - x[0])
