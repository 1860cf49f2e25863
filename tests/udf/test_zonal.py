"""Zonal statistics: usable pixels, exact shares, odd geometries, grids that meet, ±180°."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.crs import CRS
from shapely.affinity import translate
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from lai_udf import predict
from lai_udf.errors import GeometryError
from lai_udf.grid import Grid
from lai_udf.summary import describe_raster
from lai_udf.zonal import describe_pixels, join_pixels, take_pixels, usable_pixels
from lai_udf.zones import project, repair, share_between_grids, weigh_zones

WEST, NORTH = 600_000, 4_800_000
GRID = Grid(CRS.from_epsg(32631), Affine(20, 0, WEST, 0, -20, NORTH), 100, 100)
PLANE = np.tile((np.arange(100) + 0.5) / 20, (100, 1))  # LAI rises by 0.05 a pixel to the east


def parcel(x: float, y: float, width: float, height: float):
    """A rectangle, metres from the upper left corner of GRID."""
    return box(WEST + x, NORTH - y - height, WEST + x + width, NORTH - y)


def mean_of(geometry, lai=PLANE, flags=None, crs=32631, **how):
    statistics = describe_pixels(
        take_pixels(weigh_zones([geometry], crs, GRID), {"lai": lai}, flags), **how
    )
    return statistics.mean["lai"][0], statistics.valid_share[0]


BOW_TIE = Polygon(
    [(WEST + x, NORTH - y) for x, y in [(200, 1200), (400, 1400), (400, 1200), (200, 1400)]]
)


@pytest.mark.parametrize(
    ("geometry", "lai", "share"),
    [
        # the mean of a plane is its value at the centre of what is seen: x / 20 * 0.05
        (parcel(200, 200, 200, 200), 300 / 400, 1),
        (parcel(407, 207, 5, 5), 410 / 400, 1),  # one pixel: its value
        (parcel(200, 500, 300, 2), 350 / 400, 1),
        (parcel(-100, 300, 200, 100), 50 / 400, 0.5),
        (BOW_TIE, 0.750, 1),
        (parcel(200, 1500, 300, 300).difference(parcel(250, 1550, 200, 200)), 350 / 400, 1),
        (MultiPolygon([parcel(200, 1840, 60, 60), parcel(1000, 1840, 60, 60)]), 630 / 400, 1),
        (shapely.force_3d(parcel(600, 200, 100, 100)), 650 / 400, 1),
        (GeometryCollection([parcel(200, 200, 60, 60), Point(0, 0)]), 230 / 400, 1),
        (Point(WEST + 310, NORTH - 310), 310 / 400, 1),
    ],
)
def test_means_of_a_plane_are_those_of_the_centroid(geometry, lai, share):
    # a pixel is constant: the means differ from the plane's by the pixel's steps alone
    found, seen = mean_of(geometry)
    assert found == pytest.approx(lai, abs=0.026 if geometry.area < 3000 else 2e-3)
    assert seen == pytest.approx(share)


def test_a_bow_tie_counts_with_both_triangles():
    assert mean_of(BOW_TIE)[0] == pytest.approx(0.750, abs=1e-9)


@pytest.mark.parametrize(
    "geometry",
    [
        LineString([(WEST, NORTH), (WEST + 900, NORTH - 900)]),
        Polygon(),
        Polygon([(WEST, NORTH), (WEST + 100, NORTH - 100), (WEST, NORTH)]),
        GeometryCollection([Point(WEST, NORTH)]),
        Polygon([(WEST, NORTH), (np.inf, NORTH), (WEST, NORTH - 100)]),
    ],
)
def test_geometries_without_area_are_refused(geometry):
    with pytest.raises(GeometryError):
        repair(geometry, 32631)


def test_metres_are_no_degrees():
    with pytest.raises(GeometryError):
        repair(Polygon([(WEST, NORTH), (WEST + 100, NORTH), (WEST, NORTH - 100)]), 4326)


def test_a_zone_off_the_raster_is_reported_as_not_seen():
    zones = weigh_zones([parcel(9000, 0, 50, 50), None, Polygon()], 32631, GRID)
    statistics = describe_pixels(take_pixels(zones, {"lai": PLANE}))
    assert zones.met.size == 0
    assert np.isnan(statistics.mean["lai"]).all()
    assert statistics.valid_share.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("flag", "counts"),
    [
        (predict.INPUT_OUT_OF_DOMAIN, False),
        (predict.CLIPPED_TO_MIN, True),
        (predict.CLIPPED_TO_MAX, True),
        (predict.OUTPUT_TOO_LOW, False),
        (predict.OUTPUT_TOO_HIGH, False),
        (predict.CLOUD_NEAR, False),
        (predict.NO_DATA_NEAR, False),
        (predict.RESIDUAL_CLOUD, False),
    ],
)
def test_doubtful_pixels_do_not_count_and_clipped_ones_do(flag, counts):
    assert usable_pixels(np.array([2.0]), np.array([flag])).tolist() == [counts]


def test_pixels_without_lai_or_flags_do_not_count():
    usable = usable_pixels(np.array([2.0, np.nan, np.inf]), np.array([np.nan, 0.0, 0.0]))
    assert not usable.any()


@pytest.mark.parametrize("hidden", [49, 51])
def test_a_mean_needs_half_of_the_zone(hidden):
    flags = np.zeros((100, 100), np.uint8)
    flags[:, :hidden] = predict.CLOUD_NEAR
    found, seen = mean_of(parcel(0, 0, 2000, 2000), flags=flags)
    assert seen == pytest.approx(1 - hidden / 100)
    assert np.isnan(found) == (hidden > 50)
    assert np.isfinite(mean_of(parcel(0, 0, 2000, 2000), flags=flags, min_valid_share=0)[0])


@pytest.mark.parametrize("crs", [4326, 2154, 3035, 3857, "EPSG:32630"])
def test_the_crs_of_the_zones_does_not_matter(crs):
    geometry = parcel(333, 444, 555, 666)
    there = project(geometry, 32631, crs)
    assert mean_of(there, crs=crs) == pytest.approx(mean_of(geometry), abs=1e-5)


def test_the_summary_of_a_raster_and_a_zone_around_it_have_the_same_statistics():
    rng = np.random.default_rng(1)
    lai = rng.uniform(0, 6, (100, 100))
    lai[rng.random(lai.shape) < 0.2] = np.nan
    flags = rng.choice(np.array([0, 1, 2, 9, 32, 128], np.uint8), lai.shape)

    whole = describe_raster(lai, flags)
    zones = weigh_zones([box(*GRID.bounds)], 32631, GRID)
    zone = describe_pixels(take_pixels(zones, {"lai": lai}, flags), min_valid_share=0.1)

    assert whole["mean"] == pytest.approx(zone.mean["lai"][0], abs=1e-4)
    assert whole["usable_share"] == pytest.approx(zone.valid_share[0], abs=1e-6)
    assert whole["in_domain_share"] == pytest.approx(1 - zone.flag_shares[1][0], abs=1e-6)
    levels = np.quantile(lai[usable_pixels(lai, flags)], (0.05, 0.5, 0.95))
    assert [whole[name] for name in ("p05", "median", "p95")] == pytest.approx(levels, abs=1e-4)


def test_the_spread_weighs_pixels_by_their_share():
    # by hand: pixels 1, 1 and half of one 4: mean 8 / 5, variance (1 + 1 + 8) / 2.5 - 1.6^2 ...
    lai = np.full((100, 100), 1.0)
    lai[:, 2] = 4.0
    zones = weigh_zones([parcel(0, 0, 50, 20)], 32631, GRID)
    statistics = describe_pixels(take_pixels(zones, {"lai": lai}))
    assert statistics.mean["lai"][0] == pytest.approx(4 / 2.5)
    assert statistics.standard_deviation["lai"][0] == pytest.approx(np.sqrt(10 / 2.5 - 1.6**2))
    assert statistics.n_effective[0] == pytest.approx(2.5**2 / 2.25)


def grid_at(longitude: float, latitude: float, zone: int, size: int = 200) -> Grid:
    """A grid of 20 m of a UTM zone around a place."""
    crs = CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(longitude, latitude)
    corner = (round(x / 20 - size / 2) * 20, round(y / 20 + size / 2) * 20)
    return Grid(crs, Affine(20, 0, corner[0], 0, -20, corner[1]), size, size)


SPELLINGS = {
    "beyond": lambda west, east: box(west, 10, 360 + east, 10.01),
    "beyond the other way": lambda west, east: box(west - 360, 10, east, 10.01),
    "cut": lambda west, east: MultiPolygon([box(west, 10, 180, 10.01), box(-180, 10, east, 10.01)]),
    "with a jump": lambda west, east: Polygon(
        [(west, 10), (east, 10), (east, 10.01), (west, 10.01)]
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("zone", [1, 60])
def test_zones_across_the_antimeridian_are_read_in_every_spelling(spelling, zone):
    grid = grid_at(180, 10.005, zone)
    west, east = 179.995, -179.995
    inside = SPELLINGS[spelling](west, east)
    reference = Polygon(
        zip(
            *Transformer.from_crs(4326, grid.crs, always_xy=True).transform(
                [west, east, east, west], [10, 10, 10.01, 10.01]
            ),
            strict=True,
        )
    )
    lai = np.random.default_rng(0).uniform(0, 6, grid.shape)

    found, wanted = (
        describe_pixels(take_pixels(weigh_zones([g], crs, grid), {"lai": lai}))
        for g, crs in ((inside, 4326), (reference, grid.crs))
    )

    assert wanted.pixels[0] > 2000
    assert found.mean["lai"] == pytest.approx(wanted.mean["lai"], abs=1e-4)
    assert found.valid_share == pytest.approx(1, abs=1e-6)
    assert found.pixels == pytest.approx(wanted.pixels, rel=1e-4)


def test_a_zone_on_the_other_side_of_the_world_meets_nothing():
    zones = weigh_zones([box(-180, -80, 180, 84), box(100, 10, 101, 11)], 4326, GRID)
    statistics = describe_pixels(take_pixels(zones, {"lai": PLANE}))
    assert statistics.valid_share == pytest.approx([0, 0], abs=1e-4)
    assert np.isnan(statistics.mean["lai"]).all()


def test_a_zone_across_two_utm_zones_counts_its_ground_once():
    west, east = grid_at(5.98, 45, 31, 100), grid_at(6.005, 45, 32, 100)  # they overlap
    parcel_there = box(5.985, 44.998, 6.002, 45.002)
    parts = share_between_grids([parcel_there], 4326, [west, east])
    pixels = join_pixels(
        [
            take_pixels(weigh_zones(pieces, 4326, grid), {"lai": np.full(grid.shape, value)})
            for pieces, grid, value in zip(parts, (west, east), (1.0, 3.0), strict=True)
        ]
    )
    statistics = describe_pixels(pixels)
    whole = project(parcel_there, 4326, west.crs).area / 400
    assert statistics.pixels[0] == pytest.approx(whole, rel=2e-3)
    assert statistics.valid_share[0] == pytest.approx(1, abs=1e-6)
    seen_by_both = [piece[0].area for piece in parts]
    assert statistics.mean["lai"][0] == pytest.approx(
        (seen_by_both[0] + 3 * seen_by_both[1]) / sum(seen_by_both), rel=1e-3
    )


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_zone_across_the_antimeridian_and_two_utm_zones_counts_its_ground_once(spelling):
    zone = SPELLINGS[spelling](179.99, -179.99)
    west, east = grid_at(179.985, 10.005, 60), grid_at(-179.985, 10.005, 1)
    parts = share_between_grids([zone], 4326, [west, east])
    pixels = join_pixels(
        [
            take_pixels(weigh_zones(pieces, 4326, grid), {"lai": np.full(grid.shape, value)})
            for pieces, grid, value in zip(parts, (west, east), (1.0, 3.0), strict=True)
        ]
    )
    statistics = describe_pixels(pixels)
    assert statistics.valid_share[0] == pytest.approx(1, abs=1e-6)
    assert 1 < statistics.mean["lai"][0] < 3
    whole = project(repair(zone), 4326, west.crs).area / 400
    assert statistics.pixels[0] == pytest.approx(whole, rel=1e-2)


@pytest.mark.parametrize("kind", ["polygon", "point"])
def test_ground_at_the_edge_of_one_grid_goes_to_the_grid_that_holds_it_further_inside(kind):
    west, east = GRID, Grid(GRID.crs, GRID.transform @ Affine.translation(50, 0), 100, 100)
    at_the_edge = parcel(1900, 1000, 90, 200)
    if kind == "point":
        at_the_edge = at_the_edge.centroid
    for grids in ([west, east], [east, west]):
        parts = share_between_grids([at_the_edge], 32631, grids)
        assert parts[grids.index(west)] == [None]
        assert parts[grids.index(east)][0].equals(at_the_edge)


def test_ground_that_no_grid_holds_counts_as_not_seen():
    one, other = GRID, Grid(GRID.crs, GRID.transform @ Affine.translation(100, 0), 100, 100)
    half_off = parcel(1000, -500, 2000, 1000)  # over both grids, its northern half over neither
    parts = share_between_grids([half_off], 32631, [one, other])
    pixels = [
        take_pixels(weigh_zones(pieces, 32631, grid), {"lai": PLANE})
        for pieces, grid in zip(parts, (one, other), strict=True)
    ]
    assert describe_pixels(join_pixels(pixels)).valid_share[0] == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(st.floats(-500, 2200), st.floats(-500, 2200), st.floats(1, 900), st.floats(1, 900))
def test_shares_add_up_to_the_area_inside_the_raster(x, y, width, height):
    geometry = parcel(x, y, width, height)
    zones = weigh_zones([geometry], 32631, GRID)
    inside = geometry.intersection(box(*GRID.bounds)).area / 400
    assert zones.share.sum() == pytest.approx(inside, abs=1e-3)
    assert zones.area_px[0] == pytest.approx(geometry.area / 400)


def test_a_shifted_zone_has_the_shifted_mean():
    here = parcel(300, 300, 130, 170)
    there = translate(here, xoff=200)
    assert mean_of(there)[0] - mean_of(here)[0] == pytest.approx(200 / 400)
