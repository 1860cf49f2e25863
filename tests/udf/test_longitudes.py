"""Shapes and boxes across ±180°."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import translate
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from lai_udf.longitudes import (
    bounding_box,
    box_holds,
    crosses_antimeridian,
    cut,
    enclosing_box,
    polygons_of,
    split_box,
    unroll,
)

WEST, WIDTH = st.floats(-180, 180), st.floats(0.001, 40)
SOUTH, HEIGHT = st.floats(-80, 70), st.floats(0.001, 10)


def spell_with_jump(shape: Polygon) -> Polygon:
    """Write longitudes within ±180°, as a program without regard to the antimeridian does."""
    return shapely.transform(
        shape, lambda xy: np.column_stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]])
    )


@given(WEST, SOUTH, WIDTH, HEIGHT)
def test_a_shape_with_a_jump_is_the_shape_without(west, south, width, height):
    # corners a little apart from ±180°, whose two spellings are one place
    shape = Polygon([(west, south), (west + width, south), (west + width / 2, south + height)])
    found = unroll(spell_with_jump(shape))
    turned = translate(shape, 360 * round((found.bounds[0] - shape.bounds[0]) / 360))
    assert found.symmetric_difference(turned).area == pytest.approx(0, abs=1e-6)


@given(WEST, SOUTH, WIDTH, HEIGHT)
def test_cutting_keeps_the_area_and_stays_in_the_world(west, south, width, height):
    pieces = cut(box(west, south, west + width, south + height))
    assert pieces.is_valid
    assert pieces.area == pytest.approx(width * height, rel=1e-6)
    assert pieces.bounds[0] >= -180
    assert pieces.bounds[2] <= 180


@given(WEST, SOUTH, WIDTH, HEIGHT)
def test_the_box_of_a_shape_is_as_wide_as_the_shape(west, south, width, height):
    found = bounding_box(box(west, south, west + width, south + height))
    east = found[2] + (360 if found[2] < found[0] else 0)
    assert east - found[0] == pytest.approx(width, abs=1e-6)
    assert -180 <= found[0] <= 180
    assert -180 <= found[2] <= 180
    again = bounding_box(cut(box(west, south, west + width, south + height)))
    assert again == pytest.approx(found, abs=1e-9)


@given(WEST, SOUTH, WIDTH, HEIGHT, st.sampled_from([-360, 0, 360]))
def test_a_box_holds_its_middle_and_not_its_neighbour(west, south, width, height, turn):
    bounds = (west, south, west + width, south + height)
    third = (west + width / 3 + turn, south, west + width / 2 + turn, south + height)
    beyond = (west + width / 2, south, west + 1.5 * width, south + height)
    assert box_holds(bounds, third)
    assert not box_holds(bounds, beyond)
    assert not box_holds(third, bounds)
    parts = split_box(bounds)
    assert box_holds((*parts[0][:2], *parts[-1][2:]), bounds, 1e-9)


@given(WEST, WIDTH)
def test_a_box_is_split_at_the_antimeridian_only(west, width):
    parts = split_box((west, 0.0, west + width, 1.0))
    assert sum(part[2] - part[0] for part in parts) == pytest.approx(width, abs=1e-9)
    assert all(-180 <= part[0] <= part[2] <= 180 for part in parts)
    rfc = split_box((parts[0][0], 0.0, parts[-1][2], 1.0))
    assert rfc == [pytest.approx(part) for part in parts]


def test_a_box_round_the_world_is_the_world():
    world = box(-180, -90, 180, 90)
    assert unroll(world).equals(world)
    assert bounding_box(world) == (-180, -90, 180, 90)
    assert split_box((-200, -10, 200, 10)) == [(-180, -10, 180, 10)]


def test_a_ring_round_a_pole_is_left_alone():
    ring = Polygon([(longitude, -80) for longitude in (-180, -90, 0, 90, 180)] + [(0, -90)])
    assert unroll(ring).equals(ring)


def test_holes_go_with_their_shell():
    shell = [(179, 0), (-179, 0), (-179, 2), (179, 2)]
    for hole in (
        [(179.5, 0.5), (-179.5, 0.5), (180, 1)],
        [(-179.8, 0.5), (-179.5, 0.5), (-179.6, 1)],
    ):
        area = unroll(Polygon(shell, [hole])).area
        assert area == pytest.approx(4 - unroll(Polygon(hole)).area)


def test_polygons_are_taken_from_any_collection():
    square = box(0, 0, 1, 1)
    nested = GeometryCollection([Point(5, 5), MultiPolygon([square]), LineString([(0, 0), (1, 1)])])
    assert polygons_of(GeometryCollection([nested])).equals(square)
    assert polygons_of(Point(0, 0)).is_empty


@pytest.mark.parametrize(
    ("west", "east", "crosses"),
    [(179, -179, True), (5.1, 5.05, False), (10, 20, False), (100, -100, True), (-100, 100, False)],
)
def test_a_box_that_is_merely_turned_round_crosses_nothing(west, east, crosses):
    assert crosses_antimeridian(west, east) == crosses


@given(st.lists(st.tuples(WEST, SOUTH, WIDTH, HEIGHT), min_size=1, max_size=5))
def test_the_box_of_boxes_holds_each_of_them(boxes):
    found = [bounding_box(box(w, s, w + width, s + height)) for w, s, width, height in boxes]
    whole = enclosing_box(found)
    assert all(box_holds(whole, each, 1e-9) for each in found)
    assert enclosing_box([whole, *found]) == whole
