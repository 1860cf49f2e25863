"""`lai_udf.estimate` takes what other tools deliver, stays lazy, gives the numbers of the UDF."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, with_bands
from fake_forms import COMMON_NAMES
from fake_products import BANDS

import lai_udf
from lai_udf.errors import GridError, LaiUdfError, MetadataError, MissingBandError
from lai_udf.predict import OUTPUT_BANDS, LaiInputError, apply_datacube
from lai_udf.results import read_lai_cogs

da = pytest.importorskip("dask.array")
pytestmark = [
    pytest.mark.filterwarnings("ignore:numpy.ndarray size changed:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),  # odc
]


@pytest.fixture
def cube(made: xr.DataArray) -> xr.DataArray:
    """Return a cube that a test may change."""
    return made.copy(deep=True)


@pytest.fixture(scope="module")
def made() -> xr.DataArray:
    """Return reflectance of two dates with scene classes and angles, on 100 x 90 px."""
    series = fake_cube(np.random.default_rng(4), (100, 90), dates=2)
    full = with_bands(series, SCL=4.0, **ANGLE_DEGREES)
    full.loc[{"t": full["t"][1], "bands": "SCL"}][10:20, 30:40] = 9
    full[0, :10, 50:, 80:] = np.nan
    described: xr.DataArray = full.rio.write_crs(32632)
    return described


@pytest.fixture(scope="module")
def expected(made: xr.DataArray, shipped: str) -> xr.DataArray:
    return apply_datacube(made, {"model": shipped})


def assert_same(lai: xr.Dataset, expected: xr.DataArray) -> None:
    for band in OUTPUT_BANDS:
        values = lai[band].values
        np.testing.assert_allclose(values, expected.sel(bands=band).values, atol=1e-4)


def without_dates(cube: xr.DataArray, band: str) -> xr.Dataset:
    """Return a Dataset of which one variable is of the first date only."""
    dataset = as_dataset(cube)
    return dataset.assign({band: dataset[band].isel(t=0, drop=True)})


def as_dataset(cube: xr.DataArray, names: dict[str, str] | None = None) -> xr.Dataset:
    planes = {str(b): cube.sel(bands=b, drop=True) for b in cube["bands"].values}
    return xr.Dataset({(names or {}).get(band, band): plane for band, plane in planes.items()})


LAYOUTS: dict[str, Any] = {
    "as it is": lambda cube: cube,
    "time, band": lambda cube: cube.rename(t="time", bands="band"),
    "Dataset": as_dataset,
    "Dataset of common names": lambda cube: as_dataset(cube, COMMON_NAMES),
    "lower case": lambda cube: as_dataset(cube, {band: band.lower() for band in BANDS}),
    "Dataset of one variable": lambda cube: cube.to_dataset(name="reflectance"),
    "south up": lambda cube: cube.sortby("y"),
    "bands turned": lambda cube: cube.isel(bands=slice(None, None, -1)),
    "attribute epsg": lambda cube: cube.drop_vars("spatial_ref").assign_attrs(epsg=32632),
    "scalar epsg": lambda cube: cube.drop_vars("spatial_ref").assign_coords(epsg=32632),
    "proj:code": lambda cube: cube.drop_vars("spatial_ref").assign_coords(
        {"proj:code": "EPSG:32632"}
    ),
    "bands last": lambda cube: cube.transpose("t", "y", "x", "bands"),
    "lazy": lambda cube: cube.chunk(t=1, y=33, x=41),
    "SCL beside a stack": lambda cube: xr.Dataset(
        {"reflectance": cube.drop_sel(bands="SCL"), "scl": cube.sel(bands="SCL", drop=True)}
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_other_tools_give_the_lai_of_the_udf(
    cube: xr.DataArray, expected: xr.DataArray, layout: str
) -> None:
    given = LAYOUTS[layout](cube)
    lai = lai_udf.estimate(given)

    assert_same(lai, expected)
    time = "time" if "time" in given.dims else "t"
    assert lai["LAI"].dims == (time, "y", "x")
    np.testing.assert_array_equal(lai[time].values, cube["t"].values)
    assert lai.rio.crs.to_epsg() == 32632
    assert (float(lai.x[0]), float(lai.y[0])) == (float(cube.x[0]), float(cube.y[0]))


CHUNKS = [
    {"t": 2, "y": 100, "x": 90},
    {"t": 1, "bands": 3, "y": 7, "x": 90},
    {"t": 1, "y": 64, "x": 16},
    {"t": 1, "bands": 1, "y": 99, "x": 7},
]


@pytest.mark.parametrize("chunks", CHUNKS)
def test_any_chunks_give_the_same_numbers(
    cube: xr.DataArray, expected: xr.DataArray, chunks: dict[str, int]
) -> None:
    assert_same(lai_udf.estimate(cube.chunk(chunks)).compute(), expected)


def test_blocks_with_a_halo_give_the_same_numbers(shipped: str) -> None:
    large = fake_cube(np.random.default_rng(5), (400, 800)).rio.write_crs(32632)
    whole = apply_datacube(large, {"model": shipped})
    lai = lai_udf.estimate(large.chunk(y=150, x=333))
    assert len(lai["LAI"].data.chunks[2]) > 1
    assert_same(lai.compute(), whole)


@pytest.mark.parametrize(("side", "chunk"), [((12, 400), 13), ((392, 40), 100), ((8, 8), 8)])
def test_slivers_of_blocks_make_no_difference(side: tuple[int, int], chunk: int) -> None:
    small = fake_cube(np.random.default_rng(5), side).rio.write_crs(32632)
    lazy = lai_udf.estimate(small.chunk(y=chunk, x=chunk)).compute()
    whole = lai_udf.estimate(small)
    np.testing.assert_allclose(lazy["LAI"].values, whole["LAI"].values, atol=1e-4)
    np.testing.assert_array_equal(lazy["LAI_FLAGS"].values, whole["LAI_FLAGS"].values)


def test_nothing_is_computed_before_it_is_asked_for(cube: xr.DataArray) -> None:
    computed: list[int] = []

    def count(block: np.ndarray) -> np.ndarray:
        computed.append(1)
        return block

    lazy = cube.chunk(t=1, y=50).map_blocks(lambda block: block.copy(data=count(block.data)),
                                            template=cube.chunk(t=1, y=50))  # fmt: skip
    lai = lai_udf.estimate(lazy)
    assert not computed
    lai["LAI"].mean().compute()
    assert computed


@pytest.mark.slow
def test_ten_gigabytes_go_through_a_process_of_three(tmp_path: Path) -> None:
    """Stands for it here: a cube 40 times as large as the memory that it may take."""
    script = tmp_path / "large.py"
    script.write_text(
        "import resource, numpy as np, dask, dask.array as da, xarray as xr, lai_udf\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "values = da.random.default_rng(1).random((4, 10, 1536, 1536), chunks=(1, 10, 384, 384))\n"
        "cube = xr.DataArray(values.astype('float32') * 0.3, dims=('time', 'band', 'y', 'x'),\n"
        f"    coords={{'band': {list(BANDS)!r}, 'y': -20.0 * np.arange(1536),\n"
        "    'x': 20.0 * np.arange(1536)}, attrs={'epsg': 32632})\n"
        "dask.config.set(scheduler='threads', num_workers=2)\n"
        "lai = lai_udf.estimate(cube, scale=1.0, offset=0.0)['LAI'].mean().compute()\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(float(lai), (after - before) / 1e3)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    _, megabytes = map(float, done.stdout.split())
    assert megabytes < 600  # the cube alone is 377 MB


def test_attributes_follow_cf(cube: xr.DataArray) -> None:
    lai = lai_udf.estimate(cube, level=0.9)

    assert (lai["LAI"].attrs["units"], lai["LAI"].attrs["standard_name"]) == (
        "m2 m-2",
        "leaf_area_index",
    )
    assert all("long_name" in variable.attrs for variable in lai.data_vars.values())
    flags = lai["LAI_FLAGS"]
    assert flags.dtype == np.uint8
    assert len(flags.attrs["flag_meanings"].split()) == len(flags.attrs["flag_masks"]) == 8
    assert "90 %" in lai["LAI_LOWER"].attrs["long_name"]
    assert all(
        variable.encoding["grid_mapping"] == "spatial_ref" for variable in lai.data_vars.values()
    )
    assert lai.attrs["Conventions"].startswith("CF-")


def test_the_result_survives_netcdf(cube: xr.DataArray, tmp_path: Path) -> None:
    lai = lai_udf.estimate(cube)
    lai.to_netcdf(tmp_path / "lai.nc")
    with xr.open_dataset(tmp_path / "lai.nc", decode_coords="all") as back:
        np.testing.assert_array_equal(back["LAI"].values, lai["LAI"].values)
        assert back.rio.crs.to_epsg() == 32632


def test_the_result_goes_to_cogs(cube: xr.DataArray, tmp_path: Path) -> None:
    lai = lai_udf.estimate(cube.chunk(t=1))
    paths = lai_udf.write_cogs(lai, tmp_path)
    assert len(paths["lai"]) == 2
    read = read_lai_cogs(paths["lai"][1].parent)
    np.testing.assert_allclose(read.sel(bands="LAI"), lai["LAI"][1], atol=6e-4)
    assert read.attrs["DATETIME"] == "2024-06-06T00:00:00Z"


def test_a_scene_without_time_has_none_afterwards(
    cube: xr.DataArray, expected: xr.DataArray
) -> None:
    lai = lai_udf.estimate(cube.isel(t=0, drop=True))
    assert lai["LAI"].dims == ("y", "x")
    assert_same(lai, expected.isel(t=0))


def test_a_single_pixel_needs_its_size_and_has_no_surroundings(cube: xr.DataArray) -> None:
    whole = lai_udf.estimate(cube)
    at = {"y": [50], "x": [20]}
    with pytest.raises(GridError):
        lai_udf.estimate(cube.isel(at))
    with pytest.raises(GridError):
        lai_udf.estimate(cube.isel(y=50, x=20), resolution=20)
    one = lai_udf.estimate(cube.isel(at), resolution=20)
    left, bottom, right, top = one.rio.bounds()
    assert (right - left, top - bottom) == (20, 20)
    assert (left + 10, bottom + 10) == (cube["x"].values[20], cube["y"].values[50])
    assert (one["LAI_FLAGS"] & 64 > 0).all()
    np.testing.assert_allclose(one["LAI"], whole["LAI"].isel(at), rtol=0.3)


@pytest.mark.parametrize("lazy", [False, True])
def test_an_offset_that_is_stated_alone_leaves_the_scale_to_be_judged(
    cube: xr.DataArray, lazy: bool
) -> None:
    numbers = as_dataset(cube)
    for band in BANDS:
        numbers[band] = numbers[band] * 10_000
    numbers = numbers.chunk(y=20) if lazy else numbers
    with pytest.raises(LaiInputError) as refused:
        lai_udf.estimate(numbers, offset=0.0)["LAI"].compute()
    assert refused.value.parameter == "scale"
    assert np.isnan(lai_udf.estimate(numbers, scale=1.0, offset=0.0)["LAI"]).all()


def test_mask_can_be_left_out(cube: xr.DataArray) -> None:
    assert np.isnan(lai_udf.estimate(cube)["LAI"].values[1, 12, 33])
    assert np.isfinite(lai_udf.estimate(cube, mask=None)["LAI"].values[1, 12, 33])


@pytest.mark.parametrize(
    ("change", "error", "parameter"),
    [
        (lambda cube: cube.drop_vars("spatial_ref"), GridError, None),
        (lambda cube: cube.assign_coords(x=cube.x * 1.5, y=cube.y * 1.5), GridError, None),
        (lambda cube: cube.drop_sel(bands="B05"), MissingBandError, None),
        (lambda cube: cube.isel(t=slice(0, 0)), MetadataError, None),
        (lambda cube: cube.astype(str), LaiUdfError, None),
        (lambda cube: cube.drop_vars("bands"), LaiUdfError, "bands"),
        (lambda cube: cube.rename(x="column"), GridError, None),
        (lambda cube: xr.concat([cube, cube.sel(bands=["B02"])], "bands"), MetadataError, None),
        (lambda cube: np.ones(3), LaiUdfError, "data"),
        (lambda cube: cube.isel(y=[0], x=[0]), GridError, "resolution"),
        (lambda cube: xr.Dataset({"mean": cube, "deviation": cube}), MetadataError, None),
        (lambda cube: without_dates(cube, "SCL"), MetadataError, None),
        (lambda cube: without_dates(cube, "B05"), MetadataError, None),
    ],
    ids=[
        "crs",
        "30 m",
        "no B05",
        "no date",
        "text",
        "no names",
        "no x",
        "twice",
        "numpy",
        "one pixel",
        "two stacks",
        "classes of one date",
        "a band of one date",
    ],
)
def test_what_is_no_cube_is_refused_before_any_work(
    cube: xr.DataArray, change: Any, error: type[Exception], parameter: str | None
) -> None:
    with pytest.raises(error) as caught:
        lai_udf.estimate(change(cube))
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 10},
        {"target": "snap"},
        {"samples": 1},
        {"variables": ["NDVI"]},
        {"mask": "B02"},
        {"mask": True},
        {"scale": -1.0},
        {"scale": 10_000},
        {"scale": "0.0001"},
        {"offset": 1000},
        {"offset": "-0.1"},
        {"offset": [-0.1, 0.0]},
        {"offset": {}},
        {"region": "moon"},
        {"level": 2},
    ],
)
def test_a_wrong_parameter_is_named(cube: xr.DataArray, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the root of all errors of ours)
        lai_udf.estimate(cube, **wrong)
    assert caught.value.parameter == next(iter(wrong))  # type: ignore[attr-defined]


def test_several_faults_are_reported_at_once(cube: xr.DataArray) -> None:
    with pytest.raises(LaiUdfError) as caught:
        lai_udf.estimate(cube.drop_vars("spatial_ref").drop_sel(bands="B05"))
    assert "B05" in str(caught.value)
    assert "CRS" in str(caught.value)
