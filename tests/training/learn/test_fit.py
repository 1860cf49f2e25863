"""Fits through the command: what a run leaves behind, a kill in the middle, and refusals."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from lai_training.cli import app
from lai_training.errors import ConfigError, FitError
from lai_training.learn import run_folder
from lai_training.learn.config import FitConfig, read_config
from lai_training.learn.fit import fit
from lai_training.learn.run_folder import KeepRun, read_history, read_provenance

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

EXPERIMENT = {
    "network": "mlp",
    "seed": 1,
    "pool": {"patches": 16, "size_px": 32, "seed": 7},
    "validation": {"patches": 8, "size_px": 32, "seed": 8},
    "samples": {"patch_px": 32, "batch": 4},
    "epochs": 2,
    "steps": 2,
    "learning_rate": 0.003,
    "ema_momentum": 0.9,
    "huber_delta": 0.5,
}


def _write_config(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **changes}))
    return path


def _lai_train(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def _keep_run(run: Path, **arguments: int) -> KeepRun:
    """The callback that keeps a run, on a network of two weights."""
    keep = KeepRun(run, **{"epochs_done": 0, **arguments})
    keep.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    keep.model.compile(loss="mse")
    return keep


def _losses(run: Path) -> list[tuple[str, str]]:
    with (run / "history.csv").open() as file:
        return [(row["loss"], row["val_loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, pools) -> tuple[Path, tuple[str, str], str]:
    """Return a run that was interrupted in its second epoch and finished by the command.

    Beside it the losses of its first epoch before the interruption, and what the command printed.
    """
    folder = tmp_path_factory.mktemp("resumed")
    config, run = _write_config(folder), folder / "run"
    move, epochs = run_folder.move_finished, iter(range(9))

    def interrupt(files: dict[Path, Path]) -> None:
        if next(epochs) == 1:
            raise KeyboardInterrupt
        move(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "move_finished", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(read_config(config), run, pools=pools)
    (first,) = _losses(run)

    code, stdout, stderr = _lai_train("fit", config, "--run", run, "--pools", pools)

    assert code == 0, stderr
    return run, first, stdout


def test_a_fit_that_was_interrupted_goes_on_with_the_epoch_that_was_not_done(resumed):
    run, first, _ = resumed

    assert _losses(run)[0] == first
    assert len(_losses(run)) == 2


def test_a_fit_leaves_weights_history_and_provenance(resumed):
    run, _, stdout = resumed

    assert stdout.strip() == str(run / "best.keras")
    assert (read_history(run, 2)["patches_per_s"] > 0).all()
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    provenance = json.loads((run / "provenance.json").read_text())
    recorded = {"commit", "backend", "device", "versions", "normalisation", "data", "config"}
    assert recorded == set(provenance)
    assert provenance["device"] in ("CPU:0", "GPU:0")
    assert provenance["config"]["epochs"] == 2
    assert read_config(run / "config.yaml") == FitConfig.model_validate(EXPERIMENT)
    assert min(read_provenance(run)["normalisation"]["std"]) > 0
    assert not list(run.glob(".*"))


KILLED = """
import os, signal
from lai_training.cli import app
from lai_training.learn import run_folder

move, epochs = run_folder.move_finished, iter(range(9))

def move_and_die(files):
    dies = next(epochs) == 2
    move(dict(list(files.items())[:-1]) if dies else files)  # all but the backup
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)

run_folder.move_finished = move_and_die
app()
"""


@pytest.mark.slow
def test_a_fit_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path, pools):
    config = _write_config(tmp_path, epochs=4)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, "fit", config, "--run", killed, "--pools", pools]
    ended = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    before = _losses(killed)
    keras.models.load_model(killed / "best.keras")  # whole, though its writer is dead
    (killed / ".lai-stale.partial").mkdir()

    for run in (killed, whole):
        code, _, stderr = _lai_train("fit", config, "--run", run, "--pools", pools)
        assert code == 0, stderr

    assert len(before) == 3  # of the last of them there is no backup: it is done again
    assert _losses(killed)[:2] == before[:2]
    np.testing.assert_allclose(
        np.array(_losses(killed), "float64"), np.array(_losses(whole), "float64"), rtol=1e-4
    )
    assert not list(killed.glob(".*"))


def test_a_resumed_fit_remembers_its_best_epoch(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n0,1,0.2\n1,1,0.5\n2,1,0.1\n")
    keep = _keep_run(tmp_path, epochs_done=2)  # epoch 2 was not finished and is done again

    keep.on_epoch_end(2, {"loss": 1.0, "val_loss": 0.3})
    assert not (tmp_path / "best.keras").exists()
    keep.on_epoch_end(3, {"loss": 1.0, "val_loss": 0.15})

    assert (tmp_path / "best.keras").exists()
    assert read_history(tmp_path, 9)["epoch"].tolist() == [0, 1, 2, 3]


def test_a_loss_that_is_no_number_stops_the_fit_in_one_sentence(tmp_path, pools):
    config = _write_config(tmp_path, schedule="constant", learning_rate=1e20)

    code, stdout, stderr = _lai_train("fit", config, "--run", tmp_path / "run", "--pools", pools)

    assert (code, stdout) == (1, "")
    assert "the loss became NaN after 2 batches of epoch 1; lower learning_rate" in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "best.keras").exists()


@pytest.mark.parametrize("where", ["loss", "val_loss"])
def test_a_loss_that_is_no_number_leaves_the_files_of_the_last_good_epoch(tmp_path, where):
    keep = _keep_run(tmp_path)
    keep.on_epoch_end(0, {"loss": 1.0, "val_loss": 0.3})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    losses = {"loss": 1.0, "val_loss": 0.2, where: math.nan}
    end = keep.on_train_batch_end if where == "loss" else keep.on_epoch_end
    with pytest.raises(FitError):
        end(1, losses)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert {path.name for path in before} == {
        "best.keras",
        "history.csv",
        "loss.png",
        "latest.weights.h5",
    }


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_infinite_losses_count_as_no_number(tmp_path, loss):
    with pytest.raises(FitError):
        KeepRun(tmp_path, epochs_done=0).on_train_batch_end(2, {"loss": loss})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stpes": 3}, "unknown key stpes"),
        ({"samples": {"patch_px": 32, "noise": 1}}, r"unknown key samples\.noise"),
        ({"epochs": 0}, r"epochs: .* greater than or equal to 1, got 0"),
        ({"network": "resnet"}, "network: .*'paper' or 'mlp'"),
        ({"pool": {"patches": 16, "size_px": 32}}, r"key pool\.seed is missing"),
    ],
)
def test_a_wrong_config_is_refused_in_one_sentence_that_names_the_key(tmp_path, changes, sentence):
    config = _write_config(tmp_path, **changes)

    with pytest.raises(ConfigError, match=sentence) as caught:
        read_config(config)

    assert "\n" not in str(caught.value)
    assert _lai_train("fit", config)[0] == 1


@pytest.mark.parametrize("text", ["- a list\n", "a: [", ""])
def test_a_file_that_is_no_config_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        read_config(path)

    assert "\n" not in str(caught.value)


def test_the_configs_that_ship_are_valid():
    folder = Path(__file__).parents[3] / "training" / "configs"
    configs = sorted(set(folder.glob("*.yaml")) - set(folder.glob("*_data.yaml")))

    assert {read_config(path).network for path in configs} >= {"restoring", "paper"}


def test_a_run_folder_of_another_experiment_is_not_overwritten(tmp_path, pools):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    other = FitConfig.model_validate({**EXPERIMENT, "seed": 2, "steps": 9})

    with pytest.raises(FitError):
        fit(other, run, pools=pools)


def test_a_damaged_backup_is_refused(tmp_path, pools):
    backup = tmp_path / "run" / "backup" / "latest.weights.h5"
    backup.parent.mkdir(parents=True)
    backup.write_bytes(b"half a file")

    with pytest.raises(FitError):
        fit(FitConfig.model_validate(EXPERIMENT), tmp_path / "run", pools=pools)
