"""`model.json` of a bundle: a STAC Item with the machine-learning-model extension (MLM 1.5).

Input: the provenance of a run, and its ONNX graphs. Output: the description for a catalogue,
and in its property `lai:contract` the numbers that the UDF runs by: bands, normalisation, reach,
masks, definition domain, output range, checksums. Calibration and scores are filled in later.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lai_training.errors import FitError
from lai_training.learn.run_folder import read_provenance
from lai_training.networks import FEATURE_COUNT, SPECS
from lai_training.restore.fit import body_name
from lai_training.restore.network import BODIES, CONTEXT, fold_sl2p
from lai_training.sl2p.tables import VARIABLES, load_network
from lai_udf.predict import ANGLES, BANDS, FEATURES, HALO_PX, NEAR_PX, OUTPUT_BANDS

Json = dict[str, Any]

MODEL_ID = "sentinel2-lai"
EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
)
USABLE_FROM, USABLE_UNTIL = "2015-06-23T00:00:00Z", "2035-12-31T00:00:00Z"
"""From the launch of Sentinel-2A; until its successors, presumably, are gone."""


def describe_model(run: Path, graph: bytes, *, version: str) -> Json:
    """Return `model.json` of a network of the paper (contract 1).

    `run` is the folder of its fit, `graph` what `export.build_graph` returned, `version` the
    semantic version of the model. Raises `FitError` where the folder holds no run.
    """
    provenance = read_provenance(run)
    config = provenance["config"]
    if config["network"] not in SPECS:
        raise FitError(f"{run} holds the network {config['network']}: known are {', '.join(SPECS)}")
    spec = SPECS[config["network"]]
    contract = {
        "version": 1,
        "features": list(FEATURES),
        "reach_px": spec.reach_px,
        "window_multiple": spec.window_multiple,
        "masks": {"count": spec.mask_count, "rate": spec.dropout_rate},
        "output": {"minimum": 0.0, "maximum": 8.0, "tolerance": 0.2},
        "normalisation": provenance["normalisation"],
    }
    features = "Ten normalised bands, validity, cosines of three angles."
    masks = "A factor per droppable channel; all ones: the point estimate."
    tensor = {"shape": [-1, spec.mask_count], "dim_order": ["batch", "channel"]}
    tensor["data_type"] = "float32"
    properties = {
        "title": f"Leaf area index from Sentinel-2, {spec.name} network {version}",
        "mlm:architecture": "UNet" if spec.name != "mlp" else "MLP",
        "mlm:hyperparameters": {
            "dropout_rate": spec.dropout_rate,
            "reach_px": spec.reach_px,
            **{key: config[key] for key in ("optimizer", "learning_rate", "epochs")},
            "batch": config["samples"]["batch"],
        },
        "mlm:input": [
            _input("features", features, FEATURE_COUNT),
            {"name": "masks", "description": masks, "bands": [], "input": tensor},
        ],
        "mlm:output": [_output("lai", "Leaf area index, m2 m-2.", 1)],
    }
    titles = {"model": "Network weights and graph (ONNX)"}
    model_id = f"{MODEL_ID}-{spec.name}"
    return _describe(model_id, version, contract, provenance, {"model": graph}, properties, titles)


def describe_bodies(
    provenance: Json,
    graphs: Mapping[str, bytes],
    readouts: Mapping[int, list[Any]],
    version: str,
    residual_cloud: Json | None,
) -> Json:
    """Return `model.json` of a body for 20 m and one for 10 m (contract 2).

    `graphs` are named by `BodySpec.graph`; `readouts`, by resolution, are the linear maps behind
    the context, (pixels, channels, bands); `residual_cloud` is the rule of flag 128, None: no such
    flag.
    """
    config, variables = provenance["config"], describe_variables()
    bodies = {
        str(size): {
            "graph": spec.graph,
            "weights": body_name(size),
            "normalisation": provenance["normalisation"][str(size)],
            "reach_px": spec.reach_px,
            "window_multiple": spec.side,
            "masks": {"count": spec.width, "rate": spec.dropout_rate},
            "readout": readouts[size],
        }
        for size, spec in BODIES.items()
    }
    flags: Json = {"cloud_near_px": NEAR_PX, "no_data_near_px": NEAR_PX}
    contract = {
        "version": 2,
        # Of the body of 20 m, where contract 1 has them.
        **{key: bodies["20"][key] for key in ("reach_px", "window_multiple", "masks")},
        "bodies": bodies,
        "variables": variables,
        "output": {key: variables["LAI"][key] for key in ("minimum", "maximum", "tolerance")},
        "flags": flags | ({"residual_cloud": residual_cloud} if residual_cloud else {}),
    }
    features = (
        "Ten normalised bands of a 20 m block, detail of the 10 m bands in it (10 m only), share "
        "of data."
    )
    context = (
        "Context, from which `readout` gives the correction of each pixel of the block; SL2P's "
        "equations read the corrected spectrum."
    )
    fitted = {
        f"{key}_{size}m": config[f"body_{size}m"][key]
        for size in BODIES
        for key in ("epochs", "steps", "batch", "learning_rate")
    }
    specs = BODIES.items()
    properties = {
        "title": f"Leaf area index and four more variables from Sentinel-2, {version}",
        "mlm:architecture": "CNN",
        "mlm:hyperparameters": {"optimizer": "adamw", **fitted},
        "mlm:input": [_input(f"features_{m}m", features, each.feature_count) for m, each in specs],
        "mlm:output": [_output(f"{CONTEXT}_{m}m", context, each.width) for m, each in specs],
    }
    titles = {each.graph: f"Body for {m} m (ONNX)" for m, each in specs}
    return _describe(MODEL_ID, version, contract, provenance, graphs, properties, titles)


def _describe(
    model_id: str,
    version: str,
    contract: Json,
    provenance: Json,
    graphs: Mapping[str, bytes],
    properties: Json,
    titles: Mapping[str, str],
) -> Json:
    """Return the item: `properties` of the model and what all models have; assets by `titles`."""
    contract |= {
        "model_id": model_id,
        "model_version": version,
        "bands": list(BANDS),
        "optional_bands": ["SCL", *ANGLES],
        "output_bands": list(OUTPUT_BANDS),
        "halo_px": HALO_PX,
        "domain": domain_contract(),
        "graphs": {name: multihash(graph) for name, graph in graphs.items() if name != "model"},
        "calibration": {},
        "metrics": {},
        "provenance": provenance,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"{model_id}-{version}",
        "geometry": None,
        "properties": {
            **properties,
            "datetime": None,
            "start_datetime": USABLE_FROM,
            "end_datetime": USABLE_UNTIL,
            "license": "Apache-2.0",
            "mlm:name": model_id,
            "mlm:tasks": ["regression"],
            "mlm:framework": "ONNX",
            "mlm:accelerator_constrained": False,
            "lai:contract": contract,
        },
        "links": [],
        "assets": {
            name: {
                "href": f"./{name}.onnx",
                "type": "application/octet-stream; application=onnx",
                "title": title,
                "roles": ["mlm:model"] if name == "model" else ["mlm:weights"],
                "mlm:artifact_type": "onnx",
                "eo:bands": [{"name": band} for band in BANDS],
                "file:size": len(graphs[name]),
                "file:checksum": multihash(graphs[name]),
            }
            for name, title in titles.items()
        },
    }


def _input(name: str, description: str, channels: int) -> Json:
    tensor = _tensor(channels, "bands")
    return {"name": name, "description": description, "bands": list(BANDS), "input": tensor}


def _output(name: str, description: str, channels: int) -> Json:
    tensor = _tensor(channels, "channel")
    return {"name": name, "description": description, "tasks": ["regression"], "result": tensor}


def _tensor(channels: int, name: str) -> Json:
    order = ["batch", name, "height", "width"]
    return {"shape": [-1, channels, -1, -1], "dim_order": order, "data_type": "float32"}


def describe_variables() -> Json:
    """Return SL2P 2_1 of five variables: folded weights, unit and range of the output."""
    hidden, output, constant = fold_sl2p(dict.fromkeys(VARIABLES, 1.0))
    nets = {variable: load_network(variable, "2_1") for variable in VARIABLES}
    return {
        variable: {
            "unit": net.unit,
            "hidden": hidden[number].tolist(),
            "output": output[number].tolist(),
            "constant": float(constant[number]),
            "minimum": net.minimum,
            "maximum": net.maximum,
            "tolerance": net.tolerance,
            "has_domain": net.domain is not None,
        }
        for number, (variable, net) in enumerate(nets.items())
    }


def domain_contract() -> Json:
    """Return SL2P's definition domain (set 2_1) as the UDF reads it.

    Cells are SNAP's numbers 1-10 per band, less one, written as the digits of one number.
    """
    net = load_network("LAI", "2_1", "S2A")
    assert net.domain is not None  # FCOVER alone has none
    return {
        "bands": list(net.inputs[:-3]),
        "minimum": [float(value) for value in net.domain.minimum],
        "maximum": [float(value) for value in net.domain.maximum],
        "cells": sorted(net.domain.codes.tolist()),
        "source": "SNAP biophysical processor, set 2_1, definition domain of LAI",
    }


def multihash(content: bytes) -> str:
    """Return the checksum of a file as STAC's file extension has it."""
    return "1220" + hashlib.sha256(content).hexdigest()  # sha2-256, 32 bytes
