"""`model.json` of a bundle: a STAC Item with the machine-learning-model extension (MLM 1.5).

Input: the folder of a run, its ONNX graphs, calibration and scores. Output: what a catalogue
says of the model, and in its property `lai:contract` the numbers that the UDF runs by: bands,
normalisation, reach, masks, definition domain, output range, calibration, checksums of the lean
graphs.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lai_training.errors import ExportError
from lai_training.learn.run_folder import spec_of
from lai_training.networks import FEATURE_COUNT, NetworkSpec
from lai_training.sl2p.tables import load_network
from lai_udf.predict import ANGLES, BANDS, FEATURES, HALO_PX, OUTPUT_BANDS

Json = dict[str, Any]

CONTRACT_VERSION = 1
LAI_OUTPUT: Json = {
    "name": "lai",
    "description": "Leaf area index, m2 m-2.",
    "tasks": ["regression"],
    "result": {
        "shape": [-1, 1, -1, -1],
        "dim_order": ["batch", "channel", "height", "width"],
        "data_type": "float32",
    },
}
EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
)
USABLE_FROM, USABLE_UNTIL = "2015-06-23T00:00:00Z", "2035-12-31T00:00:00Z"
"""From the launch of Sentinel-2A; until its successors, presumably, are gone."""


def describe_model(
    run: Path,
    graphs: Mapping[str, bytes],
    *,
    version: str,
    calibration: Json,
    metrics: Json,
) -> Json:
    """Return `model.json` of a run: a STAC MLM item with the UDF's contract.

    Args:
        run: folder of the fit.
        graphs: what `export.export_onnx` returned.
        version: semantic version of the model.
        calibration: what `lai_training.calibration.calibrate.calibrate` returned.
        metrics: scores to report.

    Raises:
        FitError: the folder holds no run.
    """
    spec, provenance = spec_of(run)
    weights = graphs["model"]
    model_id = f"sentinel2-lai-{spec.name}"
    contract = {
        "version": CONTRACT_VERSION,
        "model_id": model_id,
        "model_version": version,
        **_promises(spec),
        "normalisation": provenance["normalisation"],
        "domain": domain_contract(),
        "graphs": {name: multihash(graph) for name, graph in graphs.items() if name != "model"},
        "calibration": calibration,
        "metrics": metrics,
        "provenance": provenance,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"{model_id}-{version}",
        "geometry": None,
        "properties": {
            "title": f"Leaf area index from Sentinel-2, {spec.name} network {version}",
            "datetime": None,
            "start_datetime": USABLE_FROM,
            "end_datetime": USABLE_UNTIL,
            "license": "Apache-2.0",
            "mlm:name": model_id,
            **_describe_making(spec, provenance["config"]),
            "mlm:input": _describe_inputs(spec),
            "mlm:output": [LAI_OUTPUT],
            "lai:contract": contract,
        },
        "links": [],
        "assets": {"model": _describe_weights(weights)},
    }


def _promises(spec: NetworkSpec) -> Json:
    """Return the part of the contract that follows from the network and the UDF."""
    return {
        "bands": list(BANDS),
        "optional_bands": ["SCL", *ANGLES],
        "features": list(FEATURES),
        "output_bands": list(OUTPUT_BANDS),
        "reach_px": spec.reach_px,
        "halo_px": HALO_PX,
        "window_multiple": spec.window_multiple,
        "masks": {"count": spec.mask_count, "rate": spec.dropout_rate},
        "output": {"minimum": 0.0, "maximum": 8.0, "tolerance": 0.2},
    }


def domain_contract() -> dict[str, Any]:
    """Return SL2P's definition domain (set 2_1) as the UDF reads it.

    Cells are SNAP's numbers 1-10 per band, less one, written as the digits of one number. Raises
    `ExportError` where the set has no domain.
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


def _describe_making(spec: NetworkSpec, config: Json) -> Json:
    """Return what the MLM extension requires of a model and how it was fitted."""
    return {
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
    }


def _describe_inputs(spec: NetworkSpec) -> list[Json]:
    return [
        {
            "name": "features",
            "description": "Ten normalised bands, validity, cosines of three angles.",
            "bands": list(BANDS),
            "input": {
                "shape": [-1, FEATURE_COUNT, -1, -1],
                "dim_order": ["batch", "bands", "height", "width"],
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
    ]


def _describe_weights(weights: bytes) -> Json:
    return {
        "href": "./model.onnx",
        "type": "application/octet-stream; application=onnx",
        "title": "Network weights and graph (ONNX)",
        "roles": ["mlm:model"],
        "mlm:artifact_type": "onnx",
        "eo:bands": [{"name": band} for band in BANDS],
        "file:size": len(weights),
        "file:checksum": multihash(weights),
    }


def multihash(content: bytes) -> str:
    """Return the checksum of a file as STAC's file extension has it."""
    return "1220" + hashlib.sha256(content).hexdigest()  # sha2-256, 32 bytes
