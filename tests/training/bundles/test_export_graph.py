"""The exported UNet of the paper predicts as Keras does, point by point and draw by draw."""

import keras
import numpy as np
import onnxruntime
import pytest
from fake_cubes import fake_cube

from lai_training.bundles.export import build_graph, list_members, write_members
from lai_training.bundles.model_item import describe_model
from lai_training.learn.config import FitConfig
from lai_training.learn.pools import measure_normalisation
from lai_training.learn.run_folder import write_provenance
from lai_training.networks import PAPER, build_network
from lai_udf.predict import apply_datacube, draw_masks, load_model

TOLERANCE = 1e-4
CONFIG = {
    "network": "paper",
    "seed": 1,
    "pool": {"patches": 16, "size_px": 32, "seed": 7},
    "validation": {"patches": 8, "size_px": 32, "seed": 8},
    "samples": {"patch_px": 32, "batch": 4},
    "epochs": 1,
    "steps": 1,
    "learning_rate": 0.1,
}


@pytest.fixture(scope="module")
def paper() -> keras.Model:
    """Return the paper's network with normalisations and biases that do something."""
    keras.utils.set_random_seed(4)
    model = build_network("paper")
    rng = np.random.default_rng(4)
    for variable in model.variables:
        if len(variable.shape) == 1:  # a scale or a variance is positive
            variable.assign(variable + rng.uniform(0, 0.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def graph(paper) -> bytes:
    return build_graph(paper)


def test_a_draw_of_the_paper_is_its_network_with_masks_up_to_the_border(paper, graph, rng):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    features = rng.standard_normal((1, 14, 32, 48), dtype="float32")
    masks = rng.choice([0, 2], (4, PAPER.mask_count)).astype("float32")
    masks[1] = 1  # nothing is dropped
    masks[2, : PAPER.mask_channels[0]] = 0  # a layer of which nothing is left

    draws = np.concatenate(
        [session.run(None, {"features": features, "masks": mask[None]})[0] for mask in masks]
    )

    expected = np.asarray(paper([features.transpose(0, 2, 3, 1), masks])).transpose(0, 3, 1, 2)
    scale = np.abs(expected).mean()
    np.testing.assert_allclose(draws / scale, expected / scale, atol=TOLERANCE)
    assert np.ptp(draws / scale, axis=0).mean() > 0.1  # the draws do differ


def test_the_spread_in_the_udf_is_that_of_its_draws(graph, land, rng, tmp_path):
    config = FitConfig.model_validate(CONFIG)
    write_provenance(tmp_path, config, normalisation=measure_normalisation(land))
    description = describe_model(tmp_path, graph, version="1.0.0")
    bundle = write_members(tmp_path / "b.zip", list_members(description, {"model": graph}))
    cube = fake_cube(rng, (48, 64)).isel(t=0, drop=True)
    context = {"model": str(bundle), "bands": ["LAI", "LAI_SD"], "seed": 2}

    drawn = apply_datacube(cube, {**context, "samples": 3})
    plain = apply_datacube(cube, {**context, "samples": 0})

    np.testing.assert_array_equal(drawn.sel(bands="LAI"), plain.sel(bands="LAI"))
    assert len(draw_masks(load_model(str(bundle)).contract, 3, 2)) == 3
    assert np.nanmin(drawn.sel(bands="LAI_SD")) > 0
    assert plain.sel(bands="LAI_SD").isnull().all()  # it states none in a single pass
