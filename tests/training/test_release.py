"""From a run to the bundle that ships, and the bundle beside SL2P on field pairs."""

import shutil

import keras
import pytest
from typer.testing import CliRunner

from lai_training.calibration import correction
from lai_training.calibration import validate as validation
from lai_training.cli import app
from lai_training.errors import ExportError
from lai_training.learn.config import FitConfig
from lai_training.learn.pools import measure_normalisation
from lai_training.learn.run_folder import write_provenance
from lai_training.networks import build_network
from lai_training.release import release
from lai_udf.bundle import open_bundle
from lai_udf.scenes.geotiff import write_scene_geotiff

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CONFIG = FitConfig.model_validate(
    {
        "network": "mlp",
        "seed": 1,
        "pool": {"patches": 16, "size_px": 32, "seed": 7},
        "validation": {"patches": 8, "size_px": 32, "seed": 8},
        "samples": {"patch_px": 32, "batch": 4},
        "epochs": 1,
        "steps": 1,
        "learning_rate": 0.1,
    }
)


@pytest.fixture(autouse=True, scope="module")
def _fit_in_few_steps():
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(correction, "STEPS", 15)
        monkeypatch.setattr(correction, "MIXTURES", 50)
        draw = validation.draw_rows
        monkeypatch.setattr(validation, "draw_rows", lambda names, rng, _: draw(names, rng, 40))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, land):
    """A finished run whose network was never fitted."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(5)
    build_network("mlp").save(folder / "best.keras")
    (folder / "history.csv").write_text("epoch,loss,val_loss\n0,1,1\n")
    write_provenance(folder, CONFIG, normalisation=measure_normalisation(land))
    return folder


def _write(table, folder):
    path = folder / "pairs.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory, made_pairs, scene):
    folder = tmp_path_factory.mktemp("bundle")
    write_scene_geotiff(scene, folder / "scenes" / "land.tif")
    pairs, scenes = _write(made_pairs, folder), folder / "scenes"
    return release(run, folder / "b.zip", version="0.3.0", pairs=pairs, scenes=scenes)


def test_a_bundle_carries_its_calibration_and_scores(bundle):
    opened = open_bundle(bundle)

    assert (opened.model_id, opened.version) == ("sentinel2-lai-mlp", "0.3.0")
    calibration, metrics = opened.contract["calibration"], opened.contract["metrics"]
    assert (calibration["n_pairs"], calibration["n_site_dates"]) == (60, 12)
    assert calibration["data"] == "pairs.csv"
    assert metrics["sl2p_on_real_scenes_angles_given"]["scenes"] == 1
    assert metrics["sl2p_on_real_scenes_nominal_angles"]["scenes"] == 1
    assert metrics["sl2p_on_real_scenes_with_noise"]["rmse_sl2p"] > 0


def test_validate_scores_both_targets_beside_sl2p(bundle, tmp_path, field_pairs):
    command = ["validate", str(_write(field_pairs, tmp_path)), "--out", str(tmp_path / "report")]

    result = CliRunner().invoke(app, [*command, "--model", str(bundle)])

    assert result.exit_code == 0, result.stderr
    for name in ("SL2P 2_1", "mlp 0.3.0 sl2p, left out", "mlp 0.3.0 field, left out"):
        assert f"| {name} | 60 |" in result.stdout
    assert "## Stated uncertainty" in result.stdout


@pytest.mark.parametrize(
    "lost",
    ["best.keras", "history.csv"],
)
def test_an_unfinished_run_is_not_exported(run, tmp_path, field_pairs, lost):
    pairs, unfinished = _write(field_pairs, tmp_path), tmp_path / "run"
    shutil.copytree(run, unfinished)
    (unfinished / lost).unlink()

    with pytest.raises(ExportError):
        release(unfinished, tmp_path / "b.zip", version="0.3.0", pairs=pairs, scenes=None)
    assert not (tmp_path / "b.zip").exists()


def test_export_of_bad_pairs_leaves_no_bundle(run, tmp_path):
    (tmp_path / "pairs.csv").write_text("lai\n1\n")
    command = ["export", str(run), str(tmp_path / "b.zip"), "--version", "1.0.0"]

    result = CliRunner().invoke(app, [*command, "--pairs", str(tmp_path / "pairs.csv")])

    assert result.exit_code == 1
    assert "lacks the columns" in result.stderr
    assert not (tmp_path / "b.zip").exists()
