"""What the UDF returns: clipping, flags, intervals, Monte-Carlo spread."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fake_cubes import make_bundle, make_field_calibration, with_bands

from lai_udf import default_bundle_path
from lai_udf.predict import apply_datacube, draw_masks

MODEL = str(default_bundle_path())


def uniform(lai: float) -> xr.DataArray:
    """Return a 6 x 8 px cube for which the network without reach estimates `lai` (10 x B8A)."""
    spectrum = np.full(10, 0.05, dtype="float32")
    spectrum[0], spectrum[7] = 0.04, lai / 10
    return xr.DataArray(
        np.broadcast_to(spectrum[:, None, None], (10, 6, 8)).copy(),
        dims=("bands", "y", "x"),
        coords={"bands": ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]},
    )


@pytest.fixture(scope="module")
def pointwise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the known bundle without any neighbourhood, correcting to field LAI by +0.3."""
    folder = tmp_path_factory.mktemp("pointwise")
    return str(
        make_bundle(
            folder / "pointwise.zip",
            reach_px=0,
            flags={"cloud_near_px": 0, "no_data_near_px": 0},
        )
    )


@pytest.mark.parametrize(
    ("network_lai", "lai", "flags"),
    [
        (4.0, 4.0, 0),
        (0.01, 0.01, 0),
        (-0.1, 0.0, 1 + 2),  # clipped, and a negative reflectance is out of domain
        (-0.25, -0.25, 1 + 8),  # beyond the tolerance: kept and flagged, as SNAP does
        (8.0, 8.0, 0),
        (8.1, 8.0, 4),
        (8.25, 8.25, 16),
        (10.5, 10.5, 1 + 16),
    ],
)
def test_lai_is_clipped_within_the_tolerance_and_flagged_beyond(
    pointwise: str, network_lai: float, lai: float, flags: int
) -> None:
    result = apply_datacube(uniform(network_lai), {"model": pointwise})

    np.testing.assert_allclose(result.sel(bands="LAI"), lai, atol=1e-5)
    assert set(result.sel(bands="LAI_FLAGS").values.ravel()) == {float(flags)}


def test_a_reflectance_of_zero_is_in_the_domain_whatever_the_arithmetic() -> None:
    cube = uniform(4.0)
    spectrum = [0.027, 0.0, 0.034, 0.062, 0.237, 0.326, 0.278, 0.423, 0.107, 0.096]  # B03 is 0
    cube[:] = np.array(spectrum, dtype="float32")[:, None, None]
    numbers = (np.round(cube * 1e4) + 1000).astype("uint16")
    declared = {"reflectance_scale": 1e-4, "reflectance_offset": -0.1}

    for encoded, context in (
        (cube, {}),
        (cube.where(cube != 0, np.float32(-7.5e-9)), {}),  # float32 arithmetic of the offset
        (numbers, declared),
    ):
        flags = apply_datacube(encoded, {"model": MODEL, **context}).sel(bands="LAI_FLAGS")
        assert not (flags.values.astype(int) & 1).any()


@pytest.mark.parametrize("network_lai", [-0.25, -0.1, 0.01, 0.2, 3.0, 8.1, 9.0])
def test_interval_holds_lai_and_never_goes_below_zero(pointwise: str, network_lai: float) -> None:
    result = apply_datacube(uniform(network_lai), {"model": pointwise})
    lai, lower, upper = (result.sel(bands=b).values for b in ("LAI", "LAI_LOWER", "LAI_UPPER"))

    assert (lower <= lai).all()
    assert (lai <= upper).all()
    assert (lower >= np.minimum(lai, 0)).all()


@pytest.mark.parametrize(
    ("settings", "half"),
    [
        ({}, 0.95 * 0.5),
        ({"level": 0.5}, 0.5 * 0.5),
        ({"level": 0.79}, 0.79 * 0.5),
        ({"region": "new"}, 2 * 0.95 * 0.5),
    ],
)
def test_interval_is_the_calibrated_one(
    pointwise: str, settings: dict[str, object], half: float
) -> None:
    result = apply_datacube(uniform(4.0), {"model": pointwise, "target": "field", **settings})

    np.testing.assert_allclose(result.sel(bands="LAI"), 4.3, atol=1e-5)
    np.testing.assert_allclose(result.sel(bands="LAI_LOWER"), 4.3 - half, atol=1e-5)
    np.testing.assert_allclose(result.sel(bands="LAI_UPPER"), 4.3 + half, atol=1e-5)


def test_either_target_has_the_same_interval_of_field_lai(pointwise: str) -> None:
    sl2p, field = (
        apply_datacube(uniform(4.0), {"model": pointwise, "target": target})
        for target in ("sl2p", "field")
    )

    np.testing.assert_allclose(sl2p.sel(bands="LAI"), 4.0, atol=1e-5)
    for band in ("LAI_LOWER", "LAI_UPPER"):
        np.testing.assert_array_equal(sl2p.sel(bands=band), field.sel(bands=band))


def test_nothing_is_corrected_out_of_the_domain(pointwise: str) -> None:
    result = apply_datacube(uniform(10.5), {"model": pointwise, "target": "field"})
    np.testing.assert_allclose(result.sel(bands="LAI"), 10.5, atol=1e-5)


def test_missing_angles_take_the_correction_that_does_without(tmp_path: Path) -> None:
    calibration = make_field_calibration(0.3)
    calibration["without_sun"]["correction"]["constant"] = -0.2
    bundle = make_bundle(
        tmp_path / "b.zip", reach_px=0, calibration={"variables": {"LAI": calibration}}
    )
    plain = uniform(4.0)
    angles = with_bands(plain, sunZenithAngles=30.0)

    found = [
        apply_datacube(cube, {"model": str(bundle), "target": "field", "bands": ["LAI"]})
        for cube in (plain, angles)
    ]

    np.testing.assert_allclose(found[0], 3.8, atol=1e-5)
    np.testing.assert_allclose(found[1], 4.3, atol=1e-5)


def test_spread_of_one_pass_is_what_the_network_estimates(pointwise: str) -> None:
    result = apply_datacube(uniform(4.0), {"model": pointwise})
    np.testing.assert_allclose(result.sel(bands="LAI_SD"), 0.25)


def test_spread_of_draws_is_the_sample_standard_deviation(pointwise: str) -> None:
    # A draw multiplies LAI by its first mask: 0 (dropped) or 2 (kept at a rate of 0.5).
    masks = draw_masks({"masks": {"rate": 0.5, "count": 4}}, 8, 11)
    expected = np.std(4.0 * masks[:, 0], ddof=1)

    result = apply_datacube(uniform(4.0), {"model": pointwise, "samples": 8, "seed": 11})

    np.testing.assert_allclose(result.sel(bands="LAI_SD"), expected, rtol=1e-5)
    np.testing.assert_allclose(result.sel(bands="LAI"), 4.0, rtol=1e-6)  # the draws leave LAI alone


def test_draws_are_channel_masks_of_mean_one() -> None:
    masks = draw_masks({"masks": {"rate": 0.2, "count": 50}}, 400, 0)

    assert set(np.unique(masks)) == {np.float32(0), np.float32(1.25)}
    assert masks.mean() == pytest.approx(1, abs=0.02)


def test_seed_alone_decides_the_draws(cube: xr.DataArray, shipped: str) -> None:
    def spread(seed: int) -> np.ndarray:
        context = {"model": shipped, "samples": 3, "seed": seed, "bands": ["LAI_SD"]}
        return apply_datacube(cube, context).values

    np.testing.assert_array_equal(spread(1), spread(1))
    assert not np.array_equal(spread(1), spread(2))


def test_more_draws_begin_with_the_same_ones() -> None:
    contract = {"masks": {"rate": 0.2, "count": 7}}
    np.testing.assert_array_equal(draw_masks(contract, 3, 9), draw_masks(contract, 30, 9)[:3])


def test_shipped_network_keeps_its_promises(cube: xr.DataArray, shipped: str) -> None:
    result = apply_datacube(cube, {"model": shipped})
    lai, sd, lower, upper = (
        result.sel(bands=b).values for b in ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER")
    )
    cover = cube.sel(bands="B8A").values - cube.sel(bands="B04").values

    assert np.corrcoef(lai.ravel(), cover.ravel())[0, 1] > 0.8  # more green, more leaves
    assert (sd >= 0).all()
    assert (lower <= lai).all()
    assert (lai <= upper).all()
    assert (lower >= 0).all()


def test_bands_come_as_asked(cube: xr.DataArray, known: str, tmp_path: Path) -> None:
    everything = apply_datacube(cube, {"model": known})
    asked = apply_datacube(cube, {"model": known, "bands": ["LAI_UPPER", "LAI"]})

    assert list(asked["bands"].values) == ["LAI_UPPER", "LAI"]
    xr.testing.assert_identical(asked, everything.sel(bands=["LAI_UPPER", "LAI"]))
