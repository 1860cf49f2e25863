"""Parcel means, their interval, and the season on which both are judged."""

import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from affine import Affine
from pyproj import Transformer
from rasterio.crs import CRS
from shapely.geometry import LineString, box
from typer.testing import CliRunner

from experiments.seasons.benchmark import cover_truth, run_benchmark
from experiments.seasons.fields import season_dates
from experiments.seasons.files import measure_correlation, read_season, write_season
from experiments.seasons.fit import fit_calibration
from experiments.spectra.library import spectral_library
from lai_training import sl2p
from lai_training.cli import app
from lai_training.errors import LaiTrainingError, ParcelsError
from lai_training.parcels.means import (
    add_interval,
    find_items,
    missing_parcels,
    observe_items,
    outline_items,
    read_parcels,
    shrink,
)
from lai_training.parcels.report import write_report
from lai_training.reporting import read_paper
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_training.sl2p.scene import write_sl2p_series
from lai_udf.bundle import open_bundle
from lai_udf.calibration import shared_error
from lai_udf.cog import write_lai_cogs
from lai_udf.grid import Grid
from lai_udf.polygons import LEFT_OUT
from lai_udf.predict import CLOUD_NEAR, NO_DATA_NEAR
from lai_udf.run import run_cube
from lai_udf.scenes.cubes import read_cube

GRID = Grid(CRS.from_epsg(32631), Affine(20, 0, 340_000, 0, -20, 4_830_000), 6, 8)
BANDS = ["LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS"]


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(1_500, np.random.default_rng(7))


def make_parcels(**boxes: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    """Parcels given in pixels of GRID: left, top, right, bottom."""
    west, north = 340_000, 4_830_000
    outlines = [box(west + 20 * a, north - 20 * d, west + 20 * c, north - 20 * b)
                for a, b, c, d in boxes.values()]  # fmt: skip
    return gpd.GeoDataFrame(
        {"parcel": list(boxes), "crop": "BTH"}, geometry=outlines, crs="EPSG:32631"
    )


def make_cube(lai: np.ndarray, flags: np.ndarray | None = None) -> xr.DataArray:
    flags = np.zeros_like(lai) if flags is None else flags
    layers = np.stack([lai, lai * 0 + 0.1, lai - 1, lai + 2, flags]).astype("float32")
    return GRID.to_data_array(layers, BANDS, {"DATETIME": "2020-06-08T10:56:21Z"})


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


def test_correlation_is_found_again(rng: np.random.Generator) -> None:
    shared, own = rng.normal(0, 0.6, (4000, 1)), rng.normal(0, 0.8, (4000, 16))
    error = shared + own  # rho = 0.36 / (0.36 + 0.64)

    rho = measure_correlation(float(error.std()), float(error.mean(axis=1).std()), 16)

    assert rho == pytest.approx(0.36, abs=0.03)


def test_the_calibrated_interval_covers_parcels_it_has_not_seen(rng: np.random.Generator) -> None:
    lai = rng.uniform(0.2, 6, 4000)
    truth = np.maximum(lai + 0.4 + rng.normal(0, 0.2 + 0.1 * lai), 0)
    table = pd.DataFrame({"parcel": np.arange(4000), "lai": lai, "truth": truth})

    calibration = fit_calibration(table[:2000], "test")
    lower, upper = calibration.interval(lai[2000:])

    inside = (lower <= truth[2000:]) & (truth[2000:] <= upper)
    assert 0.93 < inside.mean() < 0.97


def test_a_calibration_needs_parcels_enough() -> None:
    few = pd.DataFrame({"parcel": range(10), "lai": 1.0, "truth": 1.0})
    with pytest.raises(LaiTrainingError):
        fit_calibration(few, "test")


def test_coverage_has_limits_that_know_of_dates_sharing_their_errors() -> None:
    rows = pd.DataFrame({"lai": 2.0, "truth": 2.0, "parcel_lower": 1.0, "parcel_upper": 3.0},
                        index=range(200))  # fmt: skip
    rows.loc[:19, "truth"] = 5.0  # a tenth is outside: one parcel of ten, or one date of ten
    by_parcel = rows.assign(parcel=np.arange(200) // 20)
    by_date = rows.assign(parcel=np.arange(200) % 20)

    clustered, spread = (cover_truth(table) for table in (by_parcel, by_date))

    assert clustered["coverage"] == spread["coverage"] == pytest.approx(0.9)
    assert clustered["coverage_low"] < 0.8
    assert spread["coverage_low"] == pytest.approx(0.9)


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


@pytest.mark.parametrize("name", ["p.gpkg", "p.parquet", "p.geojson"])
def test_the_register_is_read_from_each_format(tmp_path: Path, name: str) -> None:
    parcels = make_parcels(a=(0, 0, 2, 2), b=(2, 2, 5, 5))
    register_ = parcels.rename(columns={"parcel": "ID_PARCEL", "crop": "CODE_CULTU"})
    path = tmp_path / name
    if path.suffix == ".parquet":
        register_.to_parquet(path)
    else:
        register_.to_crs("EPSG:4326" if path.suffix == ".geojson" else "EPSG:2154").to_file(path)

    table = read_parcels(path)

    assert table["parcel"].tolist() == ["a", "b"]
    assert table["crop"].tolist() == ["BTH", "BTH"]


@pytest.mark.parametrize("name", ["p.gpkg", "p.parquet"])
def test_only_the_parcels_near_the_items_are_read(tmp_path: Path, name: str) -> None:
    write_day(tmp_path / "item", make_cube(np.ones((6, 8))), "2020-06-08T10:00:00Z")
    here_and_far = make_parcels(a=(0, 0, 2, 2), far=(9000, 0, 9002, 2)).to_crs("EPSG:2154")
    path = tmp_path / name
    (here_and_far.to_parquet if path.suffix == ".parquet" else here_and_far.to_file)(path)

    within = outline_items(find_items([tmp_path]))
    table = read_parcels(path, within=within)

    assert table["parcel"].tolist() == ["a"]
    elsewhere = within.translate(xoff=30)
    with pytest.raises(ParcelsError):
        read_parcels(path, within=elsewhere)


def test_a_buffer_takes_the_border_away(tmp_path: Path) -> None:
    make_parcels(a=(0, 0, 1, 1), b=(1, 1, 6, 6)).to_file(tmp_path / "p.gpkg")

    table = read_parcels(tmp_path / "p.gpkg", inner_buffer_m=10)

    assert table["parcel"].tolist() == ["b"]
    assert table.area[0] == pytest.approx((100 - 20) ** 2, rel=1e-3)


def test_wrong_parcel_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.gpkg").write_text("no parcels")
    make_parcels(a=(0, 0, 2, 2)).to_file(tmp_path / "plain.gpkg")
    pd.concat([make_parcels(a=(0, 0, 2, 2))] * 2).to_file(tmp_path / "twice.gpkg")

    for name, column in (("no", None), ("plain", "ID_PARCEL"), ("twice", "parcel")):
        with pytest.raises(ParcelsError):
            read_parcels(tmp_path / f"{name}.gpkg", id_column=column)


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
    with pytest.raises(ParcelsError):
        find_items([tmp_path])


def test_parcels_beyond_the_items_are_refused(tmp_path: Path) -> None:
    cube = make_cube(np.ones((6, 8)))
    write_lai_cogs(cube, tmp_path / "item", tags={"DATETIME": "2020-06-08T10:00:00Z"})
    with pytest.raises(ParcelsError):
        observe_items(make_parcels(far=(90, 90, 95, 95)), find_items([tmp_path]))


def write_day(folder: Path, cube: xr.DataArray, time: str, **tags: str) -> Path:
    write_lai_cogs(cube, folder, tags={"DATETIME": time, **tags})
    return folder


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


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({}, ["1", "2"]),
        ({"ID": ["x", "y"]}, ["x", "y"]),
        ({"ID_PARCEL": ["7", "8"], "CODE_CULTU": ["BTH", "MIS"]}, ["7", "8"]),
        ({"Field": ["north", "south"], "area": [1, 2]}, ["north", "south"]),
    ],
)
def test_plain_polygons_need_no_column_names(
    tmp_path: Path, columns: dict[str, list[object]], ids: list[str]
) -> None:
    outlines = make_parcels(a=(0, 0, 2, 2), b=(2, 2, 5, 5)).geometry
    gpd.GeoDataFrame(columns, geometry=outlines).to_parquet(tmp_path / "p.parquet")

    table = read_parcels(tmp_path / "p.parquet")

    assert table["parcel"].tolist() == ids
    assert table["crop"].tolist() == columns.get("CODE_CULTU", ["", ""])


def test_parcels_without_area_are_left_out_by_name(tmp_path: Path) -> None:
    parcels = make_parcels(good=(0, 0, 2, 2), bad=(0, 0, 2, 2), gone=(0, 0, 2, 2))
    parcels.geometry = [parcels.geometry[0], LineString([(0, 0), (1, 1)]), None]
    parcels.to_parquet(tmp_path / "p.parquet")

    table = read_parcels(tmp_path / "p.parquet")

    assert table["parcel"].tolist() == ["good"]
    assert [name for name, _ in table.attrs[LEFT_OUT]] == ["bad", "gone"]
    parcels[1:].to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(ParcelsError):
        read_parcels(tmp_path / "bad.parquet")


def test_parcels_on_both_sides_of_the_antimeridian_are_found(tmp_path: Path) -> None:
    grid = Grid(CRS.from_epsg(32601), Affine(20, 0, 170_000, 0, -20, 1_110_000), 200, 200)
    layers = np.stack([np.full((200, 200), v) for v in (2, 0.1, 1, 3, 0)]).astype("float32")
    write_day(tmp_path / "item", grid.to_data_array(layers, BANDS), "2020-06-08T22:00:00Z")
    middle = Transformer.from_crs(32601, 4326, always_xy=True).transform(172_000, 1_108_000)
    assert middle[0] == pytest.approx(180, abs=0.02) or middle[0] == pytest.approx(-180, abs=0.02)
    outlines = [box(179.995, 10.012, 180.005, 10.018), box(-179.999, 10.012, -179.997, 10.018),
                box(179.997, 10.012, 179.999, 10.018)]  # fmt: skip
    parcels = gpd.GeoDataFrame({"id": ["over", "east", "west"]}, geometry=outlines, crs=4326)
    parcels.to_file(tmp_path / "p.gpkg")

    items = find_items([tmp_path])
    table = read_parcels(tmp_path / "p.gpkg", within=outline_items(items))
    observed = observe_items(table, items)

    assert sorted(observed["parcel"]) == ["east", "over", "west"]
    assert observed["valid_fraction"].tolist() == pytest.approx([1, 1, 1])


def test_the_seventeen_crops_of_the_paper_are_known_in_their_four_seasons() -> None:
    paper = read_paper("parcels").query("crop != 'all'")
    assert len(paper) == 17
    seasons = read_paper("crops").set_index("crop")["season"]
    assert (paper["crop"].map(seasons) == paper["season"]).all()
    assert set(paper["season"]) == set(seasons)
    assert seasons["MIS"] == "summer"


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory, library: SpectralLibrary) -> Path:
    folder = tmp_path_factory.mktemp("season")
    write_season(folder, library, size_px=96, dates=season_dates(3), seed=4, cloudy_share=0.0)
    return folder


def test_a_simulated_season_is_read_as_a_user_would(season: Path) -> None:
    table = read_season(season)

    assert {"parcel", "crop", "season", "lai", "sl2p", "truth"} <= set(table.columns)
    assert table["truth"].notna().all()
    assert table["truth"].between(0, 9).all()
    known = table.dropna(subset=["lai"])
    assert len(known) > 10
    assert known["lai"].corr(known["truth"]) > 0.6
    assert known["lai"].corr(known["sl2p"]) > 0.98


def test_the_command_writes_tables_and_figures(season: Path, tmp_path: Path) -> None:
    arguments = ["parcels", str(season), "--parcels", str(season / "parcels.gpkg")]

    options = ["--smooth", "10", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, *options])

    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"curves.csv", "seasons.csv"} <= names
    assert {"parcels.csv", "table7_parcels.csv", "table9_agreement.csv"} <= names
    written = gpd.read_parquet(tmp_path / "out" / "parcels.parquet")
    assert written.crs == "EPSG:4326"
    assert {"parcel", "datetime", "lai", "parcel_lower", "valid_fraction"} <= set(written.columns)
    assert any(name.startswith("figure") for name in names)
    agreement = pd.read_csv(tmp_path / "out" / "table9_agreement.csv")
    assert len(agreement) > 0


def test_the_command_fails_in_one_sentence(season: Path, tmp_path: Path) -> None:
    arguments = ["parcels", str(tmp_path), "--parcels", str(season / "parcels.gpkg")]

    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


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


def test_the_benchmark_judges_other_fields_than_it_calibrates_on(
    tmp_path: Path, library: SpectralLibrary
) -> None:
    result = run_benchmark(tmp_path, library, size_px=112, dates=3, seed=1)

    calibrated, judged = (read_season(tmp_path / name) for name in ("calibration0", "judged"))
    assert not calibrated["truth"].equals(judged["truth"])
    assert 0 < result.correlation <= 1
    total = cover_truth(result.observations)
    assert 0.75 < total["coverage"] <= 1
    files = write_report(result.observations, tmp_path / "report")
    assert all(file.stat().st_size > 0 for file in files)
