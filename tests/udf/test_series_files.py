"""`lai-udf series`: results or a cube in, one netCDF through clouds and gaps out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from fake_cubes import fake_cube
from fake_lai import fake_layers, write_product
from fake_series import fake_series, write_dates
from typer.testing import CliRunner

from lai_udf import smooth
from lai_udf.calibration import match_points
from lai_udf.cli import app
from lai_udf.errors import OwnPointsError
from lai_udf.results import find_results

GRID = ("--step-days", "10", "--start", "2024-03-01", "--end", "2024-09-01")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["series", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    rng = np.random.default_rng(5)
    return fake_series(rng, haze=(30,), size=(5, 7)).rio.write_crs("EPSG:32631")


@pytest.fixture(scope="module")
def results(cube: xr.DataArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of COGs of some dates, as `lai-udf run` writes them."""
    home = tmp_path_factory.mktemp("results")
    write_dates(cube.isel(t=slice(8, 52, 4)), home)
    return home


def open_series(folder: Path) -> xr.Dataset:
    return xr.open_dataset(folder / "series.nc", engine="h5netcdf", decode_coords="all").load()


def test_a_cube_of_lai_gives_what_python_gives(cube: xr.DataArray, tmp_path: Path) -> None:
    cube.to_dataset("bands").to_netcdf(tmp_path / "lai.nc", engine="h5netcdf")
    code, stdout, stderr = run(tmp_path / "lai.nc", tmp_path / "out", *GRID)

    assert code == 0, stderr
    assert stdout == f"{tmp_path / 'out' / 'series.nc'}\n"
    found = open_series(tmp_path / "out")
    expected = smooth(cube, step_days=10, start="2024-03-01", end="2024-09-01")
    assert found.rio.crs.to_epsg() == 32631
    np.testing.assert_array_equal(found["t"], expected["t"])
    np.testing.assert_allclose(found["x"], cube["x"])
    for name in expected.data_vars:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


def test_a_cube_of_reflectance_is_estimated_first(tmp_path: Path) -> None:
    cube = fake_cube(np.random.default_rng(3), 24, dates=4)
    times = np.datetime64("2024-06-01", "ns") + np.arange(4) * np.timedelta64(5, "D")
    cube = cube.assign_coords(t=times).rio.write_crs("EPSG:32633")
    cube.to_dataset("bands").to_netcdf(tmp_path / "bands.nc", engine="h5netcdf")
    code, _, stderr = run(tmp_path / "bands.nc", tmp_path / "out", "--dates", "observed")

    assert code == 0, stderr
    found = open_series(tmp_path / "out")
    assert {"REJECTED", "FALL"} <= set(found.data_vars)
    assert found["LAI"].notnull().mean() > 0.9


def test_an_offset_may_change_within_a_cube(tmp_path: Path) -> None:
    reflectance = fake_cube(np.random.default_rng(3), 24, dates=4)
    times = np.datetime64("2022-01-15", "ns") + np.arange(4) * np.timedelta64(5, "D")
    cube = reflectance.assign_coords(t=times).rio.write_crs("EPSG:32633")
    later = xr.where(cube["t"] >= np.datetime64("2022-01-25"), 1000, 0)
    for name, stored in (("before.nc", cube * 1e4), ("across.nc", cube * 1e4 + later)):
        stored.transpose(*cube.dims).rio.write_crs("EPSG:32633").to_dataset("bands").to_netcdf(
            tmp_path / name, engine="h5netcdf"
        )
    given = {"before.nc": ["0"], "across.nc": ["2015-06-23=0", "2022-01-25=-0.1"]}
    for name, offsets in given.items():
        options = [word for offset in offsets for word in ("--offset", offset)]
        code, _, stderr = run(
            tmp_path / name,
            tmp_path / f"{name}.out",
            "--dates",
            "observed",
            "--scale",
            1e-4,
            *options,
        )
        assert code == 0, stderr
    before, across = (open_series(tmp_path / f"{name}.out") for name in given)
    np.testing.assert_allclose(before["LAI"], across["LAI"], atol=1e-3)


def test_a_cube_of_lai_is_smoothed_at_its_level(cube: xr.DataArray, tmp_path: Path) -> None:
    stated = cube.to_dataset("bands").assign_attrs(level=0.8, target="field", plausibility="off")
    stated.to_netcdf(tmp_path / "lai.nc", engine="h5netcdf")
    run(tmp_path / "lai.nc", tmp_path / "out", *GRID)
    found = open_series(tmp_path / "out")
    assert (found.attrs["level"], found.attrs["target"]) == ("0.8", "field")
    assert found.attrs["plausibility"] == "off"


def test_results_on_disk_are_smoothed_and_written_as_cogs(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = run(results, out, "--start", "2024-03-31", "--step-days", "30", "--cogs")

    assert code == 0, stderr
    found = open_series(out)
    assert found.attrs["target"] == "sl2p"
    assert len(stdout.splitlines()) == 1 + 5 * found.sizes["t"]
    assert found.attrs["sources"].split()[0] == "lai_s2_field_2024-02-12"
    assert found.attrs["series"] == "11 dates from 2024-02-12 to 2024-08-30"
    with rasterio.open(out / "20240430T000000" / "lai.tif") as dataset:
        lai = dataset.read(1, masked=True) * dataset.scales[0]
    np.testing.assert_allclose(lai, found["LAI"].sel(t="2024-04-30"), atol=1e-3)
    with rasterio.open(out / "20240430T000000" / "lai_sd.tif") as dataset:
        assert dataset.descriptions == (found["LAI_SD"].long_name,)


@pytest.mark.parametrize("same", [True, False])
def test_a_product_that_was_run_with_two_offsets_is_refused(tmp_path: Path, same: bool) -> None:
    for name, scaling in (("a", "offset -0.1"), ("b", "offset -0.1" if same else "offset 0")):
        write_product(tmp_path / "in" / name, fake_layers(np.random.default_rng(0)))
        for path in (tmp_path / "in" / name).glob("*.tif"):
            with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
                dataset.update_tags(DATETIME="2024-06-21T10:36:29Z", SCALING=scaling)
    code, _, stderr = run(tmp_path / "in", tmp_path / "out", "--dates", "observed")
    assert code == (0 if same else 1), stderr


def test_strips_give_what_one_piece_gives(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(results, tmp_path / "whole", *GRID)[0] == 0
    monkeypatch.setattr("lai_udf.series_files.STRIP_PX", 500)
    assert run(results, tmp_path / "strips", *GRID)[0] == 0

    xr.testing.assert_equal(open_series(tmp_path / "whole"), open_series(tmp_path / "strips"))


def test_a_picture_is_drawn_on_request(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, stdout, _ = run(results, tmp_path / "out", *GRID, "--picture")

    assert code == 0
    assert stdout.splitlines()[1].endswith("series.png")
    assert (tmp_path / "out" / "series.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    "options",
    [
        ("--step-days", "0"),
        ("--dates", "2031-01-01"),
        ("--start", "2024-09-01", "--end", "2024-03-01"),
    ],
)
def test_wrong_dates_leave_nothing_behind(
    results: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    code, stdout, stderr = run(results, tmp_path / "out", *options)

    assert (code, stdout) == (1, "")
    assert stderr.startswith("lai-udf: ")
    assert not (tmp_path / "out").exists()


def test_dates_and_a_grid_at_once_are_wrong_use(results: Path, tmp_path: Path) -> None:
    assert run(results, tmp_path / "out", "--dates", "observed", "--step-days", "5")[0] == 2


def test_a_series_on_disk_is_not_smoothed_again(results: Path, tmp_path: Path) -> None:
    assert run(results, tmp_path / "once", "--step-days", 10, "--cogs")[0] == 0
    assert run(tmp_path / "once", tmp_path / "twice")[0] == 1
    assert not (tmp_path / "twice").exists()


def test_own_points_are_not_compared_with_a_series(results: Path, tmp_path: Path) -> None:
    run(results, tmp_path / "once", "--step-days", 10, "--cogs")
    found = [replace(result, tags={}) for result in find_results([tmp_path / "once"])]
    with pytest.raises(OwnPointsError):
        match_points([], found)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "out")[0] == 1
