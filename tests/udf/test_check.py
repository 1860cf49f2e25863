"""`lai-udf check` finds the traps of the loader, and cubes that would be refused."""

from pathlib import Path

import numpy as np
import openeo.udf.run_code
import pytest
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, to_digital_numbers, with_bands
from openeo.udf import OpenEoUdfException, UdfData, XarrayDataCube
from typer.testing import CliRunner

from lai_udf.check import check_cube, lint_udf
from lai_udf.cli import app
from lai_udf.errors import MetadataError
from lai_udf.predict import LaiInputError
from lai_udf.run import run_cube

GOOD = """
import xarray as xr

def apply_datacube(cube: xr.DataArray, context: dict) -> xr.DataArray:
    return cube * 2
"""


def messages(text: str) -> str:
    return "\n".join(map(str, lint_udf(text)))


def test_our_udf_is_clean(udf_code: str) -> None:
    assert lint_udf(udf_code) == []


def test_plain_udf_is_clean() -> None:
    assert lint_udf(GOOD) == []


FUTURE = "from __future__ import annotations\nimport xarray as xr"
QUOTED = '(cube: "xr.DataArray", context: dict)'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import xarray as xr", FUTURE, "string"),
        ("(cube: xr.DataArray, context: dict)", QUOTED, "unquoted"),
        ("(cube: xr.DataArray, context: dict)", "(cube, context: dict)", "annotate cube"),
        ("-> xr.DataArray", "", "annotate the result"),
        ("cube: xr", "data: xr", "call them (cube, context)"),
        (", context: dict", "", "call them (cube, context)"),
        ("def apply_datacube", "def predict", "no function apply_datacube"),
        ("import xarray as xr", "import xarray as xr\nHERE = __file__", "__file__"),
        ("import xarray as xr", "import xarray as xr\nfrom . import friend", "relative import"),
        ("import xarray as xr", "import xarray as xr\nimport lai_udf.run", "imports lai_udf"),
        (
            "def apply_datacube",
            "def helper(data: UdfData):\n    return data\n\ndef apply_datacube",
            "lone UdfData",
        ),
        ("import xarray", "#/// script\nimport xarray", "exactly"),
        (
            "import xarray",
            '# /// script\n# dependencies = ["numpy>=2"]\n# ///\nimport xarray',
            "lists numpy",
        ),
        ("import xarray", "# about apply_metadata\nimport xarray", "no such function"),
        ("return cube * 2", "return (cube * 2", "does not parse"),
    ],
)
def test_trap_is_found(old: str, new: str, message: str) -> None:
    assert old in GOOD
    assert message in messages(GOOD.replace(old, new, 1))


def test_findings_name_the_line() -> None:
    assert "line 3: __file__" in messages("\nimport xarray\nHERE = __file__\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import xarray as xr", FUTURE),
        ("(cube: xr.DataArray, context: dict)", QUOTED),
        ("(cube: xr.DataArray, context: dict)", "(cube, context: dict)"),
        ("-> xr.DataArray", ""),
        ("cube: xr.DataArray, context: dict", "cube: xr.DataArray"),
    ],
)
def test_loader_really_misses_what_is_called_no_udf(old: str, new: str) -> None:
    # The rules are about the installed loader; where it learns better, they may go.
    text = GOOD.replace(old, new, 1)
    data = UdfData(datacube_list=[XarrayDataCube(xr.DataArray(np.ones((1, 1)), dims=("y", "x")))])
    with pytest.raises(OpenEoUdfException, match="No UDF found"):
        openeo.udf.run_code.run_udf_code(text, data)


@pytest.fixture
def series() -> xr.DataArray:
    cube = with_bands(fake_cube(np.random.default_rng(6), 32, dates=2), SCL=4.0, **ANGLE_DEGREES)
    described: xr.DataArray = cube.rio.write_crs(32632)
    return described


def test_good_cube_has_no_problems(series: xr.DataArray) -> None:
    report = check_cube(series)

    assert report.problems == ()
    assert "2 dates, 32 x 32 px" in report.facts[0]
    assert "1 window of" in report.facts[2]


def test_problems_of_a_cube_are_listed(series: xr.DataArray) -> None:
    assert "B05" in check_cube(series.drop_sel(bands="B05")).problems[0]
    assert (
        "pixels of 30"
        in check_cube(series.assign_coords(x=series["x"] * 1.5, y=series["y"] * 1.5)).problems[0]
    )
    (masked,) = check_cube(series.where(series["bands"] != "SCL", 9)).problems
    assert "no pixel of any date" in masked


@pytest.mark.parametrize(
    "times",
    [
        ["2024-06-01T10:36:29.1", "2024-06-01T10:36:29.9", "2024-06-06"],
        ["2024-06-06", "NaT", "NaT"],
    ],
    ids=["two of one second", "no time"],
)
def test_dates_that_no_folder_can_be_named_after_do_not_stop_the_others(
    series: xr.DataArray, times: list[str], tmp_path: Path
) -> None:
    cube = series.isel(t=[0, 1, 1]).assign_coords(t=np.array(times, dtype="datetime64[ns]"))

    assert len(check_cube(cube).problems) == 2
    (folder,) = run_cube(cube, tmp_path / "out")
    assert "20240606t" in folder.name
    with pytest.raises(MetadataError):
        run_cube(cube.isel(t=np.array(times) != "2024-06-06"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_offset_that_is_stated_alone_leaves_the_scale_to_be_judged(
    series: xr.DataArray, tmp_path: Path
) -> None:
    percent = series.copy()
    percent[:, :10] *= 100
    with pytest.raises(LaiInputError) as refused:
        run_cube(percent, tmp_path / "out", reflectance_offset=0.0)
    assert refused.value.parameter == "reflectance_scale"
    assert not (tmp_path / "out").exists()


def test_labels_that_are_no_times_are_a_problem(series: xr.DataArray) -> None:
    (problem,) = check_cube(series.assign_coords(t=[20240601, 20240606])).problems
    assert "not with times" in problem


def test_wrong_scaling_of_a_series_is_reported_once(series: xr.DataArray) -> None:
    numbers = to_digital_numbers(series.sel(bands=series["bands"][:10])).astype("float32")
    report = check_cube(numbers.rio.write_crs(32632))

    (problem,) = report.problems  # of all dates together, and nothing about clouds
    assert "reflectance_scale" in problem
    assert not check_cube(
        numbers.rio.write_crs(32632), reflectance_scale=1e-4, reflectance_offset=-0.1
    ).problems


def check(path: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check", str(path), *options])
    return result.exit_code, result.stdout, result.stderr


def test_command_ends_with_0_where_all_is_well(tmp_path: Path, udf_code: str) -> None:
    (tmp_path / "udf.py").write_text(udf_code)
    code, stdout, _ = check(tmp_path / "udf.py")

    assert code == 0
    assert len(stdout.splitlines()) == 1


def test_command_prints_findings_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "udf.py").write_text(GOOD.replace("-> xr.DataArray", ""))
    code, stdout, _ = check(tmp_path / "udf.py")

    assert code == 1
    assert "annotate the result" in stdout


@pytest.mark.parametrize("name", ["text.txt", "none.py", "none.nc"])
def test_other_files_are_one_sentence(tmp_path: Path, name: str) -> None:
    if name == "text.txt":
        (tmp_path / name).write_text("hello")
    code, stdout, stderr = check(tmp_path / name)

    assert (code, stdout) == (1, "")
    assert len(stderr.strip().splitlines()) == 1
    assert name in stderr
