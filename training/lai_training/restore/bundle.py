"""From a run to the bundle that ships (contract 2): bodies as ONNX, SL2P's equations, flags.

In the zip: `model.onnx` (the body of 20 m), `model_10m.onnx`, both bodies as Keras files to go on
training from, and `model.json`, a STAC MLM item whose property `lai:contract` is what
`lai_udf.predict` runs by.
"""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lai_training.bundles.model_item import (
    EXTENSIONS,
    USABLE_FROM,
    USABLE_UNTIL,
    domain_contract,
    multihash,
)
from lai_training.bundles.onnx_graph import Graph
from lai_training.errors import ExportError
from lai_training.restore.fit import PROVENANCE, body_name
from lai_training.restore.network import BODIES, CONTEXT, READOUT, BodySpec, fold_sl2p
from lai_training.sl2p.tables import VARIABLES, load_network
from lai_udf.predict import ANGLES, BANDS, HALO_PX, NEAR_PX, OUTPUT_BANDS

Json = dict[str, Any]

CONTRACT_VERSION = 2
MODEL_ID = "sentinel2-lai"
GRAPHS = {20: "model", 10: "model_10m"}
"""Names of the bodies' graphs in the bundle."""


def build_graph(body: keras.Model, spec: BodySpec) -> bytes:
    """Return the ONNX graph of a body up to its context, channels first."""
    graph, hidden = Graph(), "features"
    for index in range(spec.depth):
        name = CONTEXT if index == spec.depth - 1 else f"convolution{index}"
        kernel, bias = (np.asarray(w, "float32") for w in body.get_layer(name).get_weights())
        linear = graph.convolve(f"{name}/linear", hidden, kernel.transpose(3, 2, 0, 1), bias)
        share = graph.add("Sigmoid", f"{name}/share", linear)
        hidden = graph.add("Mul", name, linear, share)
    inputs = {"features": ("n", spec.feature_count, "y", "x")}
    return graph.finish(body.name, inputs, {CONTEXT: ("n", spec.width, "y", "x")})


def describe_variables() -> Json:
    """Return SL2P 2_1 of five variables: folded weights, unit and range of the output."""
    hidden, output, constant = fold_sl2p(dict.fromkeys(VARIABLES, 1.0))
    tables: Json = {}
    for number, variable in enumerate(VARIABLES):
        net = load_network(variable, "2_1")
        tables[variable] = {
            "unit": net.unit,
            "hidden": hidden[number].tolist(),
            "output": output[number].tolist(),
            "constant": float(constant[number]),
            "minimum": net.minimum,
            "maximum": net.maximum,
            "tolerance": net.tolerance,
            "has_domain": net.domain is not None,
        }
    return tables


def pack_run(
    run: Path, *, version: str, calibration: Json, residual_cloud: Json | None, metrics: Json
) -> dict[str, bytes]:
    """Return the members of a bundle by file name.

    Args:
        run: folder of a fit, see `restore.fit`.
        version: semantic version of the model.
        calibration: what the interval and the field correction rest on.
        residual_cloud: what `restore.residual.fit_residual_cloud` returned.
        metrics: scores to tell.

    Raises:
        ExportError: the folder is not that of a finished run.
    """
    try:
        provenance = json.loads((run / PROVENANCE).read_text(encoding="utf-8"))
        weights = {body_name(each): (run / body_name(each)).read_bytes() for each in BODIES}
    except (OSError, ValueError) as error:
        raise ExportError(f"{run} holds no finished run of both bodies: {error}") from error
    config = provenance["config"]
    config["scenes"] = Path(config["scenes"]).name  # not where it lay
    bodies: Json = {}
    graphs: dict[str, bytes] = {}
    for resolution, spec in BODIES.items():
        body = keras.models.load_model(run / body_name(resolution), compile=False)
        name = GRAPHS[resolution]
        graphs[name] = build_graph(body, spec)
        matrix = body.get_layer(READOUT).matrix()
        readout = keras.ops.convert_to_numpy(matrix)
        bodies[str(resolution)] = {
            "graph": name,
            "weights": body_name(resolution),
            "normalisation": provenance["normalisation"][str(resolution)],
            "reach_px": spec.reach_px,
            "window_multiple": spec.side,
            "masks": {"count": spec.width, "rate": spec.dropout_rate},
            "readout": readout.transpose(1, 0, 2).tolist(),
        }
    contract = _contract(version, bodies, graphs, calibration, residual_cloud, metrics, provenance)
    members = {f"{name}.onnx": graph for name, graph in graphs.items()} | weights
    members["model.json"] = json.dumps(_item(version, contract, graphs), indent=1).encode()
    return members


def _contract(
    version: str,
    bodies: Json,
    graphs: dict[str, bytes],
    calibration: Json,
    residual_cloud: Json | None,
    metrics: Json,
    provenance: Json,
) -> Json:
    variables = describe_variables()
    limits = {key: variables["LAI"][key] for key in ("minimum", "maximum", "tolerance")}
    flags = {"cloud_near_px": NEAR_PX, "no_data_near_px": NEAR_PX}
    return {
        "version": CONTRACT_VERSION,
        "model_id": MODEL_ID,
        "model_version": version,
        "bands": list(BANDS),
        "optional_bands": ["SCL", *ANGLES],
        "output_bands": list(OUTPUT_BANDS),
        "halo_px": HALO_PX,
        # Of the body of 20 m, where contract 1 has them.
        **{key: bodies["20"][key] for key in ("reach_px", "window_multiple", "masks")},
        "bodies": bodies,
        "graphs": {name: multihash(graph) for name, graph in graphs.items() if name != "model"},
        "variables": variables,
        "output": limits,
        "domain": domain_contract(),
        "flags": flags | ({"residual_cloud": residual_cloud} if residual_cloud else {}),
        "calibration": calibration,
        "metrics": metrics,
        "provenance": provenance,
    }


def _item(version: str, contract: Json, graphs: dict[str, bytes]) -> Json:
    """Return `model.json`: a STAC item with the machine-learning-model extension."""
    config = contract["provenance"]["config"]
    titles = {20: "Body for 20 m (ONNX)", 10: "Body for 10 m (ONNX)"}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"{MODEL_ID}-{version}",
        "geometry": None,
        "properties": {
            "title": f"Leaf area index and four more variables from Sentinel-2, {version}",
            "datetime": None,
            "start_datetime": USABLE_FROM,
            "end_datetime": USABLE_UNTIL,
            "license": "Apache-2.0",
            "mlm:name": MODEL_ID,
            "mlm:architecture": "CNN",
            "mlm:tasks": ["regression"],
            "mlm:framework": "ONNX",
            "mlm:accelerator_constrained": False,
            "mlm:hyperparameters": {
                "optimizer": "adamw",
                **{
                    f"{key}_{size}m": config[f"body_{size}m"][key]
                    for size in BODIES
                    for key in ("epochs", "steps", "batch", "learning_rate")
                },
            },
            "mlm:input": [_describe_input(spec) for spec in BODIES.values()],
            "mlm:output": [_describe_output(spec) for spec in BODIES.values()],
            "lai:contract": contract,
        },
        "links": [],
        "assets": {
            GRAPHS[size]: {
                "href": f"./{GRAPHS[size]}.onnx",
                "type": "application/octet-stream; application=onnx",
                "title": title,
                "roles": ["mlm:model"] if size == 20 else ["mlm:weights"],
                "mlm:artifact_type": "onnx",
                "eo:bands": [{"name": band} for band in BANDS],
                "file:size": len(graphs[GRAPHS[size]]),
                "file:checksum": multihash(graphs[GRAPHS[size]]),
            }
            for size, title in titles.items()
        },
    }


def _describe_input(spec: BodySpec) -> Json:
    return {
        "name": f"features_{spec.resolution}m",
        "description": "Ten normalised bands of a 20 m block, detail of the 10 m bands in it (10 m "
        "only), share of data.",
        "bands": list(BANDS),
        "input": {
            "shape": [-1, spec.feature_count, -1, -1],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "float32",
        },
    }


def _describe_output(spec: BodySpec) -> Json:
    return {
        "name": f"context_{spec.resolution}m",
        "description": "Context, from which `readout` gives the correction of each pixel of the "
        "block; SL2P's equations read the corrected spectrum.",
        "tasks": ["regression"],
        "result": {
            "shape": [-1, spec.width, -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
    }
