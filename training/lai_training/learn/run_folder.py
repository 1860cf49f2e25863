"""The folder of a run: which experiment it holds, what it takes to repeat it, and its weights.

`config.yaml` is the experiment as run, `provenance.json` commit, versions, device, data,
normalisation and seed. `KeepRun` writes after every epoch:

* ``best.keras``: the network with the lowest validation loss;
* ``history.csv``: one row per epoch with its losses, patches per second while fitting, and
  seconds with validation;
* ``loss.png``: the losses drawn, where matplotlib is installed;
* ``backup/latest.weights.h5``: weights and state of the optimizer after the last epoch.

An epoch's files are written in a work folder and moved into place when all of them are complete,
the backup last: a kill at any moment leaves the files of some finished epoch. The backup itself
holds how far it got (steps of the optimizer), so no two files can disagree about it.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import pandas as pd
import yaml

from lai_training.config_files import read_yaml
from lai_training.datasets.manifest import MANIFEST
from lai_training.datasets.pool import open_prepared
from lai_training.errors import FitError
from lai_training.learn.config import FitConfig, PoolConfig, PreparedConfig, RestoreConfig
from lai_training.reporting import write_files
from lai_udf.atomic import disk_errors, move_finished, work_folder

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


BEST = "best.keras"
HISTORY = "history.csv"
CURVES = "loss.png"
RATE = "patches_per_s"
BACKUP = Path("backup") / "latest.weights.h5"

logger = logging.getLogger("lai_training")


def restore(model: keras.Model, run: Path, *, steps: int) -> int:
    """Load the last finished epoch of a run into a model; return how many are done.

    The model is compiled as when the run began; `steps` are batches per epoch.

    Raises:
        FitError: the backup is damaged or of another network.
    """
    for stale in run.glob(".lai-*.partial"):  # left by a kill
        shutil.rmtree(stale, ignore_errors=True)
    backup = run / BACKUP
    if not backup.exists():
        return 0
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(backup)
    except (OSError, ValueError, KeyError) as error:
        raise FitError(
            f"cannot go on from {backup} ({error}): delete the folder {run} to begin anew"
        ) from error
    return int(model.optimizer.iterations) // steps


def read_history(run: Path, epochs: int) -> pd.DataFrame:
    """Return the rows of the first `epochs` epochs of a run."""
    path = run / HISTORY
    if not path.exists():
        return pd.DataFrame({"epoch": [], "val_loss": []})
    return pd.read_csv(path, float_precision="round_trip").query("epoch < @epochs")


class AveragedWeights(keras.callbacks.SwapEMAWeights):  # type: ignore[misc]
    """Validate and keep the moving average of the weights; train the weights themselves.

    Between epochs the average is in the model, so it is what a backup holds: `resumed` records it.
    """

    def __init__(self, *, resumed: bool) -> None:
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = resumed


class KeepRun(keras.callbacks.Callback):  # type: ignore[misc]
    """Write the files of a run after every epoch; stop at the first loss that is no number."""

    def __init__(self, run: Path, *, epochs_done: int, patches: int = 0) -> None:
        """Go on with `run`, of which `epochs_done` epochs of `patches` patches are finished."""
        super().__init__()
        self._run = run
        self._patches = patches
        history = read_history(run, epochs_done)
        self._rows: list[dict[Any, Any]] = history.to_dict("records")
        self._best = history["val_loss"].min() if len(history) else math.inf
        self._began = self._fitted = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock of the epoch."""
        self._began = self._fitted = time.perf_counter()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Note when the fitting of the epoch ended and its validation began."""
        self._fitted = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Raise `FitError` where the loss became NaN or infinite."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise FitError(
                f"{self._run}: the loss became NaN after {batch + 1} batches of epoch "
                f"{len(self._rows) + 1}; lower learning_rate in the config and fit into a new run"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write best weights, history and backup, all or nothing."""
        losses = logs or {}
        if not math.isfinite(losses["val_loss"]):
            raise FitError(
                f"{self._run}: the validation loss of epoch {epoch + 1} is {losses['val_loss']}; "
                "look at the validation pool, or lower learning_rate, and fit into a new run"
            )
        seconds = round(time.perf_counter() - self._began, 1)
        rate = round(self._patches / max(self._fitted - self._began, 1e-3), 1)
        self._rows.append({"epoch": epoch, **losses, RATE: rate, "seconds": seconds})
        history = pd.DataFrame(self._rows)
        last = [RATE, "seconds"]
        names = ["epoch", *sorted(set(map(str, history)) - {"epoch", *last}), *last]
        backup = self._run / BACKUP
        with work_folder(self._run) as work, disk_errors(self._run):
            if losses["val_loss"] < self._best:
                self._best = losses["val_loss"]
                self.model.save(work / BEST)
            history[names].to_csv(work / HISTORY, index=False)
            if find_spec("matplotlib"):
                draw_losses(history, work / CURVES)
            files = {path: self._run / path.name for path in work.iterdir()}
            self.model.save_weights(work / backup.name)
            backup.parent.mkdir(exist_ok=True)
            move_finished({**files, work / backup.name: backup})
        logger.info(
            "epoch %d: loss %.5f, validation %.5f (best %.5f), %.0f s, %.0f patches/s",
            epoch + 1,
            losses["loss"],
            losses["val_loss"],
            self._best,
            seconds,
            rate,
        )


def draw_losses(history: pd.DataFrame, path: Path) -> None:
    """Draw training and validation loss over the epochs (the paper's figures 3 and 4)."""
    from matplotlib.figure import Figure  # slow to import, and only drawn here
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (
        ("loss", "training (noise, gaps and dropout)", "0.55"),
        ("val_loss", "validation (no dropout)", "black"),
    ):
        marker = "." if len(history) < 20 else ""
        axes.plot(history["epoch"] + 1, history[key], color=style, marker=marker, label=label)
    if (history[["loss", "val_loss"]] > 0).all(axis=None):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="epoch", ylabel="weighted loss", xlim=(0.5, len(history) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
