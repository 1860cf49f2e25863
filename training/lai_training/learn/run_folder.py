"""The folder of a run: which experiment it holds, and what it takes to repeat it.

`config.yaml` is the experiment as run, `provenance.json` commit, versions, device, data,
normalisation and seed. `lai_training.learn.checkpoints` writes the weights beside them.
"""

import hashlib
import json
import os
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from lai_training.datasets.manifest import MANIFEST
from lai_training.errors import FitError
from lai_training.learn.config import FitConfig, PoolConfig, PreparedConfig, read_config
from lai_training.learn.pools import Normalisation, open_real
from lai_training.networks import SPECS, NetworkSpec
from lai_training.reporting import write_files

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"


def refuse_other_config(config: FitConfig, run: Path) -> None:
    """Raise `FitError` where the run folder holds another experiment than `config`."""
    path = run / CONFIG
    if not path.exists():
        return
    found = read_config(path).model_dump()
    if differing := [key for key, value in config.model_dump().items() if found[key] != value]:
        raise FitError(
            f"{run} holds a run of another config (it differs in {', '.join(differing)}): "
            "choose another --run, or delete that folder"
        )


def write_provenance(config: FitConfig, normalisation: Normalisation, run: Path) -> None:
    """Write what it takes to repeat the run beside its weights."""
    provenance = {
        **describe_machine(),
        "normalisation": normalisation.contract(),
        "data": {
            name: _describe_data(pool)
            for name, pool in (("pool", config.pool), ("validation", config.validation))
        },
        "config": config.model_dump(),
    }
    texts = {
        PROVENANCE: json.dumps(provenance, indent=2),
        CONFIG: yaml.safe_dump(config.model_dump(), sort_keys=False),
    }
    write_files(run, {}, texts)


def _describe_data(config: PoolConfig | PreparedConfig) -> dict[str, Any]:
    """Return what a run's patches are: simulated, or which products by which manifest."""
    if not isinstance(config, PreparedConfig):
        return {"simulated": config.model_dump()}
    manifest = open_real(config).manifest
    text = (Path(config.prepared) / MANIFEST).read_bytes()
    products = [each for each in manifest.products if config.split in each.patches]
    return {
        "manifest_sha256": hashlib.sha256(text).hexdigest(),
        "patches": manifest.splits[config.split].patches,
        "products": {each.product_id: each.checksum for each in products},
    }


def describe_machine() -> dict[str, Any]:
    """Return what a fit runs on: commit, backend, device in its words (`CPU:0`), versions."""
    versions = {}
    for name in ("keras", "numpy", "sentinel2-lai"):
        with suppress(PackageNotFoundError):  # the project may not be installed
            versions[name] = version(name)
    return {
        "commit": find_commit(),
        "backend": keras.backend.backend(),
        "device": str(keras.ops.zeros(1).device).rpartition("device:")[2],
        "versions": versions,
    }


def find_commit() -> str:
    """Return the commit of the working tree, with a mark where it is not clean.

    `LAI_COMMIT` states it where the working tree came without its repository.
    """
    if stated := os.environ.get("LAI_COMMIT"):
        return stated
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    here = Path(__file__).parent
    result = subprocess.run(describe, cwd=here, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def spec_of(run: Path) -> tuple[NetworkSpec, dict[str, Any]]:
    """Return the network's promises and the provenance of a run.

    Raises:
        FitError: the folder holds no run, or that of a network that is no more.
    """
    try:
        provenance: dict[str, Any] = json.loads((run / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FitError(f"{run} is not the folder of a run: {error}") from error
    network = provenance["config"]["network"]
    if network not in SPECS:
        raise FitError(f"{run} holds the network {network}; known are {', '.join(SPECS)}")
    return SPECS[network], provenance


def read_normalisation(run: Path) -> Normalisation:
    """Return the constants that a run was fitted with."""
    constants = spec_of(run)[1]["normalisation"]
    mean, std = (np.array(constants[key], dtype="float32") for key in ("mean", "std"))
    return Normalisation(mean, std)
