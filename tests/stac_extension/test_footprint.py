"""Footprints of slanted swaths near ±180°: valid, of the right area, with a narrow box."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.transform import from_origin

from lai_stac.product import block_size, bounding_box, outline, to_wgs84

PIXEL_M, SIDE_PX = 200.0, 120
GEOD = Geod(ellps="WGS84")


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from([1, 60]),
    latitude=st.floats(-78, 83),
    shift=st.floats(-1.05, 0.05),
    start=st.floats(-0.5, 0.95),
    slope=st.floats(-0.8, 0.8),
)
def test_footprints_near_the_antimeridian_are_valid_and_true(zone, latitude, shift, start, slope):
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
    seen = column > start * SIDE_PX + slope * row
    if seen.sum() < 20:
        return
    epsg = (32600 if latitude >= 0 else 32700) + zone
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180.0, latitude)
    corner = (x + shift * SIDE_PX * PIXEL_M, y + SIDE_PX * PIXEL_M / 2)
    transform = from_origin(*(round(value / 20) * 20 for value in corner), PIXEL_M, PIXEL_M)

    geometry = to_wgs84(outline(seen, transform), CRS.from_epsg(epsg), block_size(seen, transform))

    footprint = shapely.geometry.shape(geometry)
    west, _, east, _ = bounding_box(geometry)
    area = abs(GEOD.geometry_area_perimeter(footprint)[0]) / (seen.sum() * PIXEL_M**2)
    assert footprint.is_valid
    assert area == pytest.approx(1, abs=0.02 + 3 / np.sqrt(seen.sum()))
    assert (east - west) % 360 < 15
    parts = shapely.get_parts(footprint)
    assert all(part.exterior.is_ccw for part in parts)
    assert all(part.bounds[2] - part.bounds[0] < 15 for part in parts)
