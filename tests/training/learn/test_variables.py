"""The network of five variables: LAI untouched, outputs by name, labels in their units."""

from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest
import xarray as xr

from lai_training import sl2p
from lai_training.bundles.export import export_onnx
from lai_training.bundles.graphs import build_lean_graphs
from lai_training.errors import EvaluationError, FitError
from lai_training.learn.config import FitConfig, SampleConfig
from lai_training.learn.labels import limit_label
from lai_training.learn.normalisation import Normalisation, measure_normalisation
from lai_training.learn.recipe import load_start
from lai_training.learn.run_folder import write_provenance
from lai_training.learn.samples import build_batch
from lai_training.learn.spread import SPREAD_LAYERS
from lai_training.learn.variables import format_variables, predict_variables, score_variables
from lai_training.networks import SEAMLESS_VARIABLES, SPECS, VARIABLE_SCALES, build_network
from lai_udf.errors import ProductError
from lai_udf.predict import BANDS

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = SEAMLESS_VARIABLES.mask_count


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(seamless, the network of five variables that starts from it), random weights."""
    keras.utils.set_random_seed(6)
    one, five = build_network("seamless"), build_network("seamless_variables")
    for model in (one, five):
        kernel, bias = model.get_layer("correction").get_weights()  # starts at zero and would hide
        model.get_layer("correction").set_weights([kernel + 0.1, bias])
    folder = tmp_path_factory.mktemp("seamless")
    one.save(folder / "best.keras")
    load_start(five, folder, freeze=True)
    for name in SPREAD_LAYERS:  # taught later, in each network alike
        five.get_layer(name).set_weights(one.get_layer(name).get_weights())
    return one, five


@pytest.fixture
def inputs(rng):
    features = rng.standard_normal((1, 20, 28, 14), dtype="float32")
    return [features, rng.choice([0, 1 / 0.9], (1, MASKS)).astype("float32")]


def test_the_spec_names_the_variables_that_sl2p_knows():
    assert SEAMLESS_VARIABLES.variables == tuple(VARIABLE_SCALES)
    assert SPECS["seamless"].variables == ("LAI",)
    assert build_network("seamless_variables").output_names == [
        "lai",
        "lai_sd",
        "fapar",
        "fcover",
        "ccc",
        "cwc",
    ]


def test_lai_is_that_of_the_start_bit_by_bit(pair, inputs):
    one, five = pair

    np.testing.assert_array_equal(one(inputs)[0], five(inputs)[0])


def test_only_new_heads_and_the_spread_head_are_fitted(pair):
    _, five = pair

    fitted = {layer.name for layer in five.layers if layer.trainable_weights}

    assert {name.split("_")[0] for name in fitted} == {
        "spread1",
        "lai",
        "fapar",
        "fcover",
        "ccc",
        "cwc",
    }
    assert "lai" not in fitted  # `lai_sd` is


def test_what_is_fixed_in_a_network_stays_fixed_when_it_starts_from_another(pair, tmp_path):
    one, _ = pair
    one.save(tmp_path / "best.keras")
    fresh = build_network("seamless")
    before = len(fresh.trainable_weights)

    load_start(fresh, tmp_path)

    assert len(fresh.trainable_weights) == before


def test_a_draw_of_masks_reaches_every_variable(pair, inputs):
    _, five = pair

    point, drawn = five([inputs[0], np.ones((1, MASKS), "float32")]), five(inputs)

    for index in (0, 2, 3, 4, 5):
        assert abs(keras.ops.convert_to_numpy(point[index] - drawn[index])).max() > 1e-4


def test_the_onnx_file_has_the_variables_by_name_and_says_what_keras_says(pair, inputs, tmp_path):
    _, five = pair
    graph = export_onnx(five, tmp_path / "model.onnx")["model"]

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(None, {"features": inputs[0].transpose(0, 3, 1, 2), "masks": inputs[1]})

    assert names == five.output_names
    for name, expected, values in zip(names, five(inputs), found, strict=True):
        scale = VARIABLE_SCALES.get(name.upper(), 1.0)
        image = keras.ops.convert_to_numpy(expected).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(values / scale, image / scale, atol=1e-4)


def test_the_lean_graphs_of_lai_carry_no_further_heads(pair):
    one, five = pair

    assert build_lean_graphs(five) == build_lean_graphs(one)


def test_labels_are_sl2p_in_the_units_of_the_variables(land, rng):
    config = SampleConfig.model_validate(
        {
            "patch_px": 32,
            "batch": 4,
            "noisy_share": 0,
            "missing_share": 0,
            "nominal_angle_share": 1,
        }
    )
    clean = land[:4].astype("float32")

    _, labels, weight = build_batch(
        clean, measure_normalisation(land), SEAMLESS_VARIABLES, config, rng
    )

    scene = xr.DataArray(clean[0], dims=("bands", "y", "x"), coords={"bands": list(BANDS)})
    assert isinstance(labels, tuple)
    assert weight.shape == labels[0].shape == (4, 32, 32, 1)
    for variable, label in zip(SEAMLESS_VARIABLES.variables, labels, strict=True):
        expected, _ = sl2p.predict_image(scene, variable=variable, network="2_1", clip=False)
        limited = limit_label(expected, variable, config)
        np.testing.assert_allclose(label[0, ..., 0], limited, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variable", "low", "high"),
    [("LAI", -1, 10), ("FAPAR", -0.5, 1.94), ("CCC", -75, 750), ("CWC", -0.075, 0.7)],
)
def test_labels_stop_where_no_vegetation_is(variable, low, high):
    extreme = np.array([-1e4, 1e4], "float32")

    limited = limit_label(extreme, variable, SampleConfig())

    np.testing.assert_allclose(limited, [low, high], rtol=1e-6)


def test_an_image_of_any_size_is_predicted_by_the_names_of_the_outputs(pair, land):
    _, five = pair
    flat = Normalisation(np.full(10, 0.2, "float32"), np.full(10, 0.1, "float32"))

    found = predict_variables(five, land[0, :, :30, :21].astype("float32"), flat)

    assert {name: image.shape for name, image in found.items()} == dict.fromkeys(
        five.output_names, (30, 21)
    )


@pytest.fixture
def run(pair, tmp_path, land):
    """A run folder of the network of five variables."""
    config = {"network": "seamless_variables", "seed": 1, "epochs": 1, "steps": 1}
    pool = {"patches": 16, "size_px": 32, "seed": 7}
    rest = {"pool": pool, "validation": pool, "samples": {"patch_px": 32}, "learning_rate": 0.1}
    folder = tmp_path / "run"
    write_provenance(
        FitConfig.model_validate({**config, **rest}), measure_normalisation(land), folder
    )
    pair[1].save(folder / "best.keras")
    return folder


def test_every_variable_is_scored_against_sl2p_in_its_unit(run, scene, monkeypatch):
    monkeypatch.setattr("lai_udf.scenes.read.read_scene", lambda path: scene)

    table = score_variables(run, [Path("a.tif")], noise=1.0)

    assert list(table["variable"]) == list(SEAMLESS_VARIABLES.variables)
    assert list(table["unit"]) == ["m2 m-2", "1", "1", "ug cm-2", "g cm-2"]
    assert (table["n"] > 0).all()
    assert (table["rmse_ratio"] > 0).all()
    assert len(format_variables(table).splitlines()) == 7


def test_without_a_readable_scene_there_is_nothing_to_score(run, monkeypatch):
    def refuse(path: Path) -> None:
        raise ProductError("half a file")

    monkeypatch.setattr("lai_udf.scenes.read.read_scene", refuse)

    with pytest.raises(EvaluationError, match="none of 1 scenes"):
        score_variables(run, [Path("a.tif")])


def test_a_folder_without_weights_is_no_run_to_score(run):
    (run / "best.keras").unlink()

    with pytest.raises(FitError, match=r"holds no best\.keras"):
        score_variables(run, [Path("a.tif")])
