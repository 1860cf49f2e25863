"""What the UDF reads: bands by name, scaling, masks, context; what it refuses, and how."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fake_cubes import ANGLE_DEGREES, fake_cube, make_bundle, to_digital_numbers, with_bands

from lai_udf.predict import (
    OUTPUT_BANDS,
    LaiInputError,
    LaiModelError,
    apply_datacube,
    count_threads,
)

SCALED = {"reflectance_scale": 1e-4, "reflectance_offset": -0.1}


def test_lai_is_what_the_known_network_says(cube: xr.DataArray, known: str) -> None:
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


def test_window_without_data_is_flagged_and_not_an_error(cube: xr.DataArray, known: str) -> None:
    result = apply_datacube(cube * np.float32(np.nan), {"model": known})

    assert result.sel(bands=list(OUTPUT_BANDS[:4])).isnull().all()
    assert (result.sel(bands="LAI_FLAGS") == 64).all()


def test_cloud_becomes_no_data_and_is_flagged_within_reach(cube: xr.DataArray, known: str) -> None:
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
    assert cloud[19:23, 29:33].all()  # the reach of the known network is 1 px
    assert cloud.sum() == 16


@pytest.mark.parametrize("scene_class", [1, 3, 8, 9, 10, 11])
def test_scene_classes_that_hide_the_surface_are_masked(
    cube: xr.DataArray, known: str, scene_class: int
) -> None:
    result = apply_datacube(with_bands(cube, SCL=scene_class), {"model": known})
    assert result.sel(bands="LAI").isnull().all()


@pytest.mark.parametrize("scene_class", [2, 4, 5, 6, 7])
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


def test_angles_in_radians_times_a_thousand_are_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match=r"sunZenithAngles.*degrees"):
        apply_datacube(
            with_bands(cube, **(ANGLE_DEGREES | {"sunZenithAngles": 3500.0})), {"model": known}
        )


def test_missing_band_is_named(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match=r"B05, B11 missing.*the cube has B02"):
        apply_datacube(cube.drop_sel(bands=["B05", "B11"]), {"model": known})


def test_percent_declared_as_reflectance_is_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match=r"in percent\? Then set reflectance_scale=0\.01"):
        apply_datacube(cube * 100, {"model": known})


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("4,2", 4), ("0", 1)])
def test_openmp_says_how_many_blocks_are_in_work(
    monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert count_threads() == threads


def test_all_cores_are_used_where_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert count_threads() >= 1
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    assert count_threads() >= 1


def test_digital_numbers_declared_as_reflectance_are_refused(
    cube: xr.DataArray, known: str
) -> None:
    with pytest.raises(LaiInputError, match=r"digital numbers; set reflectance_scale=0\.0001"):
        apply_datacube(to_digital_numbers(cube), {"model": known})


def test_reflectance_scaled_like_digital_numbers_is_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match="applied twice"):
        apply_datacube(cube, {"model": known, "reflectance_scale": 1e-4})


def test_forgotten_offset_is_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match=r"reflectance_offset=-0\.1"):
        apply_datacube(to_digital_numbers(cube), {"model": known, "reflectance_scale": 1e-4})


def test_offset_applied_twice_is_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match="applied twice"):
        apply_datacube(cube, {"model": known, "reflectance_offset": -0.1})


def test_vegetation_under_haze_is_no_forgotten_offset(cube: xr.DataArray, known: str) -> None:
    # Haze adds most to blue, least to the short-wave infrared.
    added = [0.16, 0.14, 0.12, 0.11, 0.08, 0.07, 0.06, 0.06, 0.03, 0.02]
    haze = xr.DataArray(np.array(added, dtype="float32"), dims="bands")
    result = apply_datacube((cube + haze).transpose(*cube.dims), {"model": known})
    assert result.sel(bands="LAI").notnull().all()


def test_a_few_odd_pixels_prove_nothing_about_the_scaling(cube: xr.DataArray, known: str) -> None:
    edge = cube - np.float32(0.1)
    edge[:, :, 1:] = np.nan  # 64 px high, one column: the edge of a swath
    edge[:, 0, 0] = np.nan
    assert apply_datacube(edge, {"model": known}).sel(bands="LAI").notnull().sum() == 63


def test_unlabelled_bands_are_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match="no band labels"):
        apply_datacube(cube.drop_vars("bands"), {"model": known})


def test_foreign_dimensions_are_refused(cube: xr.DataArray, known: str) -> None:
    with pytest.raises(LaiInputError, match="dim_0"):
        apply_datacube(cube.rename(bands="dim_0"), {"model": known})


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"modell": "x"}, "unknown context key modell: use model"),
        ({"target": "snap"}, 'target must be "sl2p" or "field"'),
        ({"samples": 1}, "samples must be 0, or a whole number from 2 to 1000, not 1$"),
        ({"samples": 30.0}, "samples must be .* not 30.0"),
        ({"samples": -3}, "samples must be"),
        ({"samples": 100_000}, "samples must be"),
        ({"samples": True}, "samples must be"),
        ({"bands": ["LAI", "NDVI"]}, "bands must be some of LAI, LAI_SD"),
        ({"bands": []}, "bands must be some of"),
        ({"bands": 3}, "bands"),
        ({"reflectance_scale": 0}, "reflectance_scale must be a number above 0, not 0$"),
        ({"reflectance_scale": "tenth"}, "reflectance_scale must be"),
        ({"reflectance_offset": float("nan")}, "reflectance_offset must be a number"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**128}, "seed must be"),
        ({"overlap": 1.5}, "overlap must be"),
        ({"model": 3}, "model must be the path of a bundle"),
    ],
)
def test_wrong_context_is_one_sentence(
    cube: xr.DataArray, known: str, context: dict[str, object], message: str
) -> None:
    with pytest.raises(LaiInputError, match=message):
        apply_datacube(cube, {"model": known} | context)


def test_bundle_with_a_flipped_byte_fails_its_checksum(
    cube: xr.DataArray, known: str, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(known) as good, zipfile.ZipFile(damaged, "w") as bad:
        weights = bytearray(good.read("model.onnx"))
        weights[len(weights) // 2] ^= 1
        bad.writestr("model.json", good.read("model.json"))
        bad.writestr("model.onnx", bytes(weights))

    with pytest.raises(LaiModelError, match=r"damaged\.zip: model\.onnx fails its checksum"):
        apply_datacube(cube, {"model": str(damaged)})


@pytest.mark.parametrize("content", [None, b"no zip at all"])
def test_missing_or_foreign_bundle_is_named(
    cube: xr.DataArray, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bundle.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LaiModelError, match=r"bundle\.zip.*cannot be read.*context\['model'\]"):
        apply_datacube(cube, {"model": str(path)})


def test_truncated_bundle_is_named(cube: xr.DataArray, known: str, tmp_path: Path) -> None:
    path = tmp_path / "half.zip"
    path.write_bytes(Path(known).read_bytes()[:-200])
    with pytest.raises(LaiModelError, match=r"half\.zip.*cannot be read"):
        apply_datacube(cube, {"model": str(path)})


def test_bundle_may_be_an_unpacked_folder(cube: xr.DataArray, known: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(known) as archive:
        archive.extractall(tmp_path / "lai_model")

    folder = apply_datacube(cube, {"model": str(tmp_path / "lai_model")})

    xr.testing.assert_identical(folder, apply_datacube(cube, {"model": known}))


def test_bundle_without_a_field_correction_says_so(cube: xr.DataArray, tmp_path: Path) -> None:
    knots = {"lai": [0.0, 8.0], "lower": [-1.0, -1.0], "upper": [1.0, 1.0]}
    bundle = make_bundle(
        tmp_path / "plain.zip", calibration={"intervals": {"sl2p": knots, "field": knots}}
    )
    with pytest.raises(LaiModelError, match='target="sl2p"'):
        apply_datacube(cube, {"model": str(bundle), "target": "field"})
