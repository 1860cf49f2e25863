"""Parcel means and their interval, from items of any kind."""

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from fake_parcels import BANDS, GRID, make_cube, make_parcels, write_day
from shapely.geometry import box
from typer.testing import CliRunner

from lai_training import sl2p
from lai_training.cli import app
from lai_training.errors import ParcelsError
from lai_training.parcels.means import (
    add_interval,
    find_items,
    missing_parcels,
    observe_items,
    read_parcels,
    shrink,
)
from lai_training.sl2p.scene import write_sl2p_series
from lai_udf.bundle import open_bundle
from lai_udf.calibration import shared_error
from lai_udf.cog import write_lai_cogs
from lai_udf.errors import LaiUdfError
from lai_udf.predict import CLOUD_NEAR, NO_DATA_NEAR
from lai_udf.run import run_cube
from lai_udf.scenes.cubes import read_cube


def observe(cube: xr.DataArray, parcels: gpd.GeoDataFrame, folder: Path, **how) -> pd.DataFrame:
    """What a user sees of a cube on disk."""
    write_lai_cogs(cube, folder / "item", tags={"DATETIME": "2020-06-08T10:00:00Z"})
    return observe_items(parcels, [folder / "item"], **how)


def test_a_mean_weighs_pixels_by_the_share_inside(tmp_path: Path) -> None:
    # by hand: columns 0 (whole), 1 (whole) and half of 2, so (0 + 1 + 0.5 * 2) / 2.5 = 0.8
    columns = np.tile(np.arange(8.0), (6, 1))

    table = observe(make_cube(columns), make_parcels(a=(0, 1, 2.5, 3)), tmp_path)

    assert table["lai"][0] == pytest.approx(0.8)
    assert table["valid_fraction"][0] == pytest.approx(1)
    assert table["n_effective"][0] == pytest.approx(5**2 / (4 + 2 * 0.25))  # (sum w)^2 / sum w^2


def test_flagged_pixels_count_only_for_who_wants_them(tmp_path: Path) -> None:
    lai, flags = np.full((6, 8), 2.0), np.zeros((6, 8))
    lai[:, 0], flags[:, 0] = 4.0, CLOUD_NEAR
    parcels = make_parcels(a=(0, 0, 4, 6))

    left_out = observe(make_cube(lai, flags), parcels, tmp_path)
    counted = observe(make_cube(lai, flags), parcels, tmp_path, exclude_flags=0)

    assert left_out["lai"][0] == pytest.approx(2.0)
    assert left_out["valid_fraction"][0] == pytest.approx(0.75)
    assert counted["lai"][0] == pytest.approx((4 + 3 * 2) / 4)
    assert counted["valid_fraction"][0] == pytest.approx(1)


def test_a_parcel_seen_for_less_than_half_has_no_mean(tmp_path: Path) -> None:
    lai = np.full((6, 8), 2.0)
    lai[:, :3] = np.nan

    table = observe(make_cube(lai), make_parcels(a=(0, 0, 4, 6), b=(-5, 0, 4, 6)), tmp_path)

    assert table["lai"].isna().all()
    assert table["valid_fraction"].tolist() == pytest.approx([0.25, 1 / 9])


def test_correlated_errors_do_not_shrink_and_independent_ones_do() -> None:
    row = pd.DataFrame({"lai": [3.0], "lower": [2.0], "upper": [5.0], "n_effective": [25.0]})

    assert np.ravel(shrink(row, 1.0)) == pytest.approx([2.0, 5.0])
    assert np.ravel(shrink(row, 0.0)) == pytest.approx([3 - 1 / 5, 3 + 2 / 5])  # 1 / sqrt(25)


def test_the_interval_of_a_mean_narrows_to_what_its_pixels_share() -> None:
    row = {"lai": [3.0] * 3, "lower": [2.0] * 3, "upper": [5.0] * 3, "area_px": [1.0, 50.0, 1e9]}

    table = add_interval(pd.DataFrame(row).assign(n_effective=1.0), shared=0.48)

    widths = (table["parcel_upper"] - table["lai"]).tolist()
    assert widths[0] == pytest.approx(2.0)
    assert widths[0] > widths[1] > widths[2] == pytest.approx(2 * 0.48**0.5)


def test_the_shared_error_is_that_of_the_bundle_that_made_the_items(tmp_path: Path) -> None:
    bundle = open_bundle()
    ours = write_day(
        tmp_path / "ours", make_cube(np.ones((6, 8))), "2020-06-08T10:00:00Z",
        MODEL_CHECKSUM=bundle.checksum, TARGET="field",
    )  # fmt: skip
    as_sl2p = write_day(
        tmp_path / "sl2p", make_cube(np.ones((6, 8))), "2020-06-08T10:00:00Z",
        MODEL_CHECKSUM=bundle.checksum, TARGET="sl2p",
    )  # fmt: skip
    foreign = write_day(tmp_path / "foreign", make_cube(np.ones((6, 8))), "2020-06-08T10:00:00Z")

    expected = bundle.contract["calibration"]["variables"]["LAI"]["shared"]
    assert shared_error(find_items([ours])) == expected
    assert shared_error(find_items([ours, foreign])) is None
    # Its bounds lie about field LAI: a margin about SL2P's mean would be no interval of either.
    assert shared_error(find_items([as_sl2p])) is None


def test_sl2p_of_a_series_lies_beside_the_networks(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    bands = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    numbers = rng.integers(300, 4000, (3, 10, 6, 8))
    numbers[0, :, 0, 0] = 0  # no data
    numbers[2] = 0  # a date without any
    cube = xr.DataArray(
        numbers.astype("int16"),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array(["2020-06-08T10:56:21", "2020-06-13", "2020-06-18"], "datetime64[ns]"),
            "bands": bands,
            "y": 4_830_000 - 20 * np.arange(6) - 10,
            "x": 340_000 + 20 * np.arange(8) + 10,
        },
    ).rio.write_crs("EPSG:32631")

    paths = write_sl2p_series(cube, tmp_path, reflectance_scale=1e-4, reflectance_offset=-0.02)

    assert [path.parent.name for path in paths] == ["20200608T105621", "20200613T000000"]
    with rasterio.open(paths[0]) as dataset:
        lai = dataset.read(1)
        assert dataset.tags()["DATETIME"] == "2020-06-08T10:56:21Z"
        assert dataset.transform == GRID.transform
    scene = cube[0].astype("float32") * 1e-4 - 0.02
    expected, _ = sl2p.predict_image(scene)
    assert np.isnan(lai[0, 0])
    np.testing.assert_allclose(lai[1:], expected[1:], atol=1e-5)


def test_items_are_observed_in_order_of_time(tmp_path: Path) -> None:
    for day, value in ((20, 4.0), (10, 2.0)):
        cube = make_cube(np.full((6, 8), value))
        tags = {"DATETIME": f"2020-06-{day}T10:00:00Z"}
        write_lai_cogs(cube, tmp_path / f"item{day}", tags=tags)
    parcels = make_parcels(a=(1, 1, 4, 4), far=(90, 90, 95, 95))

    table = observe_items(parcels, find_items([tmp_path]))

    assert table["parcel"].tolist() == ["a", "a"]  # the far one meets no item
    assert missing_parcels(parcels, table) == ["far"]
    assert table["lai"].tolist() == pytest.approx([2.0, 4.0])
    assert table["datetime"].iloc[0] == datetime(2020, 6, 10, 10, tzinfo=UTC)
    assert add_interval(table, 1.0)["parcel_upper"].tolist() == pytest.approx([4.0, 6.0])


def test_a_folder_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaiUdfError):
        find_items([tmp_path])


def test_parcels_beyond_the_items_are_refused(tmp_path: Path) -> None:
    cube = make_cube(np.ones((6, 8)))
    write_lai_cogs(cube, tmp_path / "item", tags={"DATETIME": "2020-06-08T10:00:00Z"})
    with pytest.raises(ParcelsError):
        observe_items(make_parcels(far=(90, 90, 95, 95)), find_items([tmp_path]))


def test_tiles_of_one_overpass_give_one_row(tmp_path: Path) -> None:
    # the right tile begins where the left one has no data any more: together they hold the parcel
    left, right = np.full((6, 8), 2.0), np.full((6, 8), 4.0)
    moved = make_cube(right).assign_coords(x=GRID.x + 8 * 20)
    write_day(tmp_path / "left", make_cube(left), "2020-06-08T10:56:21Z")
    write_day(tmp_path / "right", moved, "2020-06-08T10:56:35Z")

    table = observe_items(make_parcels(a=(6, 1, 10, 3)), find_items([tmp_path]))

    assert len(table) == 1
    assert table["lai"][0] == pytest.approx(3.0)
    assert table["valid_fraction"][0] == pytest.approx(1.0)


def test_two_products_of_one_tile_complete_each_other(tmp_path: Path) -> None:
    one, other = np.full((6, 8), 2.0), np.full((6, 8), 4.0)
    one[:, 4:], other[:, :4] = np.nan, np.nan
    write_day(tmp_path / "one", make_cube(one), "2020-06-08T10:56:21Z")
    write_day(tmp_path / "other", make_cube(other), "2020-06-08T10:56:21Z")

    table = observe_items(make_parcels(a=(2, 0, 6, 6)), find_items([tmp_path]))

    assert table["lai"].tolist() == pytest.approx([3.0])
    assert table["valid_fraction"].tolist() == pytest.approx([1.0])


def test_results_of_different_settings_are_never_mixed(tmp_path: Path) -> None:
    for target, value in (("sl2p", 2.0), ("field", 4.0)):
        cube = make_cube(np.full((6, 8), value))
        write_day(tmp_path / target, cube, "2020-06-08T10:56:21Z", TARGET=target)

    table = observe_items(make_parcels(a=(0, 0, 4, 6)), find_items([tmp_path]))

    assert sorted(table["lai"]) == pytest.approx([2.0, 4.0])


def test_results_of_a_job_are_read_from_its_geotiffs(tmp_path: Path) -> None:
    cube = make_cube(np.full((6, 8), 2.0))
    for day in (8, 13):
        path = tmp_path / f"openEO_2020-06-{day:02d}Z.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=8, height=6, count=5, dtype="float32",
            nodata=np.nan, crs=GRID.crs, transform=GRID.transform,
        ) as dataset:  # fmt: skip
            dataset.write(cube.values)
            dataset.descriptions = BANDS
    assets = {"openEO_2020-06-08Z.tif": {"datetime": "2020-06-08T10:56:21Z"}}
    (tmp_path / "job-results.json").write_text(json.dumps({"assets": assets}))

    table = observe_items(make_parcels(a=(0, 0, 4, 6)), find_items([tmp_path]))

    times = [datetime(2020, 6, 8, 10, 56, 21, tzinfo=UTC), datetime(2020, 6, 13, tzinfo=UTC)]
    assert table["datetime"].tolist() == times
    assert table["lai"].tolist() == pytest.approx([2.0, 2.0])


def test_an_item_and_its_published_copy_are_one_result(tmp_path: Path) -> None:
    cube = make_cube(np.full((6, 8), 2.0))
    for folder in (tmp_path / "lai_1", tmp_path / "service" / "lai" / "lai_1" / "1f"):
        write_lai_cogs(cube, folder)
        properties = {"datetime": "2020-06-08T10:56:21Z"}
        item = {"id": "lai_1", "properties": properties, "assets": {"lai": {}}}
        (folder / "lai_1.json").write_text(json.dumps(item))

    assert [found.path for found in find_items([tmp_path])] == [tmp_path / "lai_1"]


def test_means_of_nothing_give_the_reason(tmp_path: Path) -> None:
    flagged = make_cube(np.full((6, 8), 2.0), np.full((6, 8), NO_DATA_NEAR))
    write_lai_cogs(flagged, tmp_path / "item", tags={"DATETIME": "2020-06-08T10:00:00Z"})
    make_parcels(a=(0, 0, 4, 6)).to_file(tmp_path / "p.gpkg")
    arguments = ["parcels", str(tmp_path), "--parcels", str(tmp_path / "p.gpkg")]
    arguments += ["--out", str(tmp_path / "out")]

    result = CliRunner().invoke(app, arguments)
    counted = CliRunner().invoke(app, [*arguments, "--exclude-flags", "32"])

    assert result.exit_code == 0, result.output
    assert "No parcel has a mean" in result.output
    assert "No parcel has a mean" not in counted.output


@pytest.mark.shared
def test_a_real_season_walks_from_cube_to_curve(shared_data: Path, tmp_path: Path) -> None:
    cube = read_cube(next((shared_data / "timeseries").glob("0000*.nc")))
    seen = cube.sel(bands="SCL").isin([4, 5]).mean(("y", "x"))
    clear = cube.isel(t=np.flatnonzero(seen > 0.99)[:3])
    west, _, _, north = clear.rio.bounds()
    field = box(west + 24 * 20, north - 10 * 20, west + 31 * 20, north - 3 * 20)
    register_ = gpd.GeoDataFrame(
        {"ID_PARCEL": ["7"], "SURF_PARC": [1.96], "CODE_CULTU": ["BTH"], "CODE_GROUP": ["1"]},
        geometry=[field],
        crs=clear.rio.crs,
    ).to_crs("EPSG:2154")  # Lambert 93, far west of its home
    register_.to_file(tmp_path / "rpg.gpkg", layer="PARCELLES_GRAPHIQUES")
    run_cube(clear, tmp_path / "items")
    write_sl2p_series(clear, tmp_path / "items")

    table = observe_items(
        read_parcels(tmp_path / "rpg.gpkg"), find_items([tmp_path / "items"]), exclude_flags=0
    )

    assert len(table) == 3
    assert (table["valid_fraction"] > 0.9).all()
    assert table["lai"].between(0, 8).all()
    np.testing.assert_allclose(table["lai"], table["sl2p"], atol=0.3)
