"""Fits through the command: what a run leaves behind, a kill in the middle, and refusals."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from lai_training.checkpoints import KeepRun, read_history
from lai_training.cli import app
from lai_training.config import FitConfig, read_config
from lai_training.errors import ConfigError, FitError
from lai_training.fit import fit, read_normalisation
from lai_training.networks import SPECS

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

EXPERIMENT = {
    "network": "seamless",
    "seed": 1,
    "pool": {"patches": 16, "size_px": 32, "seed": 7},
    "validation": {"patches": 8, "size_px": 32, "seed": 8},
    "samples": {"patch_px": 32, "batch": 4},
    "epochs": 2,
    "steps": 2,
    "learning_rate": 0.003,
    "ema_momentum": 0.9,
    "huber_delta": 0.5,
    "spread_steps": 10,
}


def _write_config(folder: Path, **changes: object) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **changes}))
    return path


def _lai_train(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def _losses(run: Path) -> list[tuple[str, str]]:
    with (run / "history.csv").open() as file:
        return [(row["loss"], row["val_loss"]) for row in csv.DictReader(file)]


def test_a_fit_leaves_weights_history_and_provenance(tmp_path, pools):
    run = tmp_path / "run"

    code, stdout, _ = _lai_train("fit", _write_config(tmp_path), "--run", run, "--pools", pools)

    assert (code, stdout.strip()) == (0, str(run / "final.keras"))
    assert len(_losses(run)) == 2
    provenance = json.loads((run / "provenance.json").read_text())
    assert {"commit", "backend", "versions", "normalisation", "config"} == set(provenance)
    assert provenance["config"]["epochs"] == 2
    assert read_config(run / "config.yaml") == FitConfig.model_validate(EXPERIMENT)
    assert (read_normalisation(run).std > 0).all()
    assert json.loads((run / "spread.json").read_text())["patches"] == 10
    best, final = (keras.models.load_model(run / f"{name}.keras") for name in ("best", "final"))
    features = np.ones((1, 16, 16, 14), "float32")
    ones = np.ones((1, SPECS["seamless"].mask_count), "float32")
    np.testing.assert_array_equal(best([features, ones])[0], final([features, ones])[0])
    assert not list(run.glob(".*"))


def test_a_fit_that_was_killed_goes_on_as_if_nothing_had_happened(tmp_path, pools):
    changes = {"network": "mlp", "epochs": 12, "steps": 8, "spread_steps": 0}
    config = _write_config(tmp_path, **changes)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [Path(sys.executable).with_name("lai-train"), "fit", config]
    process = subprocess.Popen(
        [*command, "--run", killed, "--pools", pools],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while len(read_history(killed, 12)) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the fit ended before it could be killed"
    before = _losses(killed)
    keras.models.load_model(killed / "best.keras")  # whole, though its writer is dead
    (killed / ".lai-stale.partial").mkdir()

    for run in (killed, whole):
        code, _, stderr = _lai_train("fit", config, "--run", run, "--pools", pools)
        assert code == 0, stderr

    assert 2 <= len(before) < 12
    assert _losses(killed)[: len(before)] == before
    np.testing.assert_allclose(
        np.array(_losses(killed), "float64"), np.array(_losses(whole), "float64"), rtol=1e-4
    )
    assert not list(killed.glob(".*"))


def test_a_resumed_fit_remembers_its_best_epoch(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n0,1,0.2\n1,1,0.5\n2,1,0.1\n")
    keep = KeepRun(tmp_path, epochs_done=2)  # epoch 2 was not finished and is done again
    keep.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    keep.model.compile(loss="mse")

    keep.on_epoch_end(2, {"loss": 1.0, "val_loss": 0.3})
    assert not (tmp_path / "best.keras").exists()
    keep.on_epoch_end(3, {"loss": 1.0, "val_loss": 0.15})

    assert (tmp_path / "best.keras").exists()
    assert [row["epoch"] for row in read_history(tmp_path, 9)] == ["0", "1", "2", "3"]


def test_a_loss_that_is_no_number_stops_the_fit_in_one_sentence(tmp_path, pools, land):
    broken = tmp_path / "pools"
    broken.mkdir()
    np.save(broken / "patches-16x32-seed7.npy", np.full_like(land, np.nan))
    np.save(broken / "patches-8x32-seed8.npy", land[:8])
    config = _write_config(tmp_path, network="mlp", spread_steps=0)

    code, stdout, stderr = _lai_train("fit", config, "--run", tmp_path / "run", "--pools", broken)

    assert (code, stdout) == (1, "")
    assert "the loss became NaN after 1 batches of epoch 1; lower learning_rate" in stderr
    assert not (tmp_path / "run" / "best.keras").exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_infinite_losses_count_as_no_number(tmp_path, loss):
    with pytest.raises(FitError, match="became NaN after 3 batches"):
        KeepRun(tmp_path, epochs_done=0).on_train_batch_end(2, {"loss": loss})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stpes": 3}, "unknown key stpes"),
        ({"samples": {"patch_px": 32, "noise": 1}}, r"unknown key samples\.noise"),
        ({"epochs": 0}, r"epochs: .* greater than or equal to 1, got 0"),
        ({"network": "resnet"}, "network: .*'seamless', 'paper' or 'mlp'"),
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
    configs = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))

    assert {read_config(path).network for path in configs} >= {"seamless"}


def test_a_run_folder_of_another_experiment_is_not_overwritten(tmp_path, pools):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    other = FitConfig.model_validate({**EXPERIMENT, "seed": 2, "steps": 9})

    with pytest.raises(FitError, match=r"differs in seed, steps\): choose another --run"):
        fit(other, run, pools=pools)


def test_a_damaged_backup_is_named(tmp_path, pools):
    backup = tmp_path / "run" / "backup" / "latest.weights.h5"
    backup.parent.mkdir(parents=True)
    backup.write_bytes(b"half a file")

    with pytest.raises(FitError, match=r"cannot go on from .*latest\.weights\.h5"):
        fit(FitConfig.model_validate(EXPERIMENT), tmp_path / "run", pools=pools)


def test_a_missing_start_is_named(tmp_path, pools):
    config = FitConfig.model_validate({**EXPERIMENT, "start_from": "first"})

    with pytest.raises(FitError, match=r"start_from: .*first holds no best\.keras"):
        fit(config, tmp_path / "second", pools=pools)
