"""Runs that are no bundles yet are evaluated by their best weights, uncalibrated."""

import json

import keras
import numpy as np
import pytest

from lai_training.evaluation.networks import open_networks
from lai_training.evaluation.scores import NOMINAL, REAL, Scene, run_case, tabulate_spread
from lai_training.networks import build_network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="export needs TensorFlow"),
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """A per-pixel network that was not fitted, as `lai-train fit` leaves one."""
    folder = tmp_path_factory.mktemp("runs") / "mlp"
    folder.mkdir()
    config = {
        "network": "mlp", "optimizer": "adamw", "learning_rate": 0.1, "epochs": 1,
        "samples": {"batch": 2},
    }  # fmt: skip
    constants = {"mean": [0.1] * 10, "std": [0.1] * 10, "limit": 8.0}
    provenance = {"config": config, "normalisation": constants}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    keras.utils.set_random_seed(0)
    build_network("mlp").save(folder / "best.keras")
    return folder


def test_a_run_is_a_network_without_intervals_and_without_a_one_pass_spread(run, scene):
    scored = np.zeros(scene.shape[1:], dtype=bool)
    scored[16:-16, 16:-16] = True
    field = Scene("field", REAL, scene, scored)

    with open_networks([run]) as (network,):
        pixels = run_case(field, NOMINAL, [network])
        spread = tabulate_spread([field], [network])

    assert network.name == "mlp (run mlp)"
    assert not network.contract["calibration"]
    assert np.isfinite(pixels.estimates[network.name]).all()
    assert spread["sd"].item() > 0
    assert np.isnan(spread["one_pass_sd"].item())
