"""What the UDF reads: bands by name, scaling, masks, context; what it refuses, and how."""

import numpy as np
import pytest
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, to_digital_numbers, with_bands

from lai_udf.predict import (
    BANDS,
    NO_DATA_NEAR,
    OUTPUT_BANDS,
    LaiInputError,
    apply_datacube,
)

SCALED = {"reflectance_scale": 1e-4, "reflectance_offset": -0.1}


def test_lai_is_the_output_of_the_known_network(cube: xr.DataArray, known: str) -> None:
    lai = apply_datacube(cube, {"model": known}).sel(bands="LAI").values
    near_infrared = cube.sel(bands="B8A").values

    expected = 10 * near_infrared[19:22, 29:32].mean()
    assert lai[20, 30] == pytest.approx(expected, rel=1e-5)


def test_order_of_the_bands_does_not_matter(cube: xr.DataArray, shipped: str) -> None:
    shuffled = cube.isel(bands=[3, 9, 0, 5, 7, 1, 8, 2, 6, 4])

    np.testing.assert_array_equal(
        apply_datacube(cube, {"model": shipped}).values,
        apply_datacube(shuffled, {"model": shipped}).values,
    )


def test_other_bands_are_ignored(cube: xr.DataArray, shipped: str) -> None:
    more = with_bands(cube, B01=7000.0, CLD=100.0, AOT=np.nan)

    np.testing.assert_array_equal(
        apply_datacube(cube, {"model": shipped}).values,
        apply_datacube(more, {"model": shipped}).values,
    )


@pytest.mark.parametrize("dims", [("bands", "t", "y", "x"), ("y", "x", "bands", "t")])
def test_dims_come_back_in_the_order_they_came(known: str, dims: tuple[str, ...]) -> None:
    cube = fake_cube(np.random.default_rng(2), (24, 32), dates=2)
    expected = apply_datacube(cube, {"model": known})

    result = apply_datacube(cube.transpose(*dims), {"model": known})

    assert result.dims == dims
    xr.testing.assert_identical(result.transpose(*expected.dims), expected)


def test_window_comes_back_uncropped_with_its_coordinates(known: str) -> None:
    cube = fake_cube(np.random.default_rng(2), (29, 35), dates=2)

    result = apply_datacube(cube, {"model": known, "overlap": 16})

    assert result.sizes == {"t": 2, "bands": 5, "y": 29, "x": 35}
    for dim in ("t", "y", "x"):
        xr.testing.assert_identical(result[dim], cube[dim])
    assert list(result["bands"].values) == list(OUTPUT_BANDS)


def test_no_data_stays_no_data_and_is_felt_within_reach_only(
    cube: xr.DataArray, shipped: str
) -> None:
    before = apply_datacube(cube, {"model": shipped})
    holed = cube.copy()
    holed.loc[{"bands": "B05", "y": cube["y"][30], "x": cube["x"][40]}] = np.nan

    after = apply_datacube(holed, {"model": shipped})

    lai = after.sel(bands="LAI").values
    assert np.isnan(lai[30, 40])
    assert np.isnan(lai).sum() == 1
    row, column = np.mgrid[:64, :64]
    far = np.maximum(abs(row - 30), abs(column - 40)) > 16
    np.testing.assert_allclose(after.values[:, far], before.values[:, far], atol=1e-6)


def test_zero_is_no_data_in_integer_cubes_only(cube: xr.DataArray, known: str) -> None:
    numbers = to_digital_numbers(cube)
    numbers[:, 5, 6] = 0

    lai = apply_datacube(numbers, {"model": known, **SCALED}).sel(bands="LAI").values

    assert np.argwhere(np.isnan(lai)).tolist() == [[5, 6]]


@pytest.mark.parametrize("dim", ["t", "y", "x"])
def test_an_empty_chunk_comes_back_empty(known: str, dim: str) -> None:
    cube = fake_cube(np.random.default_rng(2), (16, 16), dates=2)
    lai = apply_datacube(cube.isel({dim: slice(0)}), {"model": known})
    assert lai.sizes[dim] == 0


def test_window_without_data_is_flagged_and_not_an_error(cube: xr.DataArray, known: str) -> None:
    result = apply_datacube(cube * np.float32(np.nan), {"model": known})

    assert result.sel(bands=list(OUTPUT_BANDS[:4])).isnull().all()
    assert (result.sel(bands="LAI_FLAGS") == NO_DATA_NEAR).all()


def test_cloud_becomes_no_data_and_its_neighbours_are_flagged(
    cube: xr.DataArray, known: str
) -> None:
    scene_class = np.full((64, 64), 4)
    scene_class[20:22, 30:32] = 8

    result = apply_datacube(with_bands(cube, SCL=scene_class), {"model": known})

    assert np.argwhere(result.sel(bands="LAI").isnull().values).tolist() == [
        [20, 30],
        [20, 31],
        [21, 30],
        [21, 31],
    ]
    cloud = (result.sel(bands="LAI_FLAGS").values.astype(int) & 32) > 0
    assert cloud[18:24, 28:34].all()  # 2 px on every side, as measured on real dates
    assert cloud.sum() == 36


@pytest.mark.parametrize(
    "scene_class", [0, 1, 3, 8, 9, 10, 11, 8.5, 9.0001, 12, 25, 255, -1, np.nan]
)
def test_scene_classes_that_hide_the_surface_or_are_no_class_give_no_lai(
    cube: xr.DataArray, known: str, scene_class: float
) -> None:
    result = apply_datacube(with_bands(cube, SCL=scene_class), {"model": known})
    assert result.sel(bands="LAI").isnull().all()


@pytest.mark.parametrize("scene_class", [2, 4, 5, 7])
def test_scene_classes_that_show_the_surface_are_kept(
    cube: xr.DataArray, known: str, scene_class: int
) -> None:
    result = apply_datacube(with_bands(cube, SCL=scene_class), {"model": known})
    assert result.sel(bands="LAI").notnull().all()


@pytest.mark.parametrize("offset", [-0.1, -1000])
def test_offset_is_understood_in_reflectance_and_in_digital_numbers(
    cube: xr.DataArray, known: str, offset: float
) -> None:
    result = apply_datacube(
        to_digital_numbers(cube),
        {"model": known, "reflectance_scale": 1e-4, "reflectance_offset": offset},
    )
    expected = apply_datacube(cube, {"model": known})
    np.testing.assert_allclose(result.sel(bands="LAI"), expected.sel(bands="LAI"), atol=1e-3)


def test_angles_change_the_answer_and_gaps_in_them_do_not_break_it(
    cube: xr.DataArray, shipped: str
) -> None:
    nominal = apply_datacube(cube, {"model": shipped})
    steep = apply_datacube(
        with_bands(cube, **(ANGLE_DEGREES | {"sunZenithAngles": 65.0})), {"model": shipped}
    )
    gone = apply_datacube(
        with_bands(cube, **dict.fromkeys(ANGLE_DEGREES, np.nan)), {"model": shipped}
    )

    assert float(abs(steep - nominal).sel(bands="LAI").mean()) > 0.01
    np.testing.assert_allclose(gone.values, nominal.values, atol=1e-5)


@pytest.mark.parametrize(
    "angles",
    [
        (-9999.0,) * 4,
        (65535.0,) * 4,
        (0.0,) * 4,
        (0.61, 2.6, 0.1, 1.9),
        (3500.0, 150.0, 6.0, 110.0),
    ],
    ids=["fill", "saturated", "zero", "radians", "hundredths"],
)
def test_impossible_angles_are_missing_angles(
    cube: xr.DataArray, shipped: str, angles: tuple[float, ...]
) -> None:
    given = with_bands(cube, **dict(zip(ANGLE_DEGREES, angles, strict=True)))

    result = apply_datacube(given, {"model": shipped})

    np.testing.assert_allclose(
        result.values, apply_datacube(cube, {"model": shipped}).values, atol=1e-5
    )


def test_a_fill_value_in_one_angle_pixel_leaves_the_others_alone(
    cube: xr.DataArray, shipped: str
) -> None:
    zenith = np.full((64, 64), 65.0)
    zenith[0, 0] = 65535
    given = with_bands(cube, **(ANGLE_DEGREES | {"sunZenithAngles": zenith}))
    steep = with_bands(cube, **(ANGLE_DEGREES | {"sunZenithAngles": 65.0}))

    lai = apply_datacube(given, {"model": shipped}).sel(bands="LAI").values
    expected = apply_datacube(steep, {"model": shipped}).sel(bands="LAI").values

    np.testing.assert_allclose(lai[32:, 32:], expected[32:, 32:], atol=1e-5)
    assert np.isfinite(lai).all()


IMPOSSIBLE = [6.5535, -0.9999, -3.2768, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("number", IMPOSSIBLE)
@pytest.mark.parametrize("bands", [BANDS, BANDS[:3], ("B12",)])
def test_what_cannot_be_reflectance_is_no_data_and_flags_its_neighbours(
    cube: xr.DataArray, known: str, number: float, bands: tuple[str, ...]
) -> None:
    given = cube.copy()
    given.loc[{"bands": list(bands), "y": cube["y"][28:30], "x": cube["x"][28:30]}] = number

    result = apply_datacube(given, {"model": known})

    gone = result.sel(bands="LAI").isnull().values
    assert np.argwhere(gone).tolist() == [[28, 28], [28, 29], [29, 28], [29, 29]]
    near = (result.sel(bands="LAI_FLAGS").values.astype(int) & NO_DATA_NEAR)[8:-8, 8:-8]
    assert near[18:24, 18:24].all()
    assert np.count_nonzero(near) == 36


@pytest.mark.parametrize("fill", [0.0, -0.1, 0.0001, 1.0])
def test_a_spectrum_of_equal_numbers_is_no_data(
    cube: xr.DataArray, known: str, fill: float
) -> None:
    given = cube.copy()
    given[:, 5, 6] = fill
    lai = apply_datacube(given, {"model": known}).sel(bands="LAI").values
    assert np.argwhere(np.isnan(lai)).tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("bands", "is_data"),
    [(["B02"], True), (["B03", "B04"], True), (["B02", "B03", "B04"], False), (["B11"], False)],
)
def test_zero_reflectance_is_data_where_a_surface_can_be_black(
    cube: xr.DataArray, known: str, bands: list[str], is_data: bool
) -> None:
    given = cube.copy()
    given.loc[{"bands": bands, "y": cube["y"][5], "x": cube["x"][6]}] = 0.0
    lai = apply_datacube(given, {"model": known}).sel(bands="LAI").values
    assert np.isfinite(lai[5, 6]) == is_data


@pytest.mark.parametrize(("offset", "is_data"), [(0.0, True), (-0.1, False)])
def test_zero_is_measured_where_the_back_end_took_the_offset_off(
    cube: xr.DataArray, known: str, offset: float, is_data: bool
) -> None:
    """CDSE gives float32 with the offset applied: digital number 1000 is 0, fill is NaN."""
    given = np.round((cube - offset) * 10_000).astype("float32")
    given.loc[{"bands": "B02", "y": cube["y"][5], "x": cube["x"][6]}] = 0.0
    context = {"model": known, "reflectance_scale": 0.0001, "reflectance_offset": offset}
    lai = apply_datacube(given, context).sel(bands="LAI").values
    assert np.isfinite(lai[5, 6]) == is_data


def test_only_what_is_not_finite_is_no_data_with_plausibility_off(
    cube: xr.DataArray, known: str
) -> None:
    given = cube.copy()
    given[:, 5, 6] = 3.0
    given[:, 7, 8] = np.inf
    result = apply_datacube(given, {"model": known, "plausibility": "off"})
    lai = result.sel(bands="LAI").values
    assert np.argwhere(np.isnan(lai)).tolist() == [[7, 8]]


def test_water_has_no_lai_and_leaves_its_neighbours_alone(cube: xr.DataArray, known: str) -> None:
    scene_class = np.full((64, 64), 4)
    scene_class[20, 30] = 6
    plain = apply_datacube(cube, {"model": known})

    result = apply_datacube(with_bands(cube, SCL=scene_class), {"model": known})

    lai = result.sel(bands="LAI").values
    assert np.argwhere(np.isnan(lai)).tolist() == [[20, 30]]
    seen = np.isfinite(lai)
    np.testing.assert_array_equal(lai[seen], plain.sel(bands="LAI").values[seen])
    xr.testing.assert_equal(result.sel(bands="LAI_FLAGS"), plain.sel(bands="LAI_FLAGS"))


def test_bands_pass_through_unchanged_behind_the_estimated_ones(
    cube: xr.DataArray, known: str
) -> None:
    given = with_bands(cube, SCL=np.full((64, 64), 8))
    context = {"model": known, "bands": ["LAI"], "pass_through": ["SCL", "B02"]}

    result = apply_datacube(given, context)

    assert list(result["bands"].values) == ["LAI", "SCL", "B02"]
    np.testing.assert_array_equal(result[1:].values, given.sel(bands=["SCL", "B02"]).values)


def test_missing_band_is_named(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match=r"B05, B11 missing.*the cube has B02"):
        apply_datacube(cube.drop_sel(bands=["B05", "B11"]), {"model": known})


def test_whole_numbers_without_a_scale_are_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError) as caught:
        apply_datacube(to_digital_numbers(cube), {"model": known})
    assert caught.value.parameter == "reflectance_scale"


def test_a_chunk_of_digital_numbers_in_floats_is_no_data_and_no_error(
    cube: xr.DataArray, known: str
) -> None:
    result = apply_datacube(cube * 10_000, {"model": known})
    assert result.sel(bands="LAI").isnull().all()
    assert (result.sel(bands="LAI_FLAGS") == NO_DATA_NEAR).all()


def test_a_chunk_without_its_offset_is_not_refused(cube: xr.DataArray, known: str) -> None:
    numbers = to_digital_numbers(cube)
    result = apply_datacube(numbers, {"model": known, "reflectance_scale": 1e-4})
    assert result.sel(bands="LAI").notnull().all()


def test_unlabelled_bands_are_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError):
        apply_datacube(cube.drop_vars("bands"), {"model": known})


def test_foreign_dimensions_are_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError):
        apply_datacube(cube.rename(bands="dim_0"), {"model": known})
