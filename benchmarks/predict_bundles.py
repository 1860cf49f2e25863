"""Bundles of untrained networks: as fast as trained ones, and there before they are."""

import copy
import hashlib
import os
from pathlib import Path


def write_untrained(network: str, path: Path) -> Path:
    """Write a bundle of contract 1: random weights, else what the default bundle states."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from lai_training.bundles.export import build_graph, list_members, write_members
    from lai_training.networks import SPECS, build_network
    from lai_udf.bundle import default_bundle_path
    from lai_udf.predict import read_bundle

    graph = build_graph(build_network(network))
    description = copy.deepcopy(read_bundle(str(default_bundle_path()))[0])
    description["assets"] = {"model": description["assets"]["model"]}
    description["assets"]["model"]["file:checksum"] = "1220" + hashlib.sha256(graph).hexdigest()
    spec, contract = SPECS[network], description["properties"]["lai:contract"]
    contract["version"] = 1
    contract["normalisation"] = contract.pop("bodies")["20"]["normalisation"]
    del contract["variables"], contract["flags"]
    contract["graphs"] = {}
    contract["masks"] = {"count": spec.mask_count, "rate": spec.dropout_rate}
    contract["reach_px"], contract["window_multiple"] = spec.reach_px, spec.window_multiple
    return write_members(path, list_members(description, {"model": graph}))
