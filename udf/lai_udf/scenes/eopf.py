"""Describe an L2A product in EOPF Zarr, the format that follows SAFE.

In: the `.zarr` folder or href, a tree of groups: `measurements/reflectance/r20m/b05`,
`conditions/mask/l2a_classification/r20m/scl`, `conditions/geometry/sun_angles`. Out: a
`SceneSource`. Scale and offset are EOPF's own attributes (`_eopf_attrs`) or CF's.
"""

from collections.abc import Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from rasterio.crs import CRS

from lai_udf.errors import GridError, UnreadableProductError
from lai_udf.grid import find_crs, find_grid
from lai_udf.predict import BANDS
from lai_udf.scenes.bands import SUN_AZIMUTH, SUN_ZENITH, AngleGrid, Nodes
from lai_udf.scenes.labels import LABELS, SCENE_CLASS_BAND
from lai_udf.scenes.metadata import Declared, SceneMetadata, complete_metadata
from lai_udf.scenes.planes import read_plane
from lai_udf.scenes.safe import angle_grids, mean_view_angles
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
        ProductError: it cannot be opened, lacks a band, scale or CRS, or its grids differ.
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
    bands = []
    time = np.array([metadata.datetime.removesuffix("Z")], "datetime64[ns]")
    for label in (label for label in LABELS if label in arrays):
        array = arrays[label]
        grid, turned = find_grid({label: array}, array, _crs(tree, array, href), href)
        plane = read_plane(label, turned[label], turned[label], time, declared, href)
        bands.append((plane.band(label, href, 0, plane.values), grid))
    scene = SceneSource.of_files(href, bands, metadata, declared, _angles(tree, href))
    if any(band.warp is not None for band in scene.bands):
        raise GridError(f"{href}: a product in EOPF Zarr is not reprojected: give one in UTM")
    return scene


def _choose(tree: xr.DataTree, declared: Declared) -> dict[str, xr.DataArray]:
    """Return the array of each band, of the pixel size that is wanted."""
    arrays: dict[str, xr.DataArray] = {}
    sizes = ("r20m", "r10m") if declared.resolution == 20 else ("r10m", "r20m")
    for size, label in product(sizes, (*BANDS, SCENE_CLASS_BAND)):
        group = CLASSES if label == SCENE_CLASS_BAND else REFLECTANCE
        with suppress(KeyError):
            array = tree[f"{group}/{size}/{label.lower()}"]
            if isinstance(array, xr.DataArray):
                arrays.setdefault(label, array)
    return arrays


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
    return complete_metadata(
        [name],
        href,
        time=declared.datetime or p.get("datetime") or p.get("start_datetime"),
        platform=p.get("platform"),
        product_id=name,
        baseline=p.get("processing:version") or p.get("s2:processing_baseline"),
    )


def _angles(tree: xr.DataTree, href: str) -> dict[str, AngleGrid]:
    """Return sun and view angles on their coarse grids; what is missing is left out."""
    try:
        return _read_angles(tree[GEOMETRY].to_dataset())
    except (KeyError, ValueError) as error:
        LOG.warning("%s: no usable sun and view angles (%s); it is read without", href, error)
        return {}


def _read_angles(geometry: xr.Dataset) -> dict[str, AngleGrid]:
    sun = geometry["sun_angles"]
    x, y = (sun[axis].values.astype(float) for axis in ("x", "y"))
    if len(x) < 2 or y[0] < y[-1]:
        raise ValueError("the grid of angles has no falling y")
    nodes = dict(zip((SUN_ZENITH, SUN_AZIMUTH), _zenith_and_azimuth(sun), strict=True))
    if "viewing_incidence_angles" in geometry:
        view = geometry["viewing_incidence_angles"]
        others = [dim for dim in view.dims if dim not in ("angle", "y", "x")]
        nodes |= mean_view_angles(*_zenith_and_azimuth(view.stack(view=others)))
    return angle_grids(nodes, float(x[0]), float(y[0]), float(x[1] - x[0]))


def _zenith_and_azimuth(angles: xr.DataArray) -> list[Nodes]:
    named = (angles.sel(angle=name) for name in ("zenith", "azimuth"))
    return [one.transpose(..., "y", "x").values.astype(float) for one in named]
