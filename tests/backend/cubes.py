"""Small lazy cubes for tests of single processes."""

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine

from lai_backend.grids import georeference


def cube_of(values, *, bands=("B",), dates=("2024-06-01",), step=20.0, shift=0.0) -> xr.DataArray:
    values = np.asarray(values, np.float32)
    values = np.broadcast_to(values, (len(dates), len(bands), *values.shape[-2:]))
    rows, columns = values.shape[-2:]
    x, y = 500_000 + shift + step * (np.arange(columns) + 0.5), 5e6 - step * (np.arange(rows) + 0.5)
    coords = {"t": pd.DatetimeIndex(dates), "bands": list(bands), "y": y, "x": x}
    cube = xr.DataArray(da.asarray(values), dims=("t", "bands", "y", "x"), coords=coords)
    transform = Affine(step, 0, 500_000 + shift, 0, -step, 5e6)
    return georeference(cube, "EPSG:32633", transform)
