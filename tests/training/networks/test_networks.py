"""Networks: how far they see, what masks do, and that a draw is one function of the scene."""

import keras
import numpy as np
import pytest

from lai_training.networks import SPECS, build_network


def _randomised(name: str) -> keras.Model:
    """A network whose weights, zeros included, are all random: nothing hides."""
    keras.utils.set_random_seed(4)
    model = build_network(name)
    rng = np.random.default_rng(4)
    for layer in model.layers:
        layer.set_weights(
            [w + 0.05 * rng.standard_normal(w.shape).astype("float32") for w in layer.get_weights()]
        )
    return model


@pytest.fixture(scope="module")
def mlp() -> keras.Model:
    return _randomised("mlp")


@pytest.fixture
def features(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((1, 16, 16, 14), dtype="float32")


def _lai(model: keras.Model, features: np.ndarray, masks: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model([features, masks]))


@pytest.mark.parametrize(("name", "size"), [("mlp", 16), ("paper", 256)])
def test_a_pixel_is_felt_no_farther_than_the_spec_promises(name, size, rng):
    model, spec, centre = _randomised(name), SPECS[name], size // 2
    image = rng.standard_normal((1, size, size, 14), dtype="float32")
    ones = np.ones((1, spec.mask_count), "float32")
    reference, reach = _lai(model, image, ones), 0

    for phase in {0, spec.window_multiple - 1}:  # the reach depends on the phase of the poolings
        at = centre + phase
        poked = image.copy()
        poked[0, at, at] += 100
        rows, columns = (_lai(model, poked, ones) != reference)[0, ..., 0].nonzero()
        reach = max(reach, int(abs(rows - at).max()), int(abs(columns - at).max()))

    assert reach <= spec.reach_px  # max pooling hides what is not largest


@pytest.mark.parametrize("name", ["mlp", "paper"])
def test_the_spec_counts_the_masks_that_the_network_takes(name):
    assert build_network(name).inputs[1].shape[-1] == SPECS[name].mask_count


@pytest.mark.parametrize("channel", [0, 7, 31])
def test_a_zero_mask_removes_its_channel(mlp, features, channel):
    spec = SPECS["mlp"]
    masks = np.ones((1, spec.mask_count), "float32")
    masks[0, sum(spec.mask_channels[:2]) + channel] = 0  # of head2, which `lai` reads
    without = keras.models.clone_model(mlp)
    without.set_weights(mlp.get_weights())
    kernel, bias = without.get_layer("lai").get_weights()
    kernel[:, :, channel] = 0
    without.get_layer("lai").set_weights([kernel, bias])

    dropped = _lai(mlp, features, masks)

    np.testing.assert_allclose(dropped, _lai(without, features, np.ones_like(masks)), atol=1e-5)
    assert abs(dropped - _lai(mlp, features, np.ones_like(masks))).max() > 1e-3


def test_all_masks_at_one_is_the_point_estimate_at_any_scale_of_the_batch(mlp, features):
    ones = np.ones((1, SPECS["mlp"].mask_count), "float32")

    twice = _lai(mlp, np.repeat(features, 2, axis=0), ones)

    np.testing.assert_allclose(twice[0], twice[1], atol=1e-6)  # float32: rows may round apart
    np.testing.assert_allclose(twice[:1], _lai(mlp, features, ones), atol=1e-6)


def test_one_image_broadcasts_against_all_draws(mlp, features, rng):
    masks = rng.choice([0, 1 / 0.9], (5, SPECS["mlp"].mask_count)).astype("float32")

    together = _lai(mlp, features, masks)

    one_by_one = np.concatenate([_lai(mlp, features, mask[None]) for mask in masks])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    assert together.std(axis=0).min() > 0


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(KeyError, match="resnet"):
        build_network("resnet")
