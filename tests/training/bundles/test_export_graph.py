"""The lean graphs are the network: they say what Keras says, point by point and draw by draw."""

import zipfile

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from fake_cubes import fake_cube

from lai_training.bundles.export import export_onnx, write_bundle
from lai_training.bundles.graphs import build_lean_graphs
from lai_training.bundles.model_item import describe_model
from lai_training.bundles.release import NO_CALIBRATION
from lai_training.learn.config import FitConfig
from lai_training.learn.normalisation import measure_normalisation
from lai_training.learn.run_folder import write_provenance
from lai_training.networks import PAPER, SEAMLESS, build_network
from lai_udf.predict import (
    LaiModelError,
    Model,
    apply_datacube,
    iterate_passes,
    load_model,
)

TOLERANCE = 1e-4
CONFIG = {
    "network": "seamless",
    "seed": 1,
    "pool": {"patches": 16, "size_px": 32, "seed": 7},
    "validation": {"patches": 8, "size_px": 32, "seed": 8},
    "samples": {"patch_px": 32, "batch": 4},
    "epochs": 1,
    "steps": 1,
    "learning_rate": 0.1,
}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Return the default network, no weight of it zero: what a mistake could hide behind."""
    keras.utils.set_random_seed(3)
    model = build_network("seamless")
    rng = np.random.default_rng(3)
    for layer in model.layers:
        noisy = [w + 0.05 * rng.standard_normal(w.shape) for w in layer.get_weights()]
        layer.set_weights(noisy)
    return model


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory):
    return export_onnx(network, tmp_path_factory.mktemp("onnx") / "model.onnx")


def _run(content: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def _keras(network, features: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
    outputs = keras.tree.flatten(network([features.transpose(0, 2, 3, 1), masks]))
    return [np.asarray(output).transpose(0, 3, 1, 2) for output in outputs]


@pytest.mark.parametrize("name", ["point", "trunk"])
@pytest.mark.parametrize("shape", [(1, 14, 36, 20), (2, 14, 4, 44)])
def test_the_point_estimate_is_that_of_keras_up_to_the_border(network, graphs, rng, name, shape):
    features = rng.standard_normal(shape, dtype="float32")
    ones = np.ones((1, SEAMLESS.mask_count), dtype="float32")

    lai, spread, *_ = _run(graphs[name], features=features)

    for ours, theirs in zip((lai, spread), _keras(network, features, ones), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def test_every_draw_is_the_network_with_its_masks(network, graphs, rng):
    features = rng.standard_normal((1, 14, 12, 16), dtype="float32")
    masks = rng.choice([0, 1 / 0.9], (5, SEAMLESS.mask_count), p=[0.3, 0.7]).astype("float32")
    _, _, context, reading = _run(graphs["trunk"], features=features)
    shared = {"context": context.reshape(1, 16, -1), "reading": reading.reshape(1, 32, -1)}

    (draws,) = _run(graphs["draws"], **shared, masks=masks)

    expected = _keras(network, features, masks)[0].reshape(5, 1, -1)
    np.testing.assert_allclose(draws, expected, atol=TOLERANCE)
    assert np.ptp(draws, axis=0).max() > 100 * TOLERANCE  # the draws do differ


def test_the_lean_graphs_hold_nothing_that_breaks_the_layout(graphs):
    for name in ("point", "trunk"):
        operators = {node.op_type for node in onnx.load_from_string(graphs[name]).graph.node}
        assert not operators & {"Transpose", "Reshape", "Tile", "Mul", "Slice"}


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
    pruned = Model(build_lean_graphs(paper), {}, np.empty(0), {}, {})
    features = rng.standard_normal((1, 14, 32, 48), dtype="float32")
    masks = rng.choice([0, 2], (4, PAPER.mask_count)).astype("float32")
    masks[1] = 1  # nothing is dropped
    masks[2, : PAPER.mask_channels[0]] = 0  # a layer of which nothing is left

    draws = np.concatenate(list(iterate_passes(features, pruned, masks)))

    expected = _keras(paper, features, masks)[0]
    scale = np.abs(expected).mean()
    np.testing.assert_allclose(draws / scale, expected / scale, atol=TOLERANCE)
    assert np.ptp(draws / scale, axis=0).mean() > 0.1  # the draws do differ


def test_what_a_draw_drops_is_not_computed(paper, tmp_path):
    content = build_lean_graphs(paper)["draw"]
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


def test_other_networks_have_the_one_graph(tmp_path):
    assert list(export_onnx(build_network("mlp"), tmp_path / "mlp.onnx")) == ["model"]


@pytest.fixture(scope="module")
def bundles(graphs, land, tmp_path_factory):
    """Return a bundle with lean graphs and one of the same network without."""
    folder = tmp_path_factory.mktemp("bundles")
    config = FitConfig.model_validate(CONFIG)
    write_provenance(config, measure_normalisation(land), folder)
    paths = []
    for name, kept in (("lean", graphs), ("plain", {"model": graphs["model"]})):
        description = describe_model(
            folder, kept, version="1.0.0", calibration=NO_CALIBRATION, metrics={}
        )
        paths.append(write_bundle(folder / f"{name}.zip", description, kept))
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
            bad.writestr(name, good.read(name) + (b"!" if name == "point.onnx" else b""))

    with pytest.raises(LaiModelError, match=r"point\.onnx fails its checksum"):
        load_model(str(damaged))
