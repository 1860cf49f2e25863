"""Ids of results: the same result has one, different results never share one."""

import re
from dataclasses import replace

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from lai_udf.errors import IdentityError
from lai_udf.grid import Grid
from lai_udf.identity import (
    ResultIdentity,
    covers_tile,
    source_name,
    tile_of,
)

GRID = Grid(CRS.from_epsg(32631), Affine(20, 0, 300_000, 0, -20, 4_900_020), 5490, 5490)
FIRST = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157"
SECOND = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158"
RESULT = ResultIdentity(
    datetime="2023-06-25T23:46:21Z",
    grid=GRID,
    model_id="lai-unet",
    model_version="0.2.1",
    model_checksum="1220ab",
    sources=(FIRST,),
    mgrs_tile="01WCP",
)

CHANGES = {
    "time": {"datetime": "2023-06-25T23:46:22Z"},
    "product of the same datatake": {"sources": (SECOND,)},
    "corner": {"grid": replace(GRID, transform=Affine(20, 0, 300_020, 0, -20, 4_900_020))},
    "crs": {"grid": replace(GRID, crs=CRS.from_epsg(32632))},
    "size": {"grid": replace(GRID, height=5489)},
    "tile": {"mgrs_tile": "01WCQ"},
    "model": {"model_id": "lai-paper"},
    "model version": {"model_version": "0.2.2"},
    "weights": {"model_checksum": "1220ac"},
    "target": {"target": "field"},
    "variables": {"variables": ("LAI", "FAPAR")},
    "resolution": {"resolution": 10},
    "draws": {"samples": 30},
    "region": {"settings": {"region": "new"}},
    "level": {"settings": {"level": 0.68}},
    "offset by hand": {"settings": {"reflectance_offset": -0.1}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_different_result_has_a_different_id(change):
    other = replace(RESULT, **CHANGES[change])
    assert other.id != RESULT.id
    assert re.fullmatch(r"[a-z0-9_-]+", other.id)


def test_the_seed_matters_where_there_are_draws_and_only_there():
    assert replace(RESULT, seed=7).id == RESULT.id
    drawn = replace(RESULT, samples=30)
    assert replace(drawn, seed=7).id != drawn.id


def test_the_id_does_not_depend_on_spelling_or_defaults():
    same = replace(
        RESULT,
        datetime="2023-06-26T01:46:21+02:00",
        mgrs_tile="T01WCP",
        sources=[FIRST, FIRST],
        variables=["lai"],
        settings={"region": "known", "level": 0.95, "calibration": None},
    )
    assert same.id == RESULT.id


def test_an_id_shows_place_time_model_and_settings():
    shown = replace(RESULT, target="field", resolution=10, samples=30).id
    assert shown.startswith("lai_s2_01wcp_20230625t234621_0-2-1_field_10m_mc30_")


def test_without_a_tile_the_grid_is_the_place():
    here = replace(RESULT, mgrs_tile=None)
    there = replace(here, grid=replace(GRID, width=100))
    assert here.id.split("_")[2] != there.id.split("_")[2]


@settings(max_examples=20, deadline=None)
@given(st.text(), st.text())
def test_two_sources_share_an_id_only_if_their_names_agree(one, other):
    ids = [replace(RESULT, sources=(name,)).id for name in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"datetime": "2023-06-25T23:46:21"},
        {"datetime": "yesterday"},
        {"mgrs_tile": "32TQ"},
        {"target": "truth"},
    ],
)
def test_what_cannot_be_named_is_refused(wrong):
    with pytest.raises(IdentityError):
        _ = replace(RESULT, **wrong).id


@pytest.mark.parametrize(
    ("product", "name"),
    [
        (f"/eodata/Sentinel-2/MSI/L2A/2023/06/25/{FIRST}.SAFE", FIRST),
        (f"https://example.com/{FIRST}.SAFE/GRANULE/x/IMG_DATA?sig=1", FIRST),
        ("https://example.com/S2A_T01WCP_20230625_L2A.json?x=1", "S2A_T01WCP_20230625_L2A"),
        ("https://example.com/items/S2A_01WCP_20230625_0_L2A", "S2A_01WCP_20230625_0_L2A"),
        ("folder/B.tif", "B"),
    ],
)  # fmt: skip
def test_products_are_named_wherever_they_lie(product, name):
    assert source_name(product) == name


def test_a_tile_is_known_where_all_products_lie_in_it():
    assert tile_of([FIRST, SECOND]) == "01WCP"
    assert tile_of([FIRST, SECOND.replace("01WCP", "01WCQ")]) is None
    assert tile_of(["B"]) is None


@pytest.mark.parametrize("metres", [10, 20])
def test_a_whole_tile_is_one_at_any_resolution(metres):
    size = 109_800 // metres
    grid = Grid(GRID.crs, Affine(metres, 0, 0, 0, -metres, 0), size, size)
    assert covers_tile(grid)
    assert not covers_tile(replace(grid, width=size - 1))
