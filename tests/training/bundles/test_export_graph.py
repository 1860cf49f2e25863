"""The lean graphs are the network: they say what Keras says, point by point and draw by draw."""

import zipfile

import keras
import numpy as np
import onnxruntime
import pytest
from fake_cubes import fake_cube

from lai_training.bundles.export import build_graphs, list_members, write_members
from lai_training.bundles.graphs import build_paper_graphs
from lai_training.bundles.model_item import describe_model
from lai_training.learn.config import FitConfig
from lai_training.learn.pools import measure_normalisation
from lai_training.learn.run_folder import write_provenance
from lai_training.networks import PAPER, build_network
from lai_udf.predict import (
    LaiModelError,
    Model,
    apply_datacube,
    iterate_passes,
    load_model,
)

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


def test_a_pruned_draw_of_the_paper_is_its_network_with_masks_up_to_the_border(paper, rng):
    pruned = Model(build_paper_graphs(paper), {}, np.empty(0), {}, {})
    features = rng.standard_normal((1, 14, 32, 48), dtype="float32")
    masks = rng.choice([0, 2], (4, PAPER.mask_count)).astype("float32")
    masks[1] = 1  # nothing is dropped
    masks[2, : PAPER.mask_channels[0]] = 0  # a layer of which nothing is left

    draws = np.concatenate(list(iterate_passes(features, pruned, masks)))

    expected = np.asarray(paper([features.transpose(0, 2, 3, 1), masks])).transpose(0, 3, 1, 2)
    scale = np.abs(expected).mean()
    np.testing.assert_allclose(draws / scale, expected / scale, atol=TOLERANCE)
    assert np.ptp(draws / scale, axis=0).mean() > 0.1  # the draws do differ


def test_what_a_draw_drops_is_not_computed(paper, tmp_path):
    content = build_paper_graphs(paper)["draw"]
    sizes = []
    for kept in (0.2, 1.0):
        masks = np.random.default_rng(1).random(PAPER.mask_count) < kept
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        values = onnxruntime.OrtValue.ortvalue_from_numpy(masks.astype("float32"))
        options.add_external_initializers(["masks"], [values])
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        sizes.append((tmp_path / "optimised.onnx").stat().st_size)

    assert sizes[0] < 0.4 * sizes[1]


def test_other_networks_have_the_one_graph():
    assert list(build_graphs(build_network("mlp"))) == ["model"]


@pytest.fixture(scope="module")
def graphs(paper):
    return build_graphs(paper)


@pytest.fixture(scope="module")
def bundles(graphs, land, tmp_path_factory):
    """Return a bundle with lean graphs and one of the same network without."""
    folder = tmp_path_factory.mktemp("bundles")
    config = FitConfig.model_validate(CONFIG)
    write_provenance(config, measure_normalisation(land), folder)
    paths = []
    for name, kept in (("lean", graphs), ("plain", {"model": graphs["model"]})):
        description = describe_model(folder, kept, version="1.0.0")
        paths.append(write_members(folder / f"{name}.zip", list_members(description, kept)))
    return paths


@pytest.mark.parametrize("samples", [0, 3])
def test_the_udf_says_the_same_with_and_without_them(bundles, rng, samples):
    cube = fake_cube(rng, (40, 52)).isel(t=0, drop=True)

    lean, plain = (
        apply_datacube(cube, {"model": str(bundle), "samples": samples, "seed": 2})
        for bundle in bundles
    )

    np.testing.assert_allclose(lean, plain, atol=TOLERANCE)


def test_a_damaged_lean_graph_is_refused(bundles, graphs, tmp_path):
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(bundles[0]) as good, zipfile.ZipFile(damaged, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name) + (b"!" if name == "draw.onnx" else b""))

    with pytest.raises(LaiModelError, match=r"draw\.onnx fails its checksum"):
        load_model(str(damaged))
