"""Own points: read with faults reported, weighed by what a date shares, passed to the UDF."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
from fake_cubes import make_bundle, make_field_calibration
from shapely.geometry import box

from lai_udf.calibration import (
    Match,
    Refused,
    errors_of,
    fit_effect,
    interval_of_mean,
    leave_points_out,
    match_points,
    write_calibration,
)
from lai_udf.errors import OwnPointsError
from lai_udf.own_points import Point, read_points
from lai_udf.predict import BANDS, LaiInputError, apply_datacube, load_model

DAY = 17_700.5  # 2018-06-18
CALIBRATION = make_field_calibration() | {"shared": 0.5, "typical_scale": 1.0, "fade_below": 0.25}


def make_match(
    error: float, *, day: float = DAY, estimated: float = 2.0, sd: float = 0.05
) -> Match:
    point = Point(1, 4.0, 42.0, day, estimated + error, sd)
    return Match(point, day, estimated)


def predicted_error(errors: list[float], day: float = DAY) -> tuple[float, float]:
    return fit_effect(errors_of([make_match(e) for e in errors], CALIBRATION), 0.5).predict(day)


def test_one_point_shifts_by_its_share_and_more_points_by_more() -> None:
    one, three, many = (predicted_error([1.0] * count)[0] for count in (1, 3, 200))

    assert one == pytest.approx(0.5, abs=0.01)  # half of the variance is the date's
    assert one < three < many < 1


def test_own_points_narrow_the_interval_but_never_below_the_part_of_a_point() -> None:
    variances = [predicted_error([0.5] * count)[1] for count in (1, 3, 200)]

    assert 0.5 > variances[0] > variances[1] > variances[2] > 0


def test_other_dates_are_shifted_less_the_farther_they_are() -> None:
    near, far = predicted_error([1.0] * 5, DAY + 5), predicted_error([1.0] * 5, DAY + 365)

    assert predicted_error([1.0] * 5)[0] > near[0] > far[0]
    assert far == pytest.approx((0.0, 0.5), abs=1e-6)


def test_an_uncertain_point_weighs_less() -> None:
    sure, unsure = (
        fit_effect(errors_of([make_match(1.0, sd=sd)], CALIBRATION), 0.5).predict(DAY)[0]
        for sd in (0.05, 2.0)
    )

    assert 0 < unsure < 0.3 * sure


def test_one_wild_point_counts_as_three_scales_at_most() -> None:
    assert predicted_error([12.0]) == predicted_error([3.0])


def test_the_worth_of_own_points_is_measured_by_leaving_points_out(
    rng: np.random.Generator,
) -> None:
    matches = [make_match(1.0 + 0.2 * noise) for noise in rng.standard_normal(6)]

    report = leave_points_out(matches, CALIBRATION)

    assert report["rmse_after"] < 0.5 * report["rmse_before"]
    assert report["width_after"] < report["width_before"]
    assert leave_points_out(matches[:1], CALIBRATION)["rmse_after"] is None


def test_the_mean_of_a_parcel_keeps_the_shared_part_of_its_error() -> None:
    lai, lower, upper = (np.full(4, value) for value in (3.0, 1.0, 5.0))

    low, high = interval_of_mean(lai, lower, upper, np.array([1.0, 9.0, 90.0, 1e9]), 0.5)

    assert (high[0], low[0]) == (5.0, 1.0)
    assert (np.diff(high[1:]) < 0).all()
    assert high[-1] - 3 == pytest.approx(2 * np.sqrt(0.5), abs=1e-3)
    np.testing.assert_allclose(high - lai, lai - low)


def test_a_lower_end_cut_at_zero_does_not_narrow_the_mean() -> None:
    low, high = interval_of_mean(
        np.array([0.5]), np.array([0.0]), np.array([2.5]), np.array([1.0]), 0.5
    )

    assert (low[0], high[0]) == (0.0, 2.5)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(
        "lon,lat,date,lai,lai_sd\n4.1,42.1,2018-06-18,2.5,0.2\n4.2,42.2,2018-06-19,3,\n"
    )
    return path


def test_points_are_read_with_their_uncertainty(table: Path) -> None:
    first, second = read_points(table)

    assert (first.longitude, first.latitude, first.lai, first.sd) == (4.1, 42.1, 2.5, 0.2)
    assert (first.day, second.row, second.sd) == (DAY, 2, 0.3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lon,lat,date,lai\n4,42,2018-06-18,50\n", "row 1: LAI 50"),
        ("lon,lat,date,lai\n4,42,2018-06-18,dense\n", "row 1: lai 'dense' is no number"),
        ("lon,lat,date,lai\n4,42,in June,2\n4,142,2018-06-18,2\n", "row 2: latitude 142"),
        ("lon,lat,lai\n4,42,2\n", "lacks a column for date"),
        ("lon,lat,date,lai\n", "no points"),
        ("", "cannot read"),
        ("lon,lat,date,lai\n4,42,2018-06-18,2,5\n", "row 1: more cells"),
        ("lon,lat,date,lai\n4,42\n", "row 1: lai '' is no number"),
        ("lon,lat,date,lai,LAI\n4,42,2018-06-18,2,5\n", "several columns lai"),
        ("lon,lat,date,lai,lai\n4,42,2018-06-18,2,5\n", "several columns lai"),
        ("lon,lat,date,lai\n,,,\n", "no points"),
        ("l\0o\0n\0,\0", "no text"),
    ],
)
def test_what_is_no_point_is_refused_with_its_row(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)

    with pytest.raises(OwnPointsError, match=reason):
        read_points(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252"])
def test_a_table_of_a_spreadsheet_is_read_with_its_decimal_commas(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "points.csv"
    lines = ["lon;lat;date;lai;sd;place", "4,1;42,1;2018-06-18;2,5;NA;S\u00fcd", ";;;;;", "", ""]
    path.write_bytes("\r\n".join(lines).encode(encoding))

    (point,) = read_points(path)

    assert (point.longitude, point.latitude, point.lai, point.sd) == (4.1, 42.1, 2.5, 0.3)


def test_polygons_are_no_points(tmp_path: Path) -> None:
    path = tmp_path / "fields.parquet"
    area = gpd.GeoSeries([box(4, 42, 4.1, 42.1)], crs=4326)
    gpd.GeoDataFrame({"date": ["2018-06-18"], "lai": [2.0]}, geometry=area).to_parquet(path)

    with pytest.raises(OwnPointsError):
        read_points(path)


def test_a_row_that_repeats_another_is_not_used(tmp_path: Path) -> None:
    points = [Point(row, 4.0, 42.0, DAY, lai, 0.3) for row, lai in enumerate((2.0, 2.0, 2.5), 1)]

    refused = match_points(points, [])[1]

    assert [each.row for each in refused] == [1, 2, 3]
    assert refused[1].reason == "repeats row 1"
    assert refused[0].reason == refused[2].reason != refused[1].reason


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    calibration = {"variables": {"LAI": CALIBRATION}}
    return make_bundle(folder / "known.zip", reach_px=0, calibration=calibration)


def scene(b8a: float, day: str | None = "2018-06-18T12:00:00Z") -> xr.DataArray:
    """Return 4 x 4 px whose LAI is 10 x B8A."""
    spectrum = np.full((10, 4, 4), 0.05, "float32")
    spectrum[BANDS.index("B8A")] = b8a
    attributes = {} if day is None else {"datetime": day}
    return xr.DataArray(
        spectrum, dims=("bands", "y", "x"), coords={"bands": list(BANDS)}, attrs=attributes
    )


def test_the_udf_takes_a_file_of_own_points(bundle: Path, tmp_path: Path) -> None:
    path, model = tmp_path / "own.json", load_model(str(bundle))
    write_calibration(path, model, [make_match(1.0)] * 3, [Refused(4, "lies outside the images")])
    context = {"model": str(bundle), "target": "field"}

    plain = apply_datacube(scene(0.4), context)
    own = apply_datacube(scene(0.4), {**context, "calibration": str(path)})
    later = apply_datacube(scene(0.4, "2020-06-18"), {**context, "calibration": str(path)})

    lai, lower, upper = (own.sel(bands=band) for band in ("LAI", "LAI_LOWER", "LAI_UPPER"))
    assert (lai > plain.sel(bands="LAI") + 0.5).all()
    width = plain.sel(bands="LAI_UPPER") - plain.sel(bands="LAI_LOWER")
    assert (upper - lower < 0.9 * width).all()
    xr.testing.assert_allclose(later.drop_attrs(), plain.drop_attrs(), atol=1e-5)
    assert json.loads(path.read_text())["report"]["refused"][0]["row"] == 4


def test_own_points_and_bundles_that_are_written_anew_are_read_anew(tmp_path: Path) -> None:
    bundle, points = tmp_path / "known.zip", tmp_path / "own.json"
    context = {"model": str(bundle), "target": "field", "calibration": str(points)}

    def estimated(change: float, error: float) -> float:
        calibration = make_field_calibration(change)
        make_bundle(bundle, reach_px=0, calibration={"variables": {"LAI": calibration}})
        write_calibration(points, load_model(str(bundle)), [make_match(error)] * 3, [])
        return float(apply_datacube(scene(0.2), context).sel(bands="LAI").mean())

    shifted = [estimated(0.3, error) for error in (0.0, 0.5, -0.5)]
    moved = estimated(0.8, 0.0)

    assert shifted[2] < shifted[0] - 0.2 < shifted[0] + 0.2 < shifted[1]
    assert moved == pytest.approx(shifted[0] + 0.5, abs=0.02)


def test_bare_soil_is_not_shifted(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    write_calibration(path, load_model(str(bundle)), [make_match(1.0)] * 3, [])
    context = {"model": str(bundle), "target": "field", "calibration": str(path), "bands": ["LAI"]}

    assert (apply_datacube(scene(-0.03), context) <= 0.01).all()


def test_own_points_of_another_bundle_are_refused(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "b.zip", calibration={"variables": {"LAI": CALIBRATION}})
    path = tmp_path / "own.json"
    write_calibration(path, load_model(str(other)), [make_match(1.0)], [])

    with pytest.raises(LaiInputError) as caught:
        apply_datacube(scene(0.4), {"model": str(bundle), "calibration": str(path)})
    assert caught.value.parameter == "calibration"


@pytest.mark.parametrize("content", [None, "no JSON", "{}"])
def test_what_is_no_file_of_own_points_is_refused(
    bundle: Path, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "own.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(LaiInputError) as caught:
        apply_datacube(scene(0.4), {"model": str(bundle), "calibration": str(path)})
    assert caught.value.parameter == "calibration"


def test_a_cube_without_a_date_cannot_use_own_points(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    write_calibration(path, load_model(str(bundle)), [make_match(1.0)], [])

    with pytest.raises(LaiInputError):
        apply_datacube(scene(0.4, None), {"model": str(bundle), "calibration": str(path)})


def test_without_a_usable_point_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OwnPointsError):
        write_calibration(
            tmp_path / "own.json", load_model(str(bundle)), [], [Refused(1, "lies outside")]
        )
    assert not (tmp_path / "own.json").exists()


def test_no_results_leave_every_point_unused() -> None:
    assert match_points([Point(1, 4.0, 42.0, DAY, 2.0, 0.3)], [])[1][0].row == 1


def test_points_are_compared_with_a_result_and_own_points_reach_its_scene(
    bundle: Path, tmp_path: Path
) -> None:
    from rasterio.crs import CRS
    from rasterio.transform import Affine
    from rasterio.warp import transform
    from typer.testing import CliRunner

    from lai_udf.cli import app
    from lai_udf.grid import Grid
    from lai_udf.scenes.geotiff import write_scene_geotiff

    grid = Grid(CRS.from_epsg(32631), Affine(20, 0, 500_000, 0, -20, 4_700_000), 32, 32)
    values = np.full((10, 32, 32), 0.05, "float32")
    values[BANDS.index("B8A")] = 0.3
    attributes = {"datetime": "2018-06-18T10:50:31Z", "platform": "Sentinel-2A"}
    land = tmp_path / "land.tif"
    write_scene_geotiff(grid.to_data_array(values, list(BANDS), attributes), land)
    x, y = ([500_000 + 20 * k for k in (5, 15, 25)], [4_700_000 - 20 * k for k in (5, 15, 25)])
    longitude, latitude = transform(grid.crs, "EPSG:4326", x, y)[:2]
    rows = [f"{lon},{lat},2018-06-19,4.4" for lon, lat in zip(longitude, latitude, strict=True)]
    rows += [f"{longitude[0]},{latitude[0]},2017-06-19,4.4", "50,10,2018-06-19,4.4"]
    points = tmp_path / "points.csv"
    points.write_text("\n".join(["lon,lat,date,lai", *rows]))
    run = [
        "run",
        str(land),
        "--model",
        str(bundle),
        "--target",
        "field",
        "--bands",
        "LAI,LAI_FLAGS",
    ]

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == 0, done.output
        return done.stderr

    call(*run, str(tmp_path / "plain"))
    own = str(tmp_path / "own.json")
    printed = call("calibrate", str(points), own, "--over", str(tmp_path / "plain"),
                "--model", str(bundle))  # fmt: skip
    call(*run, str(tmp_path / "own"), "--calibration", own)

    from lai_udf.results import find_results

    before, after = (
        find_results([tmp_path / name])[0].read(["LAI"])["LAI"].mean() for name in ("plain", "own")
    )
    assert before == pytest.approx(3.3, abs=0.01)
    assert before + 0.5 < after < 4.4
    assert "row 4 not used" in printed
    assert "row 5 not used" in printed

    again = ["--over", str(tmp_path / "own"), "--over", str(tmp_path / "plain")]
    call("calibrate", str(points), own + "2", *again, "--model", str(bundle))
    assert Path(own + "2").read_text("utf-8") == Path(own).read_text("utf-8")
    with pytest.raises(OwnPointsError):
        match_points(read_points(points), find_results([tmp_path / "own"]))
