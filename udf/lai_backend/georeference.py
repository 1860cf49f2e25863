"""Where the pixels of a cube lie: its projection and its affine transform.

Centres of pixels, the labels of y and x, tell the size of a pixel only where there are two of them;
of a single row or column it is known from the transform that travels beside the projection.
"""

import rioxarray  # noqa: F401 - registers the `rio` accessor
import xarray as xr
from affine import Affine
from rioxarray.exceptions import OneDimensionalRaster

from lai_backend.errors import ParameterError


def transform_of(cube: xr.DataArray) -> Affine:
    """Return the transform of a cube, from its labels where they tell it.

    Args:
        cube: dims y and x among others.
    """
    try:
        cube.rio.resolution(recalc=True)  # its `transform` would be the identity without a word
    except OneDimensionalRaster as error:
        raise ParameterError(
            "The size of the pixels of a cube with a single row or column is not known any more: "
            "ask for an extent of two rows and columns or more."
        ) from error
    transform: Affine = cube.rio.transform(recalc=True)
    return transform


def georeference(cube: xr.DataArray, crs: object, transform: Affine) -> xr.DataArray:
    """Write projection and transform into a cube; both replace those it had."""
    written: xr.DataArray = cube.rio.write_crs(crs).rio.write_transform(transform)
    return written


def georeference_like(cube: xr.DataArray, source: xr.DataArray) -> xr.DataArray:
    """Write into a cube on the same pixels what its source says of where it lies, no more."""
    if source.rio.crs is None:
        return cube
    name = source.rio.grid_mapping
    if name in source.coords:
        cube = cube.assign_coords({name: source[name].variable})
    written: xr.DataArray = cube.rio.write_crs(source.rio.crs, name)
    return written
