"""`lai_udf.estimate` of what odc-stac, stackstac and rioxarray load: scaled as they state it."""

from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray
import xarray as xr
from fake_cubes import fake_cube, to_digital_numbers
from fake_forms import cube_dataset, make_item, write_geotiff
from fake_products import BANDS, CORNER

import lai_udf
from lai_udf.errors import MetadataError
from lai_udf.errors import UndeclaredScaleError as Undeclared
from lai_udf.predict import LaiInputError, apply_datacube

pytest.importorskip("dask.array")
pytestmark = [
    pytest.mark.filterwarnings("ignore:numpy.ndarray size changed:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),  # odc
]


@pytest.mark.parametrize("how", ["attributes", "encoding", "caller", "by date"])
def test_scaling_comes_from_wherever_it_is_stated(how: str) -> None:
    truth = lai_udf.estimate(cube_dataset(), scale=1e-4, offset=-0.1)["LAI"].values
    stated = {"scale_factor": 1e-4, "add_offset": -0.1}
    given: dict[str, Any] = {}
    data = cube_dataset(**(stated if how == "attributes" else {}))
    if how == "encoding":
        data = xr.decode_cf(cube_dataset(**stated, _FillValue=np.uint16(0)))
    if how == "caller":
        given = {"scale": 1e-4, "offset": -1000}
    if how == "by date":
        given = {"scale": 1e-4, "offset": {"2022-01-25": -0.1}}
    np.testing.assert_allclose(lai_udf.estimate(data, **given)["LAI"].values, truth, atol=1e-4)


def test_each_band_keeps_its_own_scaling() -> None:
    data = cube_dataset(scale_factor=1e-4, add_offset=-0.1)
    truth = lai_udf.estimate(data)["LAI"].values
    data["B05"] = (
        (data["B05"] * 2).astype("uint16").assign_attrs(scale_factor=5e-5, add_offset=-0.1)
    )
    np.testing.assert_allclose(lai_udf.estimate(data)["LAI"].values, truth, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "parameter"),
    [({"scale": 1e-4, "offset": -0.1}, "scale"), ({"offset": -1000}, "offset")],
)
def test_what_was_decoded_on_opening_is_not_scaled_again(
    given: dict[str, Any], parameter: str
) -> None:
    stored = cube_dataset(scale_factor=1e-4, add_offset=-0.1, _FillValue=np.uint16(0))
    decoded = xr.decode_cf(stored)
    with pytest.raises(MetadataError) as caught:
        lai_udf.estimate(decoded, **given)
    assert caught.value.parameter == parameter
    truth = lai_udf.estimate(stored)["LAI"].values
    harmless = lai_udf.estimate(decoded, scale=1.0, offset=0.0)["LAI"].values
    np.testing.assert_allclose(harmless, truth, atol=1e-4)


@pytest.mark.parametrize("how", [{}, {"band_as_variable": True}, {"mask_and_scale": True}])
def test_rioxarray_lists_a_scaling_for_each_band(tmp_path: Path, how: dict[str, Any]) -> None:
    path = write_geotiff(tmp_path)
    truth = lai_udf.predict_scene(lai_udf.read_scene(path)).sel(bands="LAI").values
    with rasterio.open(path, "r+") as file:
        file.scales = [1e-4 if name in BANDS else 1.0 for name in file.descriptions]
        file.offsets = [-0.1] * len(BANDS) + [0.0] * (file.count - len(BANDS))
    lai = lai_udf.estimate(rioxarray.open_rasterio(path, **how))
    np.testing.assert_allclose(lai["LAI"].values, truth, atol=1e-4)
    assert "not stated" not in lai.attrs["scaling"]


def test_rioxarray_of_a_geotiff_is_taken(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path)
    truth = lai_udf.predict_scene(lai_udf.read_scene(path)).sel(bands="LAI").values
    raster = rioxarray.open_rasterio(path)
    lai = lai_udf.estimate(raster, scale=1e-4, offset=-0.1)
    np.testing.assert_allclose(lai["LAI"].values, truth, atol=1e-4)
    bare = raster.drop_attrs().rio.write_crs(raster.rio.crs).drop_vars("band")
    by_hand = lai_udf.estimate(bare, bands=BANDS, scale=1e-4, offset=-0.1)
    np.testing.assert_allclose(by_hand["LAI"].values, truth, atol=1e-4)


@pytest.fixture
def items(tmp_path: Path) -> list[pystac.Item]:
    """Return two Items over January 2022, each with its own baseline and offset."""
    old = make_item(tmp_path, "a", time="2021-06-05T11:54:11Z", add=-1000, baseline="03.01")
    new = make_item(tmp_path, "b", time="2022-10-05T11:54:11Z")
    items = [pystac.Item.from_file(str(path)) for path in (old, new)]
    for item in items:
        item.make_asset_hrefs_absolute()
    return items


@pytest.fixture
def truth(items: list[pystac.Item]) -> np.ndarray:
    scenes = [lai_udf.read_scene(item.get_self_href()) for item in items]
    return np.stack([lai_udf.predict_scene(s).sel(bands="LAI").values for s in scenes])


@pytest.mark.parametrize("chunks", [None, {"x": 20, "y": 20}])
def test_what_odc_stac_loads_is_taken(
    items: list[pystac.Item], truth: np.ndarray, chunks: dict[str, int] | None
) -> None:
    odc = pytest.importorskip("odc.stac")
    data = odc.load(items, bands=list(BANDS), resolution=20, crs="EPSG:32629", chunks=chunks)
    data["B03"] = data["B03"] - (data["B03"] > 0).astype("uint16") * 500  # its own offset
    with pytest.raises(Undeclared) as caught:
        lai_udf.estimate(data)
    assert caught.value.parameter == "scale"

    lai = lai_udf.estimate(data, scale=1e-4, offset={"2022-01-25": -0.1})
    assert (lai["LAI"].chunks is None) == (chunks is None)
    np.testing.assert_allclose(lai["LAI"].values, truth, atol=1e-4)
    assert float(lai.x[0]) == CORNER[0] + 10


def test_what_stackstac_stacks_is_taken(items: list[pystac.Item], shipped: str) -> None:
    stackstac = pytest.importorskip("stackstac")
    data = stackstac.stack(items, assets=list(BANDS), resolution=20, epsg=32629)
    lai = lai_udf.estimate(data)

    assert lai["LAI"].chunks is not None
    assert float(lai.x[1]) == CORNER[0] + 10  # a pixel more, and corners for centres
    assert list(lai["id"].values) == ["a", "b"]
    for date, item in enumerate(items):
        scene = lai_udf.read_scene(item.get_self_href()).pad(y=1, x=1)
        truth = apply_datacube(scene, {"model": shipped}).sel(bands="LAI")
        np.testing.assert_allclose(lai["LAI"][date].values, truth.values, atol=1e-4)


def test_a_wrong_season_is_an_error_and_wrong_dates_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    season = fake_cube(np.random.default_rng(3), 24, dates=20).rio.write_crs(32632)
    numbers = to_digital_numbers(season, offset_dn=0)
    with pytest.raises(LaiInputError) as caught:
        lai_udf.estimate(numbers + 1000, scale=1e-4)
    assert caught.value.parameter == "offset"

    numbers[10:] += 1000
    for data in (numbers, numbers.chunk(t=3, x=10)):
        lai = lai_udf.estimate(data, scale=1e-4).compute()
        assert list(np.isfinite(lai["LAI"]).any(["y", "x"]).values) == [True] * 10 + [False] * 10
    assert "10 of 20 dates" in caplog.text
    assert np.isfinite(lai_udf.estimate(numbers, scale=1e-4, plausibility="off")["LAI"][12:]).any()
