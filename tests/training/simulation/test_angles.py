"""Angles of scenes that state none: the sun's from time and place, the view's drawn."""

from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr

from lai_training.simulation.angles import WIDEST_VIEW_DEG, add_missing_angles, sun_position
from lai_udf.predict import ANGLES


@pytest.mark.parametrize(
    ("time", "latitude_deg", "longitude_deg", "zenith_deg", "azimuth_deg"),
    [
        (datetime(2022, 10, 5, 11, 57, tzinfo=UTC), 52.75, -8.19, 57.82, 172.84),
        (datetime(2019, 2, 12, 19, 34, tzinfo=UTC), -32.12, -139.35, 32.71, 62.33),
    ],
)
def test_the_sun_stands_where_real_products_state(
    time: datetime, latitude_deg: float, longitude_deg: float, zenith_deg: float, azimuth_deg: float
) -> None:
    """Mean_Sun_Angle in MTD_TL.xml of S2A_MSIL2A_20221005T115411_N0400 (T29UNU) and
    S2A_MSIL2A_20190212T192651_N0212 (T07HFE), with time and centre of the tile.
    """
    zenith, azimuth = sun_position(time, latitude_deg=latitude_deg, longitude_deg=longitude_deg)

    assert zenith == pytest.approx(zenith_deg, abs=1)
    assert azimuth == pytest.approx(azimuth_deg, abs=1)


def test_a_scene_without_angles_gets_all_four(scene: xr.DataArray) -> None:
    angled = add_missing_angles(scene, 3)

    zenith, azimuth = sun_position(
        datetime(2020, 6, 8, 10, 56, 21, tzinfo=UTC), latitude_deg=43.6, longitude_deg=1.02
    )
    angles = angled.sel(bands=list(ANGLES))
    np.testing.assert_array_equal(angled.sel(bands=scene["bands"]), scene)
    assert angles.values[:, 5, 7] == pytest.approx(angles.values[:, 0, 0])
    assert angles.values[:2, 0, 0] == pytest.approx([zenith, azimuth], abs=0.2)
    assert 0 <= angles.values[2, 0, 0] <= WIDEST_VIEW_DEG
    assert (angled.dtype, angled.attrs) == (scene.dtype, scene.attrs)


def test_angles_of_a_scene_stay(scene: xr.DataArray) -> None:
    low_sun = scene.isel(bands=[0]).assign_coords(bands=["sunZenithAngles"]) * 0 + 77

    angled = add_missing_angles(xr.concat([scene, low_sun], "bands"), 3)

    assert set(ANGLES) <= set(angled["bands"].values)
    assert (angled.sel(bands="sunZenithAngles") == 77).all()
    assert add_missing_angles(angled, 4) is angled


def test_the_same_seed_draws_the_same_view_and_a_sun_where_no_time_is_known(
    scene: xr.DataArray,
) -> None:
    timeless = scene.assign_attrs(datetime="")

    first, again, other = (add_missing_angles(timeless, seed) for seed in (1, 1, 2))

    xr.testing.assert_identical(first, again)
    assert not np.array_equal(first.sel(bands=list(ANGLES)), other.sel(bands=list(ANGLES)))
    assert 20 <= first.sel(bands="sunZenithAngles").values[0, 0] <= 65
