"""Time series in one file: both layouts give the same cube, and LAI date by date."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, to_digital_numbers, with_bands
from typer.testing import CliRunner

from lai_udf import estimate
from lai_udf.cli import app
from lai_udf.errors import GridError, MetadataError, ProductError, UnreadableProductError
from lai_udf.identity import RunOptions
from lai_udf.predict import BANDS, LaiError, LaiInputError, apply_datacube
from lai_udf.results import read_lai_cogs
from lai_udf.run import run_cube, run_scenes
from lai_udf.scenes.cubes import as_cube, open_cube, read_cube
from lai_udf.scenes.metadata import Declared

netcdf4 = pytest.importorskip("netCDF4")
pytestmark = pytest.mark.filterwarnings(
    # netCDF4 wheels built against an older numpy warn on import
    "ignore:numpy.ndarray size changed:RuntimeWarning"
)


@pytest.fixture
def series() -> xr.DataArray:
    cube = with_bands(fake_cube(np.random.default_rng(6), 32, dates=3), SCL=4.0, **ANGLE_DEGREES)
    cube.loc[{"t": cube["t"][1], "bands": "SCL"}] = 9  # the second date is cloudy
    described: xr.DataArray = cube.rio.write_crs(32632)
    return described


def write_variables(series: xr.DataArray, path: Path) -> Path:
    """Write a variable per band, `time` for t, angles once per date, y from south to north."""
    planes = {}
    for label in series["bands"].values:
        plane = series.sel(bands=label, drop=True).rename(t="time").drop_vars("spatial_ref")
        planes[label] = plane.isel(x=0, y=0, drop=True) if label in ANGLE_DEGREES else plane
    dataset = xr.Dataset(planes, attrs={"crs": "+init=epsg:32632"}).sortby("y")
    dataset.to_netcdf(path, engine="netcdf4")
    return path


def write_packed(series: xr.DataArray, path: Path) -> Path:
    """Write a variable per band, reflectance as int16 with a scale, as xarray packs it."""
    packed = {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -9999}
    dataset = series.to_dataset("bands")
    dataset.to_netcdf(path, encoding=dict.fromkeys(BANDS, packed), engine="netcdf4")
    return path


def test_a_packed_cube_that_was_read_is_not_scaled_again(
    series: xr.DataArray, tmp_path: Path
) -> None:
    path = write_packed(series, tmp_path / "packed.nc")
    with xr.open_dataset(path) as opened:
        expected = estimate(opened)
    xr.testing.assert_allclose(estimate(read_cube(path))["LAI"], expected["LAI"])


def test_reflectance_beside_a_scale_that_is_applied_already_is_refused(
    series: xr.DataArray, tmp_path: Path
) -> None:
    with xr.open_dataset(
        write_packed(series, tmp_path / "packed.nc"), mask_and_scale=False
    ) as dataset:
        stored = dataset.load()
    with xr.set_options(keep_attrs=True):  # as xarray does by itself from 2025.11 on
        reflectance = stored.assign({band: stored[band] * 1e-4 for band in BANDS})
    with pytest.raises(LaiInputError) as caught:
        estimate(reflectance)
    assert caught.value.parameter == "scale"
    assert estimate(reflectance, scale=1.0, offset=0.0)["LAI"].notnull().any()

    reflectance.to_netcdf(tmp_path / "left.nc", engine="netcdf4")
    for command in ("run", "series"):
        given = [command, str(tmp_path / "left.nc"), str(tmp_path / command)]
        result = CliRunner().invoke(app, given + ["--dates=observed"] * (command == "series"))
        assert result.exit_code == 1
        assert not list((tmp_path / command).rglob("*.tif"))
    with pytest.raises(LaiError) as caught:
        run_cube(reflectance, tmp_path / "cube")
    assert caught.value.parameter == "reflectance_scale"


def test_variables_per_band_become_a_cube(series: xr.DataArray, tmp_path: Path) -> None:
    cube = read_cube(write_variables(series, tmp_path / "series.nc"))

    assert cube.dims == ("t", "bands", "y", "x")
    assert cube.rio.crs.to_epsg() == 32632
    xr.testing.assert_allclose(
        cube.drop_vars("spatial_ref"), series.drop_vars("spatial_ref"), atol=1e-6
    )


def test_one_variable_with_bands_becomes_the_same_cube(
    series: xr.DataArray, tmp_path: Path
) -> None:
    path = tmp_path / "cube.nc"
    series.rename("reflectance").to_netcdf(path, engine="netcdf4")

    np.testing.assert_allclose(read_cube(path).values, series.values, atol=1e-6)


def test_zero_is_no_data_beside_float_angles(series: xr.DataArray, tmp_path: Path) -> None:
    path = tmp_path / "series.nc"
    planes = {band: (series.sel(bands=band, drop=True) * 1e4).astype("int16") for band in BANDS}
    planes["B02"][0, 3, 4] = 0
    planes["sunZenithAngles"] = xr.DataArray(np.full(3, 40.0), dims="t")
    xr.Dataset(planes, attrs={"epsg": 32632}).to_netcdf(path, engine="netcdf4")

    cube = read_cube(path, reflectance_scale=1e-4)

    assert cube.sel(bands="B02").isnull().sum() == 1
    assert float(cube.sel(bands="sunZenithAngles").min()) == 40


def date_folder(output: Path, date: str) -> Path:
    """Return the folder of the result of a date, such as 20240611t000000."""
    (folder,) = output.glob(f"*_{date}_*")
    return folder


def test_command_writes_a_folder_per_date_with_lai_and_names_the_others(
    series: xr.DataArray, tmp_path: Path
) -> None:
    path = write_variables(series, tmp_path / "series.nc")
    result = CliRunner().invoke(app, ["run", str(path), str(tmp_path / "out")])

    assert result.exit_code == 0, result.stderr
    folders = [date_folder(tmp_path / "out", d) for d in ("20240601t000000", "20240611t000000")]
    assert [Path(line) for line in result.stdout.splitlines()] == folders
    assert "20240606T000000 is left out" in result.stderr
    lai = read_lai_cogs(folders[1])
    assert lai.attrs["DATETIME"] == "2024-06-11T00:00:00Z"


def test_lai_of_a_date_is_that_of_the_cube(
    series: xr.DataArray, tmp_path: Path, known: str
) -> None:
    path = write_variables(series, tmp_path / "series.nc")
    result = CliRunner().invoke(
        app, ["run", str(path), str(tmp_path / "out"), "--model", known, "--bands", "LAI"]
    )
    assert result.exit_code == 0, result.stderr

    whole = apply_datacube(series.isel(t=2), {"model": known, "bands": ["LAI"]})
    read = read_lai_cogs(date_folder(tmp_path / "out", "20240611t000000"))
    np.testing.assert_allclose(read.values, whole.values, atol=0.0006)


def test_one_date_without_a_dimension_t_needs_a_time(series: xr.DataArray, tmp_path: Path) -> None:
    path = tmp_path / "date.nc"
    date = series.isel(t=0, drop=True).rename("reflectance")
    date.to_netcdf(path, engine="netcdf4")
    with pytest.raises(MetadataError) as caught:
        read_cube(path)
    assert caught.value.parameter == "datetime"
    given = open_cube(path, Declared(datetime="2024-06-01T10:36:29Z"))
    assert given.time_of(0) == "2024-06-01T10:36:29"

    labelled = date.assign_coords(time=series["t"].values[2])
    labelled.to_netcdf(tmp_path / "labelled.nc", engine="netcdf4")
    assert open_cube(tmp_path / "labelled.nc").time_of(0) == "2024-06-11T00:00:00"
    variable = xr.Dataset({"reflectance": date, "time": series["t"][2].drop_vars("t")})
    variable.to_netcdf(tmp_path / "variable.nc", engine="netcdf4")
    assert open_cube(tmp_path / "variable.nc").time_of(0) == "2024-06-11T00:00:00"

    series.rename("reflectance").to_netcdf(tmp_path / "series.nc", engine="netcdf4")
    with pytest.raises(MetadataError):
        read_cube(tmp_path / "series.nc", "2024-06-01")


@pytest.mark.parametrize("kind", [str, np.datetime64, pd.Timestamp, dt.date.fromisoformat])
def test_scaling_may_differ_by_date(series: xr.DataArray, kind: Callable[[str], object]) -> None:
    numbers = to_digital_numbers(series.sel(bands=list(BANDS)), offset_dn=0)
    numbers[1:] += 1000
    stated = {kind("2024-06-03"): -0.1}
    cube = as_cube(numbers.rio.write_crs(32632), Declared(1e-4, stated)).to_array()

    np.testing.assert_allclose(cube.values, series.sel(bands=list(BANDS)).values, atol=6e-5)


def test_dates_of_a_changed_scaling_are_refused_by_name(tmp_path: Path, known: str) -> None:
    """As a season over January 2022 whose offset is not declared."""
    cube = fake_cube(np.random.default_rng(3), 24, dates=20).rio.write_crs(32632)
    numbers = to_digital_numbers(cube, offset_dn=0)
    numbers[10:] += 1000
    entries = as_cube(numbers, Declared(1e-4)).scenes()
    report = run_scenes(entries, tmp_path, RunOptions(model=Path(known)))

    late = [str(t)[:10].replace("-", "") for t in cube["t"].values[10:]]
    assert [refusal.name[:8] for refusal in report.refused] == late
    assert {refusal.error.parameter for refusal in report.refused} == {"reflectance_offset"}
    assert len(report.folders) == 10


def test_wrong_scaling_of_a_cube_names_file_and_parameter(
    series: xr.DataArray, tmp_path: Path
) -> None:
    series.loc[{"bands": list(BANDS)}] *= 10_000
    path = write_variables(series, tmp_path / "numbers.nc")
    with pytest.raises(LaiInputError, match=r"numbers\.nc") as caught:
        run_cube(xr.open_dataset(path), tmp_path / "out")
    assert caught.value.parameter == "reflectance_scale"
    assert not (tmp_path / "out").exists()


def test_cube_of_clouds_is_one_sentence(series: xr.DataArray, tmp_path: Path) -> None:
    series.loc[{"bands": "SCL"}] = 9
    path = write_variables(series, tmp_path / "series.nc")
    result = CliRunner().invoke(app, ["run", str(path), str(tmp_path / "out")])

    assert result.exit_code == 1
    assert "no scene holds a usable pixel" in result.stderr
    assert not (tmp_path / "out").exists()


def test_unusable_files_are_refused(series: xr.DataArray, tmp_path: Path) -> None:
    (tmp_path / "text.nc").write_text("no netCDF")
    with pytest.raises(UnreadableProductError):
        read_cube(tmp_path / "text.nc")

    xr.Dataset({"ndvi": (("y", "x"), np.ones((2, 2)))}).to_netcdf(tmp_path / "ndvi.nc")
    with pytest.raises(ProductError):
        read_cube(tmp_path / "ndvi.nc")

    bare = series.drop_vars("spatial_ref").rename("reflectance")
    bare.attrs.pop("grid_mapping", None)
    bare.encoding.pop("grid_mapping", None)
    bare.to_netcdf(tmp_path / "bare.nc")
    with pytest.raises(GridError):
        read_cube(tmp_path / "bare.nc")


@pytest.mark.shared
def test_lai_of_a_real_field_has_a_season(shared_data: Path, shipped: str) -> None:
    (path,) = (shared_data / "timeseries").glob("00002806639B424A*.nc")
    cube = read_cube(path)

    lai = apply_datacube(cube, {"bands": ["LAI"], "model": shipped}).sel(bands="LAI")

    usable = lai.notnull().mean(["y", "x"]) > 0.8
    medians = lai.isel(t=usable.values).median(["y", "x"])
    assert usable.sum() > 20
    assert 2 * float(medians.min()) < float(medians.max()) < 8
