"""Networks: how far they see, what masks do, and that a draw is one function of the scene."""

import keras
import numpy as np
import pytest

from lai_training.learn.recipe import load_start, widen
from lai_training.networks import SPECS, build_network, measure_reach_px


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
def seamless() -> keras.Model:
    return _randomised("seamless")


@pytest.fixture
def features(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((1, 16, 16, 14), dtype="float32")


def _lai(model: keras.Model, features: np.ndarray, masks: np.ndarray) -> np.ndarray:
    outputs = model([features, masks])
    lai = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    return keras.ops.convert_to_numpy(lai)


@pytest.mark.parametrize(("name", "size"), [("seamless", 64), ("mlp", 16)])
def test_the_measured_reach_is_what_the_spec_promises(name, size):
    assert measure_reach_px(_randomised(name), size=size) == SPECS[name].reach_px


def test_the_reach_of_the_default_network_fits_into_the_overlap():
    assert SPECS["seamless"].reach_px <= 16


@pytest.mark.parametrize("name", ["seamless", "mlp", "paper"])
def test_the_spec_counts_the_masks_that_the_network_takes(name):
    assert build_network(name).inputs[1].shape[-1] == SPECS[name].mask_count


@pytest.mark.parametrize("channel", [0, 7, 31])
def test_a_zero_mask_removes_its_channel(seamless, features, channel):
    spec = SPECS["seamless"]
    masks = np.ones((1, spec.mask_count), "float32")
    masks[0, sum(spec.mask_channels[:2]) + channel] = 0  # of head2, which `lai` reads
    without = keras.models.clone_model(seamless)
    without.set_weights(seamless.get_weights())
    kernel, bias = without.get_layer("lai").get_weights()
    kernel[:, :, channel] = 0
    without.get_layer("lai").set_weights([kernel, bias])

    dropped = _lai(seamless, features, masks)

    np.testing.assert_allclose(dropped, _lai(without, features, np.ones_like(masks)), atol=1e-5)
    assert abs(dropped - _lai(seamless, features, np.ones_like(masks))).max() > 1e-3


def test_all_masks_at_one_is_the_point_estimate_at_any_scale_of_the_batch(seamless, features):
    ones = np.ones((1, SPECS["seamless"].mask_count), "float32")

    twice = _lai(seamless, np.repeat(features, 2, axis=0), ones)

    np.testing.assert_allclose(twice[0], twice[1])
    np.testing.assert_allclose(twice[:1], _lai(seamless, features, ones), atol=1e-6)


def test_one_image_broadcasts_against_all_draws(seamless, features, rng):
    masks = rng.choice([0, 1 / 0.9], (5, SPECS["seamless"].mask_count)).astype("float32")

    together = _lai(seamless, features, masks)

    one_by_one = np.concatenate([_lai(seamless, features, mask[None]) for mask in masks])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    assert together.std(axis=0).min() > 0


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(KeyError, match="resnet"):
        build_network("resnet")


# Keras' own saving meets TensorFlow's arrays, which do not know NumPy's `copy` yet
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_wider_network_begins_as_the_narrower_one_that_it_starts_from(features, tmp_path):
    narrow = _randomised("seamless_narrow")
    narrow.save(tmp_path / "best.keras")
    wide = build_network("seamless")

    load_start(wide, tmp_path)

    ones = np.ones((1, SPECS["seamless"].mask_count), "float32")
    np.testing.assert_allclose(_lai(wide, features, ones), _lai(narrow, features, ones), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 8, 4), (3, 3, 9, 4), (3, 3, 8, 5), (4,)])
def test_weights_that_do_not_nest_are_refused(shape):
    with pytest.raises(ValueError, match="do not fit"):
        widen(np.zeros((3, 3, 8, 4)), np.zeros(shape))
