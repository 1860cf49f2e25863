"""The one-pass spread: it learns what draws show, and touches nothing else."""

import keras
import numpy as np
import pytest

from lai_training.learn.augmentation import draw_training_masks
from lai_training.learn.config import SampleConfig
from lai_training.learn.normalisation import measure_normalisation
from lai_training.learn.spread import distill_mc_dropout_sd, has_spread_head, measure_spread
from lai_training.networks import SEAMLESS, build_network


@pytest.fixture(scope="module")
def taught(land):
    """A network with random weights: (before, after, score) of teaching its spread."""
    keras.utils.set_random_seed(3)
    model = build_network("seamless")
    before = keras.models.clone_model(model)
    before.set_weights(model.get_weights())
    score = distill_mc_dropout_sd(
        model,
        land,
        measure_normalisation(land),
        SEAMLESS,
        SampleConfig(patch_px=32, batch=4),
        patches=40,
        seed=5,
    )
    return before, model, score


@pytest.fixture
def inputs(rng):
    features = rng.standard_normal((1, 32, 32, 14), dtype="float32")
    return features, np.ones((1, SEAMLESS.mask_count), "float32")


def test_one_pass_tells_the_spread_of_patches_it_was_not_taught_with(taught):
    _, _, score = taught

    assert score.patches == 40
    assert score.correlation > 0.8
    assert score.ratio == pytest.approx(1, abs=0.15)


def test_it_is_the_default_draws_that_one_pass_tells(taught):
    _, _, score = taught

    assert score.correlation > score.correlation_other_draws + 0.1


def test_teaching_the_spread_does_not_change_the_estimate_by_a_bit(taught, inputs):
    before, after, _ = taught

    np.testing.assert_array_equal(before(inputs)[0], after(inputs)[0])
    assert abs(before(inputs)[1] - after(inputs)[1]).numpy().max() > 0.01


def test_the_spread_of_the_draws_is_their_standard_deviation(taught, inputs, rng):
    _, model, _ = taught
    masks = draw_training_masks(6, SEAMLESS, 1.0, rng)
    lai_model = keras.Model(model.inputs, model.outputs[0])

    spread = measure_spread(lai_model, inputs[0][0], masks)

    draws = [lai_model([inputs[0], mask[None]]).numpy()[0, ..., 0] for mask in masks]
    np.testing.assert_allclose(spread, np.std(draws, axis=0, ddof=1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("seamless", True), ("mlp", False)])
def test_only_networks_with_both_layers_have_a_spread_head(name, expected):
    assert has_spread_head(build_network(name)) is expected
