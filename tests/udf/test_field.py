"""`lai-udf field`: polygons and a season in, table and figures out; again, only what is new."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from fake_cubes import fake_cube, with_bands
from fake_forms import make_item
from fake_products import CORNER
from typer.testing import CliRunner
from udf.stub_backend import serve

from lai_udf.cli import app
from lai_udf.field.season import find_windows, kind_of, merge
from lai_udf.field.table import smooth_table
from lai_udf.grid import Grid
from lai_udf.predict import HALO_PX
from lai_udf.results import read_lai_cogs
from lai_udf.zonal import describe_pixels, take_pixels
from lai_udf.zones import weigh_zones

pytestmark = pytest.mark.filterwarnings(
    "ignore:numpy.ndarray size changed:RuntimeWarning",
    "ignore:Use `@` matmul:PendingDeprecationWarning",
)
WEST, NORTH = 600_000.0 - 10, 5_000_000.0 + 10


@pytest.fixture
def season(tmp_path: Path) -> Path:
    """Return a series of four dates, 96 px, the second under cloud."""
    cube = with_bands(fake_cube(np.random.default_rng(6), 96, dates=4), SCL=4.0)
    cube.loc[{"t": cube["t"][1], "bands": "SCL"}] = 9
    path = tmp_path / "series.nc"
    cube.rio.write_crs(32632).rename("reflectance").to_netcdf(path)
    return path


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Return two fields in degrees, far from each other."""
    shapes = [
        shapely.box(WEST + 105, NORTH - 290, WEST + 297, NORTH - 97),
        shapely.box(WEST + 1500, NORTH - 1800, WEST + 1650, NORTH - 1612).buffer(20),
    ]
    table = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=shapes, crs=32632)
    path = tmp_path / "fields.geojson"
    table.to_crs(4326).to_file(path)
    return path


def run(fields: Path, source: object, out: Path, known: str, *more: str) -> tuple[int, str, str]:
    period = ["--from", "2024-06-01", "--to", "2024-07-01"]
    model = ["--model", known] if known else []
    options = ["--source", str(source), *model, *period, *more]
    result = CliRunner().invoke(app, ["field", str(fields), str(out), *options])
    return result.exit_code, result.stdout, result.stderr


def test_the_table_is_that_of_zonal_on_the_cogs(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    code, stdout, stderr = run(fields, season, tmp_path / "out", known)
    assert code == 0, stderr
    names = ["fields.csv", "fields.parquet", "field_a.png", "field_b.png"]
    assert [Path(line).name for line in stdout.splitlines()] == names

    table = pd.read_csv(tmp_path / "out" / "fields.csv")
    shapes = gpd.read_file(fields)
    assert len(table) == 2 * 3  # nothing is seen on the cloudy date
    for _, row in table.iterrows():
        shape = shapes.geometry[list(shapes["name"]).index(row["field"])]
        for name in row["result"].split():  # a window for each field
            cube = read_lai_cogs(tmp_path / "out" / "lai" / name)
            zones = weigh_zones([shape], shapes.crs, Grid.of_data_array(cube, "lai"))
            if len(zones.met):
                break
        layers = {"lai": cube.sel(bands="LAI").values.astype(float)}
        found = describe_pixels(take_pixels(zones, layers, cube.sel(bands="LAI_FLAGS").values))
        assert row["mean"] == pytest.approx(found.mean["lai"][0], abs=1e-6)
        assert row["valid_share"] == pytest.approx(found.valid_share[0], abs=1e-6)
    located = gpd.read_parquet(tmp_path / "out" / "fields.parquet")
    assert located.crs == shapes.crs
    np.testing.assert_allclose(located["mean"], table["mean"])


def test_windows_give_the_lai_of_the_whole_scene(
    season: Path, fields: Path, tmp_path: Path, shipped: str
) -> None:
    run(fields, season, tmp_path / "out", shipped)
    CliRunner().invoke(app, ["run", str(season), str(tmp_path / "whole"), "--model", shipped])
    whole = {
        cube.attrs["DATETIME"]: cube
        for path in (tmp_path / "whole").glob("*/lai.tif")
        for cube in [read_lai_cogs(path.parent)]
    }
    parts = sorted((tmp_path / "out" / "lai").glob("*/lai.tif"))
    assert len(parts) == 6
    for path in parts:
        part = read_lai_cogs(path.parent)
        inside = {axis: slice(HALO_PX, -HALO_PX) for axis in ("y", "x")}
        core = part.isel(inside)
        same = whole[part.attrs["DATETIME"]].sel(y=core.y, x=core.x)
        np.testing.assert_allclose(core.sel(bands="LAI"), same.sel(bands="LAI"), atol=1.1e-3)


def test_again_there_is_nothing_to_do_and_new_dates_are_added(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    run(fields, season, tmp_path / "out", known)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/lai/*/lai.tif")}
    code, stdout, stderr = run(fields, season, tmp_path / "out", known)
    assert (code, len(stdout.splitlines())) == (0, 4)
    assert "nothing is new" in stderr

    with xr.open_dataset(season) as series:
        grown = series.load()
    new = grown.isel(t=[0]).assign_coords(t=grown.t[[0]] + np.timedelta64(20, "D"))
    season.unlink()
    xr.concat([grown, new], dim="t", data_vars="minimal").to_netcdf(season)
    code, _, stderr = run(fields, season, tmp_path / "out", known)

    assert code == 0
    assert "2 new results, 6 kept" in stderr
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    table = pd.read_csv(tmp_path / "out" / "fields.csv")
    assert list(table[table["field"] == "a"]["date"])[-1] == "2024-06-21"


def test_results_of_other_settings_in_the_folder_are_left_out(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    gpd.read_file(fields).iloc[:1].to_file(fields)  # one field is enough
    for other in ("--target=field",), ("--level=0.8",), ("--scale=1.1", "--offset=0"):
        run(fields, season, tmp_path / "out", known, *other)
    code, _, stderr = run(fields, season, tmp_path / "out", known)
    assert code == 0, stderr
    run(fields, season, tmp_path / "alone", known)
    found, expected = (pd.read_csv(tmp_path / name / "fields.csv") for name in ("out", "alone"))
    pd.testing.assert_frame_equal(found, expected)


def test_own_points_and_the_level_go_into_the_means_of_fields(
    season: Path, fields: Path, tmp_path: Path
) -> None:
    code, _, stderr = run(fields, season, tmp_path / "out", "", "--target", "field")
    assert code == 0, stderr
    before = pd.read_csv(tmp_path / "out" / "fields.csv").dropna(subset="mean")
    inside = gpd.read_file(fields).geometry[0].representative_point()
    points, calibration = tmp_path / "points.csv", tmp_path / "points.json"
    high = before["mean"].iloc[0] + 2
    day = before["date"].iloc[0]
    points.write_text(f"lon,lat,date,lai\n{inside.x},{inside.y},{day},{high}\n")
    over = ["--over", str(tmp_path / "out" / "lai")]
    done = CliRunner().invoke(app, ["calibrate", str(points), str(calibration), *over])
    assert done.exit_code == 0, done.stderr
    more = ("--target", "field", "--calibration", str(calibration), "--level", "0.8")
    more += ("--variables", "LAI,FAPAR")
    code, _, stderr = run(fields, season, tmp_path / "out", "", *more)
    assert code == 0, stderr
    after = pd.read_csv(tmp_path / "out" / "fields.csv").dropna(subset="mean")
    assert after["mean"].iloc[0] > before["mean"].iloc[0] + 0.2
    assert after["fapar"].between(0, 1).all()
    assert ((after["upper"] - after["lower"]) < (before["upper"] - before["lower"])).all()


def test_fields_whose_names_differ_in_a_slash_have_a_figure_each(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    table = gpd.read_file(fields)
    table["name"] = ["a/1", "a-1"]
    table.to_file(fields)
    code, stdout, stderr = run(fields, season, tmp_path / "out", known)
    assert code == 0, stderr
    figures = [Path(line) for line in stdout.splitlines() if line.endswith(".png")]
    assert len(set(figures)) == 2
    assert all(path.is_file() for path in figures)


def test_no_results_of_20_m_are_taken_for_those_of_10_m(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    out = tmp_path / "out"
    assert run(fields, season, out, known)[0] == 0
    code, stdout, stderr = run(fields, season, out, known, "--resolution", "10")
    assert (code, stdout) == (1, "")
    assert "--resolution" in stderr


@pytest.mark.parametrize("wrong", [["--smooth", "0"], ["--variables", "FAPAR"]])
def test_what_gives_no_curve_is_refused_before_anything_is_computed(
    season: Path, fields: Path, tmp_path: Path, known: str, wrong: list[str]
) -> None:
    code, _, stderr = run(fields, season, tmp_path / "out", known, *wrong)
    assert code in (1, 2)
    assert wrong[0] in stderr
    assert not (tmp_path / "out").exists()


def test_a_mean_that_does_not_fit_its_season_is_marked() -> None:
    days = pd.date_range("2024-04-01", periods=12, freq="8D", tz="UTC")
    means = np.linspace(1.0, 4.0, 12)
    means[6] = 0.2
    table = pd.DataFrame(
        {"field": "a", "datetime": days, "mean": means, "lower": means - 1, "upper": means + 1}
    )
    marked, smoothed = smooth_table(table, table)
    assert list(np.flatnonzero(marked["rejected"])) == [6]
    assert smoothed["lai"].between(0.9, 4.1).all()


def test_a_smoothed_series_lies_beside(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    code, _, stderr = run(fields, season, tmp_path / "out", known, "--smooth", "5")
    assert code == 0, stderr
    smoothed = pd.read_csv(tmp_path / "out" / "fields_smooth.csv")
    assert set(smoothed["field"]) == {"a", "b"}
    assert np.isfinite(smoothed["lai"]).all()

    code, _, stderr = run(fields, season, tmp_path / "out", known)
    assert code == 0, stderr
    assert not (tmp_path / "out" / "fields_smooth.csv").exists()


def test_a_field_outside_is_named_and_none_inside_is_an_error(
    season: Path, fields: Path, tmp_path: Path, known: str
) -> None:
    table = gpd.read_file(fields)
    away = table.copy()
    away.geometry = away.translate(xoff=2.0)
    away["name"] = ["c", "d"]
    away.to_file(tmp_path / "away.geojson")
    code, stdout, stderr = run(tmp_path / "away.geojson", season, tmp_path / "none", known)
    assert (code, stdout) == (1, "")
    assert len(stderr.strip().splitlines()) == 1
    assert "--fields" not in stderr  # there is no such option
    assert not (tmp_path / "none" / "fields.csv").exists()

    pd.concat([table, away]).to_file(tmp_path / "some.geojson")
    code, stdout, stderr = run(tmp_path / "some.geojson", season, tmp_path / "some", known)
    assert code == 3
    assert [line for line in stderr.splitlines() if "field c lies in no scene" in line]
    assert (tmp_path / "some" / "fields.csv").is_file()


@pytest.mark.parametrize("content", ["", "{}", '{"type": "FeatureCollection", "features": []}'])
def test_a_file_without_polygons_is_one_sentence(
    season: Path, tmp_path: Path, known: str, content: str
) -> None:
    (tmp_path / "empty.geojson").write_text(content)
    code, stdout, stderr = run(tmp_path / "empty.geojson", season, tmp_path / "out", known)
    assert (code, stdout) == (1, "")
    assert "empty.geojson" in stderr
    assert not (tmp_path / "out").exists()


@contextmanager
def stac_api(items: list[dict[str, Any]], *, fails_on: int = 0) -> Iterator[str]:
    """Serve a STAC API with one Item a page; the page of number `fails_on` is an error."""
    url = ""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = int(self.path.partition("page=")[2] or 1)
            search = {"rel": "search", "href": f"{url}/search", "type": "application/geo+json"}
            links = [search | {"method": method} for method in ("GET", "POST")]
            root = {
                "type": "Catalog",
                "stac_version": "1.0.0",
                "id": "api",
                "description": "",
                "conformsTo": [
                    "https://api.stacspec.org/v1.0.0/core",
                    "https://api.stacspec.org/v1.0.0/item-search",
                ],
                "links": [*links, {"rel": "self", "href": url}],
            }
            following = [{"rel": "next", "href": f"{url}/search?page={page + 1}"}]
            found = {
                "type": "FeatureCollection",
                "features": items[page - 1 : page],
                "links": following if page < len(items) else [],
            }
            failed = self.path.startswith("/search") and page == fails_on
            body = json.dumps(found if self.path.startswith("/search") else root).encode()
            self.send_response(500 if failed else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"broken" if failed else body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    found = []
    for day in ("05", "10"):
        path = make_item(tmp_path / "items", f"s{day}", time=f"2024-06-{day}T11:54:11Z")
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            asset["href"] = str(path.parent / asset["href"])
        found.append(item | {"collection": "sentinel-2-l2a"})
    return found


@pytest.fixture
def plot(tmp_path: Path) -> Path:
    west, north = CORNER
    shape = shapely.box(west + 300, north - 600, west + 500, north - 300)
    path = tmp_path / "plot.gpkg"
    gpd.GeoDataFrame({"id": ["p"]}, geometry=[shape], crs=32629).to_file(path)
    return path


def test_a_stac_api_is_searched(
    items: list[dict[str, Any]], plot: Path, tmp_path: Path, known: str
) -> None:
    with stac_api(items) as url:
        assert kind_of(url) == "stac"
        code, _, stderr = run(plot, url, tmp_path / "out", known)
    assert code == 0, stderr
    table = pd.read_csv(tmp_path / "out" / "fields.csv")
    assert list(table["date"]) == ["2024-06-05", "2024-06-10"]


def test_an_api_that_fails_midway_is_named_and_what_was_found_stays(
    items: list[dict[str, Any]], plot: Path, tmp_path: Path, known: str
) -> None:
    with stac_api(items, fails_on=2) as url:
        code, _, stderr = run(plot, url, tmp_path / "out", known)
    assert code == 3
    assert "in the middle of the search" in stderr
    assert list(pd.read_csv(tmp_path / "out" / "fields.csv")["date"]) == ["2024-06-05"]


def test_addresses_are_distinguished() -> None:
    with serve() as backend:
        assert kind_of(backend.url) == "openeo"
    assert kind_of("https://example.com/items/search.json") == "files"
    assert kind_of("/data/scenes") == "files"


def test_windows_are_few_and_hold_the_halo(fields: Path) -> None:
    from affine import Affine
    from rasterio.crs import CRS

    shapes = gpd.read_file(fields).to_crs(32632)
    grid = Grid(CRS.from_epsg(32632), Affine(20, 0, WEST, 0, -20, NORTH), 96, 96)
    windows = find_windows(shapes, grid)
    for shape in shapes.geometry:
        needed = weigh_zones([shape], shapes.crs, grid).window
        assert any(
            window.row_off <= max(0, needed.row_off - HALO_PX)
            and window.col_off <= max(0, needed.col_off - HALO_PX)
            and window.row_off + window.height >= min(96, needed.row_off + needed.height + HALO_PX)
            for window in windows
        )
    assert merge([(0, 0, 10, 10), (0, 8, 10, 18), (100, 100, 110, 110)]) == [
        (0, 0, 10, 18),
        (100, 100, 110, 110),
    ]
