"""Ten metres, five variables, SL2P exact inside: bundles of contract 2, and what they refuse."""

import numpy as np
import pytest
import xarray as xr
from fake_cubes import fake_cube

from lai_training import sl2p
from lai_udf.predict import (
    BANDS,
    COARSE_ROWS,
    RESIDUAL_CLOUD,
    VARIABLES,
    LaiInputError,
    LaiModelError,
    PredictOptions,
    apply_datacube,
    clear_inputs,
    find_phase,
    iterate_estimates,
    join_blocks,
    load_model,
)

FIVE = list(VARIABLES)
SNAP_BITS = 31


def ten_metre_cube(rng: np.random.Generator, side: int = 96) -> xr.DataArray:
    """Return reflectance on a 10 m grid, (bands, y, x), 20 m bands in blocks of 2x2 pixels."""
    cube = fake_cube(rng, side=side).isel(t=0, drop=True).sel(bands=list(BANDS)).copy()
    for row in COARSE_ROWS:
        means = cube.values[row].reshape(side // 2, 2, side // 2, 2).mean(axis=(1, 3))
        cube.values[row] = means.repeat(2, axis=0).repeat(2, axis=1)
    return halve_pixels(cube)


def halve_pixels(cube: xr.DataArray) -> xr.DataArray:
    """Return the cube with the coordinates of a 10 m grid."""
    steps = {axis: 10.0 * np.arange(cube.sizes[axis]) for axis in ("y", "x")}
    return cube.assign_coords(y=5e6 - steps["y"], x=6e5 + steps["x"])


def predict(cube: xr.DataArray, shipped: str, **context: object) -> dict[str, np.ndarray]:
    result = apply_datacube(cube, {"model": shipped, **context})
    return {str(band): result.sel(bands=band).values for band in result["bands"].values}


def test_snap_bits_of_every_variable_are_sl2ps_of_the_input(cube, shipped):
    cube[:, 10:20] *= 2.2  # out of domain, and beyond the range
    cube[:, 30:34] *= 0.1
    bands = [f"{variable}_FLAGS" for variable in FIVE]
    found = predict(cube, shipped, variables=FIVE, bands=bands)

    for variable in FIVE:
        _, flags = sl2p.predict_image(cube, variable=variable)
        assert variable == "FCOVER" or len(np.unique(flags)) > 1, variable
        assert (found[f"{variable}_FLAGS"].astype("uint8") & SNAP_BITS == flags).mean() > 0.999


def test_values_at_20_m_stay_close_to_sl2p(cube, shipped):
    found = predict(cube, shipped, variables=FIVE)

    for variable in FIVE:
        value, flags = sl2p.predict_image(cube, variable=variable)
        inner = np.zeros(flags.shape, dtype=bool)
        inner[4:-4, 4:-4] = True
        inner &= flags == 0
        assert np.corrcoef(found[variable][inner], value[inner])[0, 1] > 0.99, variable


def test_where_the_body_corrects_nothing_the_value_is_sl2ps(cube, shipped):
    model = load_model(shipped)
    silent = type(model.bodies[20])(
        model.bodies[20].graph, model.bodies[20].contract, model.bodies[20].readout * 0
    )
    model = type(model)(
        model.graphs, model.contract, model.domain_bits, {20: silent}, model.readers
    )
    reflectance = cube.sel(bands=list(BANDS)).values.astype("float32")
    nominal = np.array([1.0, 0.76604444, 0.0], dtype="float32")[:, None, None]
    inputs = clear_inputs(reflectance, nominal)
    [(_, found)] = iterate_estimates(inputs, model, PredictOptions(), FIVE)

    for variable in FIVE:
        value, _ = sl2p.predict_image(cube, variable=variable, clip=False)
        scale = VARIABLES[variable].scale
        np.testing.assert_allclose(found[variable], value, atol=2 * scale, rtol=1e-3)


def test_the_mean_of_a_block_gives_back_the_20_m_bands(rng, shipped):
    cube = ten_metre_cube(rng)
    nominal = np.array([1.0, 0.76604444, 0.0], dtype="float32")[:, None, None]
    inputs = clear_inputs(cube.values.astype("float32"), nominal)
    settings = PredictOptions(model=shipped, resolution=10)
    pixels = iterate_estimates(inputs, load_model(shipped), settings, ["LAI"])
    restored = join_blocks([found["spectrum"] for _, found in pixels], 2)

    def mean(image: np.ndarray) -> np.ndarray:
        return image.reshape(10, 48, 2, 48, 2).mean(axis=(2, 4))

    np.testing.assert_allclose(mean(restored), mean(cube.values), atol=2e-6)
    fine = [row for row in range(10) if row not in COARSE_ROWS]
    np.testing.assert_array_equal(restored[fine], inputs.reflectance[fine])
    assert np.abs(restored - cube.values)[COARSE_ROWS].max() > 1e-3


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1)])
def test_a_window_that_begins_inside_a_block_gives_the_same_lai(rng, shipped, shift):
    cube = ten_metre_cube(rng)
    whole = predict(cube, shipped, resolution=10)["LAI"]
    row, column = shift
    part = predict(cube[:, row:, column:], shipped, resolution=10)["LAI"]

    assert part.shape == (96 - row, 96 - column)
    inner = np.s_[16:-16, 16:-16]
    np.testing.assert_allclose(part[inner], whole[row:, column:][inner], atol=1e-4)


def test_windows_with_overlap_meet_without_seams_at_10_m(rng, shipped):
    cube = ten_metre_cube(rng)
    whole = predict(cube, shipped, resolution=10)["LAI"]
    part = predict(cube[:, 13:77, 9:73], shipped, resolution=10, overlap=16)["LAI"]

    np.testing.assert_allclose(part[16:-16, 16:-16], whole[29:61, 25:57], atol=1e-4)


def test_a_cube_of_uniform_values_has_any_phase():
    assert find_phase([np.full((1, 8, 8), 0.2, dtype="float32")]) == (0, 0)


def test_bands_resampled_otherwise_than_by_nearest_neighbour_are_refused(rng, shipped):
    with pytest.raises(LaiInputError) as caught:
        predict(halve_pixels(fake_cube(rng, side=64).isel(t=0, drop=True)), shipped, resolution=10)

    assert caught.value.parameter == "resolution"


def test_a_mixed_grid_whose_phase_changes_is_refused(rng, shipped):
    cube = ten_metre_cube(rng)
    reprojected = cube.isel(x=[*range(40), *range(41, 96)])  # a column lost on the way

    with pytest.raises(LaiInputError) as caught:
        predict(reprojected, shipped, resolution=10)

    assert caught.value.parameter == "resolution"


@pytest.mark.parametrize(
    ("context", "parameter"),
    [({"resolution": 10}, "resolution"), ({"variables": ["LAI", "CWC"]}, "variables")],
)
def test_a_bundle_of_the_first_contract_gives_lai_at_20_m_only(cube, known, context, parameter):
    assert np.isfinite(predict(cube, known)["LAI"]).any()
    cube = halve_pixels(cube) if "resolution" in context else cube
    with pytest.raises(LaiModelError) as caught:
        predict(cube, known, **context)

    assert caught.value.parameter == parameter


@pytest.mark.parametrize(("metres", "resolution"), [(10, 20), (20, 10)])
def test_a_cube_of_the_other_resolution_is_refused(rng, shipped, metres, resolution):
    cube = ten_metre_cube(rng) if metres == 10 else fake_cube(rng).isel(t=0, drop=True)

    with pytest.raises(LaiInputError) as caught:
        predict(cube, shipped, resolution=resolution)

    assert (caught.value.parameter, caught.value.expected) == ("resolution", str(metres))


@pytest.mark.parametrize(
    "context", [{"resolution": 15}, {"variables": ["BIOMASS"]}, {"variables": []}]
)
def test_unknown_variables_and_resolutions_are_refused(cube, shipped, context):
    with pytest.raises(LaiInputError) as caught:
        predict(cube, shipped, **context)

    assert caught.value.parameter == next(iter(context))


def test_draws_show_the_spread_that_one_pass_works_out(cube, shipped):
    one_pass = predict(cube, shipped)
    drawn = predict(cube, shipped, samples=400)
    fine = ten_metre_cube(np.random.default_rng(3))
    coarse_pass = predict(fine, shipped, resolution=10)
    coarse_drawn = predict(fine, shipped, resolution=10, samples=400)

    for worked_out, spread in ((one_pass, drawn), (coarse_pass, coarse_drawn)):
        ratio = worked_out["LAI_SD"][8:-8, 8:-8] / spread["LAI_SD"][8:-8, 8:-8]
        assert np.median(ratio) == pytest.approx(1, abs=0.05)
        np.testing.assert_array_equal(worked_out["LAI"], spread["LAI"])


def test_haze_is_suspected_and_clear_leaves_are_not(shipped):
    leaves = [0.03, 0.05, 0.04, 0.10, 0.25, 0.32, 0.33, 0.35, 0.18, 0.09]
    cube = xr.DataArray(
        np.tile(np.array(leaves, dtype="float32")[:, None, None], (1, 32, 32)),
        dims=("bands", "y", "x"),
        coords={"bands": list(BANDS)},
    )
    hazy = cube.copy()
    hazy[:3] += 0.08  # haze brightens the visible first
    bits = [
        predict(each, shipped)["LAI_FLAGS"][8:-8, 8:-8].astype("uint8") & RESIDUAL_CLOUD
        for each in (cube, hazy)
    ]

    assert not bits[0].any()
    assert bits[1].all()
