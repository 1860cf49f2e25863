"""Export: the ONNX file is the network, and model.json is a STAC item that describes it."""

import hashlib
import json
import zipfile

import keras
import numpy as np
import onnxruntime
import pystac
import pytest
from pystac.extensions.mlm import MLMExtension

from lai_training.bundles.export import (
    build_body_graph,
    build_graph,
    list_members,
    write_members,
)
from lai_training.bundles.model_item import describe_model, domain_contract
from lai_training.errors import FitError
from lai_training.learn.config import FitConfig
from lai_training.learn.pools import measure_normalisation
from lai_training.learn.run_folder import write_provenance
from lai_training.networks import SPECS, build_network
from lai_training.restore.fit import body_name
from lai_training.restore.network import BODIES, BodySpec
from lai_udf.bundle import default_bundle_path
from lai_udf.predict import BANDS, load_model

CONFIG = {
    "seed": 1,
    "pool": {"patches": 16, "size_px": 32, "seed": 7},
    "validation": {"patches": 8, "size_px": 32, "seed": 8},
    "samples": {"patch_px": 32, "batch": 4},
    "epochs": 1,
    "steps": 1,
    "learning_rate": 0.1,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, land):
    """(Keras model, ONNX graph, run folder) of a network with random weights."""
    folder = tmp_path_factory.mktemp("mlp")
    keras.utils.set_random_seed(5)
    model = build_network("mlp")
    config = FitConfig.model_validate({"network": "mlp", **CONFIG})
    write_provenance(folder, config, normalisation=measure_normalisation(land))
    return model, build_graph(model), folder


def _run(weights: bytes, features: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features, "masks": masks})


@pytest.mark.parametrize("shape", [(1, 14, 36, 20), (2, 14, 4, 44), (1, 14, 28, 28)])
def test_onnx_predicts_what_keras_predicts(exported, rng, shape):
    model, graph, _ = exported
    features = rng.standard_normal(shape, dtype="float32")
    masks = rng.choice([0, 1 / 0.9], (1, model.inputs[1].shape[-1])).astype("float32")

    (lai,) = _run(graph, features, masks)

    expected = np.asarray(model([features.transpose(0, 2, 3, 1), masks]))
    np.testing.assert_allclose(lai, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_inputs_outputs_and_free_dimensions_have_names(exported):
    model, graph, _ = exported
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    assert [given.name for given in session.get_inputs()] == ["features", "masks"]
    assert [given.shape for given in session.get_inputs()] == [
        ["n", 14, "y", "x"],
        ["draw", model.inputs[1].shape[-1]],
    ]
    assert [given.name for given in session.get_outputs()] == ["lai"]
    assert all(given.shape[2:] == ["y", "x"] for given in session.get_outputs())


def _describe(exported) -> dict:
    _, graph, run = exported
    return describe_model(run, graph, version="1.2.3")


def test_model_json_is_an_item_that_pystac_and_mlm_read(exported):
    _, weights, _ = exported
    item = pystac.Item.from_dict(_describe(exported))
    mlm = MLMExtension.ext(item)

    assert mlm.mlm_name in item.id
    assert [given.name for given in mlm.input] == ["features", "masks"]
    assert [given.name for given in mlm.output] == ["lai"]
    asset = item.assets["model"]
    assert asset.roles == ["mlm:model"]
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(weights).hexdigest()
    assert asset.extra_fields["file:size"] == len(weights)


def test_dimension_names_are_those_that_the_mlm_schema_allows(exported):
    properties = _describe(exported)["properties"]

    # its schema asks for `bands` where an input has bands and refuses it in results
    for given in properties["mlm:input"]:
        assert ("bands" in given["input"]["dim_order"]) == bool(given["bands"])
        assert len(given["input"]["shape"]) == len(given["input"]["dim_order"])
    for result in (given["result"] for given in properties["mlm:output"]):
        assert "bands" not in result["dim_order"]


def test_the_contract_repeats_the_promises_of_the_network(exported):
    model, _, _ = exported
    spec = SPECS[model.name]
    contract = _describe(exported)["properties"]["lai:contract"]

    assert contract["bands"] == list(BANDS)
    assert (contract["reach_px"], contract["window_multiple"]) == (
        spec.reach_px,
        spec.window_multiple,
    )
    assert contract["masks"] == {"count": spec.mask_count, "rate": spec.dropout_rate}
    assert (contract["model_id"], contract["model_version"]) == (
        f"sentinel2-lai-{model.name}",
        "1.2.3",
    )


def test_the_definition_domain_is_that_of_snap():
    domain = domain_contract()

    assert domain["bands"] == ["B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"]
    assert len(domain["cells"]) == 11_039  # rows of SNAP's table for the set 2_1
    assert len(set(domain["cells"])) == len(domain["cells"])
    assert 0 <= domain["cells"][0] <= domain["cells"][-1] < 10**8
    assert np.all(np.array(domain["minimum"]) < np.array(domain["maximum"]))


def test_the_same_network_is_the_same_bytes_whenever_it_is_exported(exported):
    model, graph, _ = exported

    assert build_graph(model) == graph


@pytest.mark.parametrize("spec", BODIES.values(), ids=str)
def test_weights_of_the_shipped_bundle_are_exported_to_its_bytes(spec: BodySpec, tmp_path):
    with zipfile.ZipFile(default_bundle_path()) as bundle:
        weights = bundle.extract(body_name(spec.resolution), tmp_path)
        graph = bundle.read(f"{spec.graph}.onnx")

    assert build_body_graph(keras.models.load_model(weights, compile=False), spec) == graph


def test_the_same_content_is_the_same_bytes_and_the_udf_opens_them(exported, tmp_path):
    _, graph, _ = exported
    description = _describe(exported)

    one, other = (
        write_members(tmp_path / name / "b.zip", list_members(description, {"model": graph}))
        for name in ("one", "other")
    )

    assert one.read_bytes() == other.read_bytes()
    assert [path.name for path in one.parent.iterdir()] == ["b.zip"]
    assert load_model(str(one)).contract["model_version"] == "1.2.3"
    with zipfile.ZipFile(one) as archive:
        assert json.loads(archive.read("model.json")) == description


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FitError):
        describe_model(tmp_path, b"", version="1.0.0")

    (tmp_path / "provenance.json").write_text('{"config": {"network": "resnet"}}')
    with pytest.raises(FitError):
        describe_model(tmp_path, b"", version="1.0.0")
