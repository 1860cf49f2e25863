"""One series through every way in gives one set of numbers, whatever its encoding."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers DataArray.rio)
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, with_bands
from fake_products import write_raster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lai_udf import (
    apply_datacube,
    default_bundle_path,
    estimate,
    open_scene,
    open_scenes,
    predict_scene,
    read_cube,
    run_scenes,
    run_udf_in_windows,
)
from lai_udf.emulation import Cutting
from lai_udf.predict import BANDS, OUTPUT_BANDS
from lai_udf.results import read_lai_cogs

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

MODEL = str(default_bundle_path())
OFFSET_DN = {"old": 0, "new": -1000}
SIDE, DATES = 48, 3
FILL = {"tag": -9999, "zero": 0, "nan": np.nan}
CODE = (Path(__file__).parents[2] / "udf/lai_udf/predict.py").read_text()


def make_series() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return whole digital numbers of reflectance * 10,000, scene classes, and what is missing."""
    cube = fake_cube(np.random.default_rng(21), SIDE, dates=DATES)
    numbers = np.round(cube.values * 1e4)
    scene_class = np.full((DATES, SIDE, SIDE), 4)
    scene_class[0, 4:9, 30:36] = 9
    scene_class[1, 20:22, 5:9] = 3
    missing = np.zeros((DATES, SIDE, SIDE), dtype=bool)
    missing[2, :, :7] = True
    return numbers, scene_class, missing


NUMBERS, SCENE_CLASS, MISSING = make_series()
TIMES = np.array(["2021-06-01T10:30:31", "2021-06-11T10:30:31", "2022-06-01T10:30:31"], "M8[ns]")
Y, X = 5_000_000.0 - 20 * np.arange(SIDE), 600_000.0 + 20 * np.arange(SIDE)


def with_grid(cube: xr.DataArray) -> xr.DataArray:
    return cube.rio.write_crs(32632)


@cache
def reference() -> xr.DataArray:
    """Return the output of the UDF for the series as float reflectance."""
    values = np.where(MISSING[:, None], np.nan, NUMBERS * 1e-4).astype("float32")
    cube = xr.DataArray(
        values,
        dims=("t", "bands", "y", "x"),
        coords={"t": TIMES, "bands": list(BANDS), "y": Y, "x": X},
    )
    full = xr.concat([cube, scene_classes()], "bands")
    full = with_bands(full, **ANGLE_DEGREES)
    return apply_datacube(full, {"model": MODEL, "reflectance_offset": 0.0})


def scene_classes() -> xr.DataArray:
    return xr.DataArray(
        SCENE_CLASS[:, None].astype("float32"),
        dims=("t", "bands", "y", "x"),
        coords={"t": TIMES, "bands": ["SCL"], "y": Y, "x": X},
    )


@dataclass(frozen=True)
class Encoding:
    """How the series is stored."""

    dtype: str
    baseline: str
    offset_form: str
    no_data: str
    order: tuple[int, ...]

    @property
    def offset(self) -> float:
        number = OFFSET_DN[self.baseline]
        return number if self.offset_form == "digital numbers" else number * 1e-4

    @property
    def fill(self) -> float:
        return FILL[self.no_data] if np.dtype(self.dtype).kind == "f" else 0

    @property
    def bands(self) -> list[str]:
        return [BANDS[index] for index in self.order]

    def store(self) -> np.ndarray:
        """Return (t, bands, y, x) as stored."""
        stored = NUMBERS - OFFSET_DN[self.baseline]
        stored = np.where(MISSING[:, None], self.fill, stored)
        return stored[:, list(self.order)].astype(self.dtype)

    def cube(self) -> xr.DataArray:
        """Return the labelled cube with scene classes and angles."""
        cube = xr.DataArray(
            self.store(),
            dims=("t", "bands", "y", "x"),
            coords={"t": TIMES, "bands": self.bands, "y": Y, "x": X},
        )
        classes = scene_classes().astype(self.dtype)
        angles = [
            xr.full_like(classes, np.asarray(degrees, self.dtype)).assign_coords(bands=[label])
            for label, degrees in ANGLE_DEGREES.items()
        ]
        return with_grid(xr.concat([cube, classes, *angles], "bands"))

    def context(self) -> dict[str, Any]:
        return {"model": MODEL, "reflectance_scale": 1e-4, "reflectance_offset": self.offset}


encodings = st.builds(
    Encoding,
    dtype=st.sampled_from(["int16", "uint16", "int32", "float32", "float64"]),
    baseline=st.sampled_from(["old", "new"]),
    offset_form=st.sampled_from(["reflectance", "digital numbers"]),
    no_data=st.sampled_from(["tag", "zero", "nan"]),
    order=st.permutations(range(10)).map(tuple),
)
many = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_same(found: xr.DataArray, expected: xr.DataArray, atol: float = 1e-4) -> None:
    """Compare all bands; flags must be equal."""
    assert found.shape == expected.shape
    for band in OUTPUT_BANDS:
        one, other = found.sel(bands=band).values, expected.sel(bands=band).values
        if band == "LAI_FLAGS":
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, atol=atol, err_msg=band)


def as_bands(dataset: xr.Dataset) -> xr.DataArray:
    """Return the answer of `estimate` as the UDF gives it."""
    planes = [dataset[band].astype("float32") for band in OUTPUT_BANDS]
    return xr.concat(planes, "bands", coords="minimal", compat="override").assign_coords(
        bands=list(OUTPUT_BANDS)
    )


@many
@given(encoding=encodings)
def test_the_udf_in_any_encoding(encoding: Encoding) -> None:
    found = apply_datacube(encoding.cube().drop_vars("spatial_ref"), encoding.context())
    assert_same(found, reference())


@many
@given(encoding=encodings)
def test_estimate_in_any_encoding(encoding: Encoding) -> None:
    cube = encoding.cube()
    found = estimate(cube.rename(t="time", bands="band"), scale=1e-4, offset=encoding.offset)
    assert_same(as_bands(found).transpose("time", "bands", "y", "x"), reference())


@settings(many, max_examples=4)
@given(encoding=encodings, origin=st.tuples(st.integers(0, 31), st.integers(0, 31)))
def test_the_text_of_the_udf_in_windows(encoding: Encoding, origin: tuple[int, int]) -> None:
    start = origin[0] // 4 * 4, origin[1] // 4 * 4  # windows of back-ends start in phase
    found = run_udf_in_windows(
        CODE,
        encoding.cube().drop_vars("spatial_ref"),
        encoding.context() | {"overlap": 16},
        Cutting(size_px=32, overlap_px=16, origin_px=start),
    )
    assert_same(found, reference())


@pytest.mark.parametrize("chunks", [{"y": 17, "x": 31}, {"time": 1}, {"y": 48, "x": 48, "time": 3}])
def test_estimate_under_dask_in_any_chunks(chunks: dict[str, int]) -> None:
    encoding = Encoding("uint16", "new", "reflectance", "zero", tuple(range(10)))
    cube = encoding.cube().rename(t="time", bands="band").chunk(chunks)
    found = estimate(cube, scale=1e-4, offset=-0.1)
    assert found["LAI"].chunks is not None
    assert_same(as_bands(found.compute()).transpose("time", "bands", "y", "x"), reference())


def test_a_scaling_that_changes_with_the_baseline() -> None:
    old, new = (
        Encoding("uint16", baseline, "reflectance", "zero", tuple(range(10))).cube()
        for baseline in ("old", "new")
    )
    mixed = xr.concat([old[:2], new[2:]], "t").rename(t="time", bands="band")
    found = estimate(mixed, scale=1e-4, offset={"2000-01-01": 0.0, "2022-01-25": -0.1})
    assert_same(as_bands(found).transpose("time", "bands", "y", "x"), reference())


def write_date(encoding: Encoding, date: int, path: Path) -> Path:
    """Write one date as a GeoTIFF, its scaling in the file."""
    stored = encoding.cube().isel(t=date).values
    names = [*encoding.bands, "SCL", *ANGLE_DEGREES]
    scales = (1e-4,) * 10 + (1.0,) * 5
    offsets = (OFFSET_DN[encoding.baseline] * 1e-4,) * 10 + (0.0,) * 5
    tags = {"DATETIME": f"{TIMES[date].astype('M8[s]')}Z"}
    return write_raster(
        path,
        stored,
        descriptions=tuple(names),
        scales=scales,
        offsets=offsets,
        nodata=encoding.fill,
        tags=tags,
        corner=(600_000 - 10, 5_000_000 + 10),
    )


@settings(many, max_examples=4)
@given(encoding=encodings, date=st.integers(0, DATES - 1))
def test_geotiffs_in_memory_and_as_cogs(
    encoding: Encoding,
    date: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("ways")
    path = write_date(encoding, date, folder / "scene.tif")

    in_memory = predict_scene(open_scene(path).read())
    assert_same(in_memory, reference().isel(t=date))

    (result,) = run_scenes(open_scenes(path), folder / "out").folders
    assert_same(read_lai_cogs(result), reference().isel(t=date), atol=0.0006)  # int16 * 0.001


@settings(many, max_examples=4)
@given(encoding=encodings, per_band=st.booleans())
def test_netcdf_cubes(
    encoding: Encoding,
    per_band: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("ways") / "series.nc"
    cube = encoding.cube()
    if per_band:
        planes = {str(band): cube.sel(bands=band, drop=True) for band in cube["bands"].values}
        xr.Dataset(planes, attrs={"crs": "EPSG:32632"}).to_netcdf(path)
    else:
        cube.rename("reflectance").to_netcdf(path)
    found = read_cube(path, reflectance_scale=1e-4, reflectance_offset=encoding.offset)
    lai = apply_datacube(found, {"model": MODEL, "reflectance_offset": 0.0})
    assert_same(lai.transpose("t", "bands", "y", "x"), reference())
