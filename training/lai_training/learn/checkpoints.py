"""What a fit writes after every epoch, and where it resumes after a kill.

In a run folder, written by `KeepRun`:

* ``best.keras``: the network with the lowest validation loss;
* ``history.csv``: one row per epoch with its losses, patches per second while fitting, and
  seconds with validation;
* ``loss.png``: the losses drawn, where matplotlib is installed;
* ``backup/latest.weights.h5``: weights and state of the optimizer after the last epoch.

An epoch's files are written in a work folder and moved into place when all of them are complete,
the backup last: a kill at any moment leaves the files of some finished epoch. The backup itself
holds how far it got (steps of the optimizer), so no two files can disagree about it.
"""

import csv
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras

from lai_training.errors import FitError
from lai_udf.atomic import disk_errors, move_finished, work_folder

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


def read_history(run: Path, epochs: int) -> list[dict[str, Any]]:
    """Return the rows of the first `epochs` epochs of a run."""
    path = run / HISTORY
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) < epochs]


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
        self._rows = read_history(run, epochs_done)
        self._best = min((float(row["val_loss"]) for row in self._rows), default=math.inf)
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
        now = time.perf_counter()
        seconds = round(now - self._began, 1)
        rate = round(self._patches / max(self._fitted - self._began, 1e-3), 1)
        self._rows.append({"epoch": epoch, **losses, RATE: rate, "seconds": seconds})
        kept = (HISTORY, CURVES) if find_spec("matplotlib") else (HISTORY,)
        backup = self._run / BACKUP
        files: dict[Path, Path] = {}
        with work_folder(self._run) as work, disk_errors(self._run):
            if losses["val_loss"] < self._best:
                self._best = losses["val_loss"]
                self.model.save(work / BEST)
                files[work / BEST] = self._run / BEST
            _write_rows(work / HISTORY, self._rows)
            if CURVES in kept:
                draw_losses(self._rows, work / CURVES)
            self.model.save_weights(work / backup.name)
            backup.parent.mkdir(exist_ok=True)
            files |= {work / name: self._run / name for name in kept}
            files[work / backup.name] = backup
            move_finished(files)
        logger.info(
            "epoch %d: loss %.5f, validation %.5f (best %.5f), %.0f s, %.0f patches/s",
            epoch + 1,
            losses["loss"],
            losses["val_loss"],
            self._best,
            seconds,
            rate,
        )


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    last = (RATE, "seconds")
    names = ["epoch", *sorted(set().union(*rows) - {"epoch", *last}), *last]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def draw_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and validation loss over the epochs (the paper's figures 3 and 4).

    `rows` are those of `history.csv`, numbers or their text.
    """
    from matplotlib.figure import Figure  # slow to import, and only drawn here
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    epochs = [int(row["epoch"]) + 1 for row in rows]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (
        ("loss", "training (noise, gaps and dropout)", "0.55"),
        ("val_loss", "validation (no dropout)", "black"),
    ):
        losses = [float(row[key]) for row in rows]
        axes.plot(epochs, losses, color=style, marker="." if len(rows) < 20 else "", label=label)
    if all(float(row[key]) > 0 for row in rows for key in ("loss", "val_loss")):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="epoch", ylabel="weighted loss", xlim=(0.5, len(rows) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
