"""The verdict on the scaling of a whole scene or series."""

import numpy as np
import pytest
from fake_cubes import SOIL, VEGETATION

from lai_udf.guard import MIN_DATES, find_wrong_scaling, judge_in_time
from lai_udf.predict import LaiInputError

HAZE = np.array([0.16, 0.14, 0.12, 0.11, 0.08, 0.07, 0.06, 0.06, 0.03, 0.02])


def scene(rng: np.random.Generator, added: float | np.ndarray = 0.0) -> np.ndarray:
    """Return (10, 1024) reflectance of soil, vegetation and their mixtures."""
    cover = rng.random(1024)
    spectra = np.outer(SOIL, 1 - cover) + np.outer(VEGETATION, cover)
    noisy = spectra * (1 + 0.02 * rng.standard_normal(spectra.shape))
    return (noisy + np.reshape(added, (-1, 1))).astype("float32")


def parameter_of(error: LaiInputError | None) -> str | None:
    return error and error.parameter


def test_right_scaling_is_accepted(rng: np.random.Generator) -> None:
    assert find_wrong_scaling(scene(rng)) is None


def test_a_forgotten_offset_is_found(rng: np.random.Generator) -> None:
    assert parameter_of(find_wrong_scaling(scene(rng, 0.1))) == "reflectance_offset"


def test_a_known_offset_is_never_judged(rng: np.random.Generator) -> None:
    assert find_wrong_scaling(scene(rng, 0.1), offset_is_known=True) is None


def test_a_hazy_scene_is_no_forgotten_offset(rng: np.random.Generator) -> None:
    assert find_wrong_scaling(scene(rng, HAZE)) is None


def test_one_clear_date_acquits_a_hazy_series(rng: np.random.Generator) -> None:
    series = np.stack([scene(rng, 0.1), scene(rng)], axis=1)  # (10, t, px)
    assert find_wrong_scaling(series) is None


def test_hidden_pixels_do_not_acquit(rng: np.random.Generator) -> None:
    shifted = scene(rng, 0.1)
    shifted[:, :100] = 0.05  # shadow
    scene_class = np.full(1024, 4)
    scene_class[:100] = 3
    assert find_wrong_scaling(shifted) is None
    assert parameter_of(find_wrong_scaling(shifted, scene_class)) == "reflectance_offset"


def test_an_offset_applied_twice_is_found(rng: np.random.Generator) -> None:
    assert parameter_of(find_wrong_scaling(scene(rng, -0.1))) == "reflectance_offset"


@pytest.mark.parametrize("factor", [100, 10_000, 1e-4])
def test_a_wrong_scale_is_found_even_if_the_offset_is_known(
    rng: np.random.Generator, factor: float
) -> None:
    error = find_wrong_scaling(scene(rng) * np.float32(factor), offset_is_known=True)
    assert parameter_of(error) == "reflectance_scale"


def test_a_few_pixels_at_the_edge_of_a_swath_prove_nothing(rng: np.random.Generator) -> None:
    shifted = scene(rng, -0.1)
    shifted[:, 63:] = np.nan
    assert find_wrong_scaling(shifted) is None


def test_a_known_offset_is_doubted_in_no_part_of_a_series(rng: np.random.Generator) -> None:
    dates = [scene(rng)] * MIN_DATES + [scene(rng, 0.1)] * MIN_DATES
    series = dict(enumerate(dates))
    assert judge_in_time(series, offset_is_known=True) == {}
    assert sorted(judge_in_time(series)) == list(range(MIN_DATES, 2 * MIN_DATES))


def test_advice_counts_the_scale_that_was_applied(rng: np.random.Generator) -> None:
    error = find_wrong_scaling(scene(rng) * np.float32(100), scale=0.01)
    assert error is not None
    assert float(error.expected or "nan") == 1e-4
