"""Turn a fitted run into a model bundle: one zip with `model.onnx` and `model.json`.

Beside `model.onnx`, which is the network as it was trained, lie its lean forms where it has any
(`lai_training.export_graph`): the UDF runs those. `model.json` is a STAC Item with the
machine-learning-model extension (MLM 1.5): what a catalogue says of the model. The numbers that
the UDF runs by lie in its property `lai:contract`: bands, normalisation, reach, masks, definition
domain, output range, calibration, checksums of the lean forms.
"""

import hashlib
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

from lai_training.errors import ExportError
from lai_training.export_graph import build_lean_graphs
from lai_training.export_order import settle_order
from lai_training.networks import FEATURE_COUNT, NetworkSpec
from lai_training.run_folder import spec_of
from lai_training.sl2p_tables import load_network
from lai_udf.predict import ANGLES, BANDS, FEATURES, HALO_PX, OUTPUT_BANDS
from lai_udf.rasters_files import disk_errors, move_finished, work_folder

CONTRACT_VERSION = 1
OUTPUTS = {
    "lai": "Leaf area index, m2 m-2.",
    "lai_sd": "Spread that thirty Monte-Carlo draws of the masks would show, m2 m-2.",
    "fapar": "Fraction of absorbed photosynthetically active radiation, unit 1.",
    "fcover": "Fraction of ground covered by green vegetation, unit 1.",
    "ccc": "Canopy chlorophyll content (LAI x chlorophyll a and b of the leaf), ug cm-2.",
    "cwc": "Canopy water content (LAI x water of the leaf), g cm-2.",
}
"""Outputs of the ONNX file, in its order; networks without a spread head have the first, those of
one variable the first two."""
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bundle has the same bytes, whenever it is made


def export_onnx(model: keras.Model, path: Path) -> dict[str, bytes]:
    """Write the network as ONNX, channels first, and return its graphs by name.

    `model` is what was written: inputs `features` (n, 14, y, x) and `masks` (1 or n, mask_count),
    outputs `lai` and, where the network has them, the others of `OUTPUTS`, (n, 1, y, x) each, all
    float32, with n, y and x free. Further graphs are its lean forms. Needs the TensorFlow backend
    (the weights may come from any).
    """
    features = keras.Input((FEATURE_COUNT, None, None), name="features")
    masks = keras.Input((model.inputs[1].shape[-1],), name="masks")
    outputs = model([layers.Permute((2, 3, 1))(features), masks])
    outputs = outputs if isinstance(outputs, list) else [outputs]
    first = keras.Model(
        [features, masks], [layers.Permute((3, 1, 2))(output) for output in outputs]
    )
    first(
        [np.zeros((1, FEATURE_COUNT, 32, 32), "float32"), np.ones((1, masks.shape[1]), "float32")]
    )
    with warnings.catch_warnings():  # np.object, inside Keras' bundled tf2onnx shim
        warnings.simplefilter("ignore", FutureWarning)
        first.export(path, format="onnx", verbose=False)
    return {"model": _name_outputs(path, len(model.outputs)), **build_lean_graphs(model)}


def _name_outputs(path: Path, count: int) -> bytes:
    """Give an ONNX file its order and its names, free dimensions included, in place."""
    import onnx

    graph_model = onnx.load(path)
    graph = graph_model.graph
    for index, name in enumerate(list(OUTPUTS)[:count]):
        old = graph.output[index].name
        for node in graph.node:
            node.output[:] = [name if output == old else output for output in node.output]
            node.input[:] = [name if source == old else source for source in node.input]
        graph.output[index].name = name
    settle_order(graph_model)
    for value in [*graph.input, *graph.output]:
        axes = ["n", "channel", "y", "x"] if value.name != "masks" else ["draw", "channel"]
        for dimension, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
            if not dimension.dim_value:
                dimension.dim_param = axis
    onnx.checker.check_model(graph_model)
    weights: bytes = graph_model.SerializeToString(deterministic=True)
    path.write_bytes(weights)
    return weights


def _list_outputs(weights: bytes) -> list[str]:
    import onnx

    return [output.name for output in onnx.load_model_from_string(weights).graph.output]


def domain_contract() -> dict[str, Any]:
    """Return SL2P's definition domain (set 2_1) as the UDF reads it.

    Cells are SNAP's numbers 1-10 per band, less one, written as the digits of one number.
    """
    net = load_network("LAI", "2_1", "S2A")
    if net.domain is None:
        raise ExportError("SL2P 2_1 LAI has no definition domain table")
    digits = 10 ** np.arange(7, -1, -1)
    codes = (net.domain.cells.astype("int64") - 1) @ digits
    return {
        "bands": list(net.inputs[:-3]),
        "minimum": [float(value) for value in net.domain.minimum],
        "maximum": [float(value) for value in net.domain.maximum],
        "cells": sorted(int(code) for code in codes),
        "source": "SNAP biophysical processor, set 2_1, definition domain of LAI",
    }


def describe_model(
    run: Path,
    graphs: Mapping[str, bytes],
    *,
    version: str,
    calibration: dict[str, Any],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Return `model.json` of a run: a STAC MLM item with the UDF's contract.

    Args:
        run: folder of the fit.
        graphs: what `export_onnx` returned.
        version: semantic version of the model.
        calibration: what `lai_training.calibrate.calibrate` returned.
        metrics: scores to tell.
    """
    spec, provenance = spec_of(run)
    weights = graphs["model"]
    lean = {name: graph for name, graph in graphs.items() if name != "model"}
    model_id = f"sentinel2-lai-{spec.name}"
    contract = {
        "version": CONTRACT_VERSION,
        "model_id": model_id,
        "model_version": version,
        "bands": list(BANDS),
        "optional_bands": ["SCL", *ANGLES],
        "features": list(FEATURES),
        "output_bands": list(OUTPUT_BANDS),
        "normalisation": provenance["normalisation"],
        "reach_px": spec.reach_px,
        "halo_px": HALO_PX,
        "window_multiple": spec.window_multiple,
        "masks": {"count": spec.mask_count, "rate": spec.dropout_rate},
        "output": {"minimum": 0.0, "maximum": 8.0, "tolerance": 0.2},
        "domain": domain_contract(),
        "graphs": {name: _multihash(graph) for name, graph in lean.items()},
        "calibration": calibration,
        "metrics": metrics,
        "provenance": provenance,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
            "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
        ],
        "id": f"{model_id}-{version}",
        "geometry": None,
        "properties": {
            "title": f"Leaf area index from Sentinel-2, {spec.name} network {version}",
            "datetime": None,
            "start_datetime": "2015-06-23T00:00:00Z",
            "end_datetime": "2035-12-31T00:00:00Z",
            "license": "Apache-2.0",
            **_mlm_properties(spec, provenance, model_id, _list_outputs(weights)),
            "lai:contract": contract,
        },
        "links": [],
        "assets": {
            "model": {
                "href": "./model.onnx",
                "type": "application/octet-stream; application=onnx",
                "title": "Network weights and graph (ONNX)",
                "roles": ["mlm:model"],
                "mlm:artifact_type": "onnx",
                "eo:bands": [{"name": band} for band in BANDS],
                "file:size": len(weights),
                "file:checksum": _multihash(weights),
            }
        },
    }


def _mlm_properties(
    spec: NetworkSpec, provenance: dict[str, Any], model_id: str, outputs: list[str]
) -> dict[str, Any]:
    """Return what the MLM extension asks for: what goes in, what comes out, how it was made."""
    config = provenance["config"]
    image = ["batch", "height", "width"]
    return {
        "mlm:name": model_id,
        "mlm:architecture": "UNet" if spec.name != "mlp" else "MLP",
        "mlm:tasks": ["regression"],
        "mlm:framework": "ONNX",
        "mlm:accelerator_constrained": False,
        "mlm:hyperparameters": {
            "dropout_rate": spec.dropout_rate,
            "reach_px": spec.reach_px,
            "optimizer": config["optimizer"],
            "learning_rate": config["learning_rate"],
            "epochs": config["epochs"],
            "batch": config["samples"]["batch"],
        },
        "mlm:input": [
            {
                "name": "features",
                "description": "Ten normalised bands, validity, cosines of three angles.",
                "bands": list(BANDS),
                "input": {
                    "shape": [-1, FEATURE_COUNT, -1, -1],
                    "dim_order": [image[0], "bands", *image[1:]],
                    "data_type": "float32",
                },
            },
            {
                "name": "masks",
                "description": "A factor per droppable channel; all ones: the point estimate.",
                "bands": [],
                "input": {
                    "shape": [-1, spec.mask_count],
                    "dim_order": ["batch", "channel"],
                    "data_type": "float32",
                },
            },
        ],
        "mlm:output": [
            {
                "name": name,
                "description": OUTPUTS[name],
                "tasks": ["regression"],
                "result": {
                    "shape": [-1, 1, -1, -1],
                    "dim_order": [image[0], "channel", *image[1:]],
                    "data_type": "float32",
                },
            }
            for name in outputs
        ],
    }


def _multihash(content: bytes) -> str:
    return "1220" + hashlib.sha256(content).hexdigest()  # sha2-256, 32 bytes


def write_bundle(path: Path, description: dict[str, Any], graphs: Mapping[str, bytes]) -> Path:
    """Write the zip, atomically and with the same bytes for the same content.

    Raises:
        OutputNotWritableError: the folder refuses.
    """
    members = {f"{name}.onnx": graph for name, graph in graphs.items()}
    members["model.json"] = json.dumps(description, indent=1).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content, zipfile.ZIP_DEFLATED)
    with work_folder(path.parent) as work, disk_errors(path.parent):
        (work / path.name).write_bytes(buffer.getvalue())
        move_finished({work / path.name: path})
    return path
