"""Areas become tiles, tiles and a period become jobs, and nothing is planned twice."""

import datetime as dt
from pathlib import Path

import geopandas as gpd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box
from typer.testing import CliRunner

from lai_udf.cli import app
from lai_udf.errors import ProductionError
from lai_udf.predict import LaiError
from lai_udf.produce.order import plan_order, table_path
from lai_udf.produce.plan import (
    SNAP_M,
    TILE_M,
    Order,
    cut_into_tiles,
    estimate,
    plan_jobs,
    split_period,
)
from lai_udf.zones import project

APRIL, JULY, AUGUST = dt.date(2024, 4, 1), dt.date(2024, 7, 1), dt.date(2024, 8, 1)


def table(*shapes: Polygon) -> gpd.GeoDataFrame:
    names = [f"a{number}" for number in range(len(shapes))]
    return gpd.GeoDataFrame({"id": names}, geometry=list(shapes), crs=4326)


def field(longitude: float, latitude: float, side: float = 0.01) -> Polygon:
    return box(longitude, latitude, longitude + side, latitude + side)


def test_a_small_field_is_one_small_tile() -> None:
    (tile,) = cut_into_tiles(table(field(1.1, 43.5)))
    assert tile.epsg == 32631
    assert tile.area_km2 < 4
    assert all(side % SNAP_M == 0 for side in tile.bounds)


def test_overlapping_areas_share_a_tile() -> None:
    (tile,) = cut_into_tiles(table(field(1.1, 43.5), field(1.105, 43.505)))
    assert tile.areas == ("a0", "a1")


@pytest.mark.parametrize(
    ("longitude", "latitude", "codes"),
    [
        (5.9, 45.0, {32631, 32632}),
        (20.0, -0.1, {32634, 32734}),
        (-60.1, -10.0, {32720, 32721}),
    ],
)
def test_an_area_over_two_zones_is_split_between_them(
    longitude: float, latitude: float, codes: set[int]
) -> None:
    tiles = cut_into_tiles(table(field(longitude, latitude, 0.2)))
    assert {tile.epsg for tile in tiles} == codes


@pytest.mark.parametrize(
    "shape",
    [
        Polygon([(179.9, -17), (180.1, -17), (180.1, -16.9), (179.9, -16.9)]),
        Polygon([(179.9, -17), (-179.9, -17), (-179.9, -16.9), (179.9, -16.9)]),
    ],
    ids=["runs on", "jumps"],
)
def test_an_area_across_the_antimeridian_has_tiles_on_both_sides(shape: Polygon) -> None:
    tiles = cut_into_tiles(table(shape))
    assert {tile.epsg for tile in tiles} == {32760, 32701}
    assert sum(tile.area_km2 for tile in tiles) < 800


def test_the_pole_is_refused() -> None:
    with pytest.raises(ProductionError):
        cut_into_tiles(table(field(0, 85)))


@settings(max_examples=25, deadline=None)
@given(
    longitude=st.floats(-179, 178),
    latitude=st.floats(-75, 80),
    side=st.floats(0.01, 0.5),
)
def test_tiles_cover_the_area_and_stay_on_their_grid(
    longitude: float, latitude: float, side: float
) -> None:
    shape = field(longitude, latitude, side)
    tiles = cut_into_tiles(table(shape))
    for tile in tiles:
        west, south, east, north = tile.bounds
        assert tile.column * TILE_M <= west < east <= (tile.column + 1) * TILE_M
        assert tile.row * TILE_M <= south < north <= (tile.row + 1) * TILE_M
    left = shape
    for tile in tiles:
        left = left.difference(project(box(*tile.bounds), f"EPSG:{tile.epsg}", "EPSG:4326"))
    assert left.area <= 1e-4 * shape.area


def order(end: dt.date, **chosen: object) -> Order:
    return Order(APRIL, end, chosen)


def test_a_job_is_planned_for_each_tile_and_season() -> None:
    rows = plan_jobs(cut_into_tiles(table(field(1.1, 43.5))), order(AUGUST))
    assert list(rows["start"]) == ["2024-04-01", "2024-07-02"]
    assert list(rows["end"]) == ["2024-07-02", "2024-08-01"]
    assert rows["title"].is_unique


def test_a_later_end_adds_the_new_dates_only() -> None:
    tiles = cut_into_tiles(table(field(1.1, 43.5)))
    before = plan_jobs(tiles, order(JULY))

    after = plan_jobs(tiles, order(AUGUST), before)

    assert list(zip(after["start"], after["end"], strict=True)) == [("2024-07-01", "2024-08-01")]
    assert plan_jobs(tiles, order(JULY), before).empty


def test_other_settings_are_other_jobs() -> None:
    tiles = cut_into_tiles(table(field(1.1, 43.5)))
    before = plan_jobs(tiles, order(JULY))
    after = plan_jobs(tiles, order(JULY, target="field"), before)
    assert len(after) == len(before)
    assert not set(after["title"]) & set(before["title"])


def test_gaps_between_known_periods_are_filled() -> None:
    have = [(dt.date(2024, 5, 1), dt.date(2024, 6, 1)), (dt.date(2024, 4, 1), dt.date(2024, 4, 10))]
    missing = list(split_period(APRIL, JULY, have))
    assert missing == [(dt.date(2024, 4, 10), dt.date(2024, 5, 1)), (dt.date(2024, 6, 1), JULY)]


def test_an_empty_period_is_refused() -> None:
    with pytest.raises(ProductionError) as caught:
        Order(JULY, APRIL, {})
    assert caught.value.parameter == "end"


def test_the_estimate_grows_with_area_and_period() -> None:
    tiles = cut_into_tiles(table(box(1, 43, 2, 44)))
    short, long = (estimate(plan_jobs(tiles, order(end))) for end in (JULY, AUGUST))
    assert short.tiles == long.tiles
    assert short.area_km2 == pytest.approx(long.area_km2)
    assert long.credits / short.credits == pytest.approx(122 / 91)
    assert long.jobs == 2 * short.jobs


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "snap"},
        {"variables": ["NDVI"]},
        {"resolution": 60},
        {"step_days": 0},
        {"level": 2},
        {"region": "mars"},
    ],
)
def test_a_wrong_setting_fails_before_anything_is_planned(
    settings: dict[str, object], tmp_path: Path
) -> None:
    areas = tmp_path / "areas.geojson"
    table(field(1.1, 43.5)).to_file(areas)
    with pytest.raises(LaiError):
        plan_order(areas, APRIL, JULY, tmp_path / "out", settings)


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    areas = tmp_path / "areas.geojson"
    table(field(1.1, 43.5)).to_file(areas)
    rows, _ = plan_order(areas, APRIL, JULY, tmp_path / "out", {"variables": ["LAI", "CCC"]})
    assert len(rows) == 1
    assert not (tmp_path / "out").exists()


def plan(folder: Path, *options: str) -> tuple[int, str]:
    """Print the plan of one square."""
    areas = folder / "areas.geojson"
    table(field(1.0, 43.5)).to_file(areas)
    result = CliRunner().invoke(
        app, ["produce", str(areas), str(folder / "out"), "--dry-run", *options]
    )
    return result.exit_code, result.output


def test_a_period_that_is_empty_is_reported_by_the_names_of_the_options(tmp_path):
    code, output = plan(tmp_path, "--from", "2025-01-01", "--to", "2024-01-01")
    assert code == 1
    assert "--to must be a day after 2025-01-01" in " ".join(output.split())


@pytest.mark.parametrize(
    ("given", "table"),
    [("out", "out/jobs.parquet"), ("of.2024", "of.2024/jobs.parquet"), ("a/b.csv", "a/b.csv")],
)
def test_a_table_is_named_by_its_suffix_else_a_folder(given: str, table: str) -> None:
    assert table_path(Path(given)) == Path(table)


def test_an_area_without_a_polygon_stops_no_other(tmp_path: Path) -> None:
    areas = tmp_path / "areas.gpkg"
    table(field(1.0, 43.5), None, Polygon()).to_file(areas)
    days = dt.date(2024, 6, 1), dt.date(2024, 7, 1)
    rows, estimate = plan_order(areas, *days, tmp_path / "out", {})
    assert len(rows) == 1
    assert len(estimate.left_out) == 2


def test_a_collection_without_scene_classes_and_angles_is_other_jobs(tmp_path):
    period = ("--from", "2024-06-01", "--to", "2024-07-01")
    usual, bare = (
        plan(tmp_path, *period, *options)[1].split()[-1]
        for options in ((), ("--auxiliary-bands", ""))
    )
    assert usual.startswith("lai_32631")
    assert bare.rpartition("_")[0] == usual.rpartition("_")[0]
    assert bare != usual
