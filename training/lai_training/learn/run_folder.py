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
import yaml

from lai_training.config_files import read_yaml
from lai_training.datasets.manifest import MANIFEST
from lai_training.datasets.pool import open_prepared
from lai_training.errors import FitError
from lai_training.learn.config import FitConfig, PoolConfig, PreparedConfig, RestoreConfig
from lai_training.reporting import write_files

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"


def refuse_other_config(config: FitConfig, run: Path) -> None:
    """Raise `FitError` where the run folder holds another experiment than `config`."""
    path = run / CONFIG
    if not path.exists():
        return
    before = read_yaml(path, FitConfig).model_dump()
    if differing := [key for key, value in config.model_dump().items() if before[key] != value]:
        raise FitError(
            f"{run} holds a run of another config (it differs in {', '.join(differing)}): "
            "choose another --run, or delete that folder"
        )


def write_provenance(
    run: Path,
    config: FitConfig | RestoreConfig,
    **facts: Any,  # noqa: ANN401  (what JSON holds)
) -> None:
    """Write config and provenance of a run: what it takes to repeat it."""
    stated = config.model_dump(mode="json")
    provenance = {**describe_machine(), "config": stated, **facts}
    texts = {
        PROVENANCE: json.dumps(provenance, indent=2),
        CONFIG: yaml.safe_dump(stated, sort_keys=False),
    }
    write_files(run, {}, texts)


def describe_data(config: PoolConfig | PreparedConfig) -> dict[str, Any]:
    """Return what a run's patches are: simulated, or which products by which manifest."""
    if not isinstance(config, PreparedConfig):
        return {"simulated": config.model_dump()}
    folder = Path(config.prepared)
    manifest = open_prepared(folder, config.split).manifest
    products = [each for each in manifest.products if config.split in each.patches]
    return {
        "manifest_sha256": hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
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


def read_provenance(run: Path) -> dict[str, Any]:
    """Return `provenance.json` of a run; raise `FitError` where the folder holds none."""
    try:
        provenance: dict[str, Any] = json.loads((run / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FitError(f"{run} is not the folder of a run: {error}") from error
    return provenance
