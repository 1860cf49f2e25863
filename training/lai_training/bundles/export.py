"""Turn a network into ONNX, and a run into a model bundle: a zip of graphs and `model.json`.

Beside `model.onnx`, which is the network as it was trained, lie the `paper` network's lean forms
(`bundles.graphs_paper`): the UDF runs those. `bundles.model_item` writes `model.json`.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from lai_training.bundles.graphs_paper import build_paper_graphs
from lai_training.bundles.order import canonicalize_graph
from lai_training.networks import FEATURE_COUNT, PAPER
from lai_udf.atomic import disk_errors, move_finished, work_folder

ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bundle has the same bytes, whenever it is made


def export_onnx(model: keras.Model, path: Path) -> dict[str, bytes]:
    """Write the network as ONNX, channels first, and return its graphs by name.

    `model` is what was written: inputs `features` (n, 14, y, x) and `masks` (1 or n, mask_count),
    output `lai`, (n, 1, y, x), all float32, with n, y and x free. Further graphs are its lean
    forms. Needs the TensorFlow backend (the weights may come from any).
    """
    features = keras.Input((FEATURE_COUNT, None, None), name="features")
    masks = keras.Input((model.inputs[1].shape[-1],), name="masks")
    lai = model([layers.Permute((2, 3, 1))(features), masks])
    first = keras.Model([features, masks], [layers.Permute((3, 1, 2))(lai)])
    first(
        [np.zeros((1, FEATURE_COUNT, 32, 32), "float32"), np.ones((1, masks.shape[1]), "float32")]
    )
    with warnings.catch_warnings():  # np.object, inside Keras' bundled tf2onnx shim
        warnings.simplefilter("ignore", FutureWarning)
        first.export(path, format="onnx", verbose=False)
    lean = build_paper_graphs(model) if model.name == PAPER.name else {}
    return {"model": _name_output(path), **lean}


def _name_output(path: Path) -> bytes:
    """Give an ONNX file its order and its names, free dimensions included, in place."""
    import onnx

    graph_model = onnx.load(path)
    graph = graph_model.graph
    old = graph.output[0].name
    for node in graph.node:
        node.output[:] = ["lai" if output == old else output for output in node.output]
    graph.output[0].name = "lai"
    canonicalize_graph(graph_model)
    for value in [*graph.input, *graph.output]:
        axes = ["n", "channel", "y", "x"] if value.name != "masks" else ["draw", "channel"]
        for dimension, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if not dimension.dim_value:
                dimension.dim_param = axis
    onnx.checker.check_model(graph_model)
    weights: bytes = graph_model.SerializeToString(deterministic=True)
    path.write_bytes(weights)
    return weights


def write_bundle(path: Path, description: dict[str, Any], graphs: Mapping[str, bytes]) -> Path:
    """Write the zip, atomically and with the same bytes for the same content.

    Raises:
        OutputNotWritableError: the folder refuses.
    """
    return write_members(path, list_members(description, graphs))


def list_members(description: dict[str, Any], graphs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a bundle of contract 1 by name."""
    members = {f"{name}.onnx": graph for name, graph in graphs.items()}
    return members | {"model.json": json.dumps(description, indent=1).encode()}


def write_members(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a zip of files by name, as `write_bundle` does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content, zipfile.ZIP_DEFLATED)
    with work_folder(path.parent) as work, disk_errors(path.parent):
        (work / path.name).write_bytes(buffer.getvalue())
        move_finished({work / path.name: path})
    return path
