"""Scores on scenes: which pixels count, what SL2P is compared with, and how tables look."""

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from lai_training.cli import app
from lai_training.errors import EvaluationError
from lai_training.evaluation.networks import SL2P, open_networks
from lai_training.evaluation.scores import (
    CASES,
    CLEAN,
    NOMINAL,
    REAL,
    Case,
    Scene,
    find_clear_vegetation,
    read_real,
    run_case,
)
from lai_training.release import score_emulation
from lai_training.simulation.angles import add_missing_angles
from lai_training.sl2p.processor import predict_image
from lai_udf.bundle import default_bundle_path
from lai_udf.predict import BANDS, LaiModelError
from lai_udf.scenes.geotiff import write_scene_geotiff

LEAF = [0.03, 0.06, 0.03, 0.1, 0.25, 0.3, 0.32, 0.33, 0.17, 0.08]
INSIDE = (20, 20)


def _meadow(**bands: float) -> xr.DataArray:
    """A scene of one green spectrum; `bands` are changed in the pixel `INSIDE`."""
    values = np.tile(np.array(LEAF, "float32")[:, None, None], (1, 40, 40))
    for band, value in bands.items():
        values[BANDS.index(band)][INSIDE] = value
    return xr.DataArray(values, dims=("bands", "y", "x"), coords={"bands": list(BANDS)})


@pytest.mark.parametrize(
    "change",
    [
        {"B04": 0.2},  # NDVI (0.32 - 0.2) / 0.52 = 0.23
        {"B02": 0.2},  # haze
        {"B8A": 0.8},  # bright
        {"B12": 0.0},  # no reflectance
        {"B05": np.nan},  # no data
    ],
)
def test_a_pixel_that_is_no_clear_vegetation_is_not_scored(change):
    clear = find_clear_vegetation(_meadow(**change))

    assert not clear[INSIDE]
    assert clear.sum() == 8 * 8 - 1


def test_ndvi_just_above_the_threshold_counts():
    assert find_clear_vegetation(_meadow(B04=0.17))[INSIDE]  # (0.32 - 0.17) / 0.49 = 0.31


def test_a_border_of_the_halo_is_left_out():
    clear = find_clear_vegetation(_meadow())

    assert clear[16:24, 16:24].all()
    assert clear.sum() == 64


def _real(image: xr.DataArray) -> Scene:
    return Scene("field", REAL, add_missing_angles(image, 4), find_clear_vegetation(image), seed=4)


def test_the_reference_is_sl2p_of_the_scene_without_noise(scene):
    quiet = run_case(_real(scene), NOMINAL, [])
    noisy = run_case(_real(scene), Case("noisy", "", angles=False, noise=1.0), [])

    inner = predict_image(scene.sel(bands=list(BANDS)))[0][find_clear_vegetation(scene)]
    np.testing.assert_array_equal(quiet.reference, inner)
    np.testing.assert_array_equal(quiet.reference, quiet.estimates[SL2P])
    np.testing.assert_array_equal(noisy.reference, inner)
    assert np.std(noisy.estimates[SL2P] - inner) > 0.02


def test_given_angles_are_given_to_both(scene):
    with open_networks([default_bundle_path()]) as networks:
        nominal, given = (run_case(_real(scene), case, networks) for case in (NOMINAL, CLEAN))

    inner = predict_image(add_missing_angles(scene, 4))[0][find_clear_vegetation(scene)]
    np.testing.assert_array_equal(given.reference, inner)
    moved, name = given.reference - nominal.reference, networks[0].name
    assert np.abs(moved).mean() > 0.02
    assert np.corrcoef(moved, given.estimates[name] - nominal.estimates[name])[0, 1] > 0.9


def test_scenes_that_cannot_be_scored_are_skipped_and_named(scene, tmp_path, caplog):
    write_scene_geotiff(scene, tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_text("no raster")
    percent = 100 * scene.rename(None)
    percent.rio.to_raster(tmp_path / "percent.tif")

    metrics = score_emulation(default_bundle_path(), tmp_path)

    assert len(metrics) == len(CASES)
    for scores in metrics.values():
        assert (scores["scenes"], scores["skipped"]) == (1, ["bad.tif", "percent.tif"])
        assert scores["n"] == find_clear_vegetation(scene).sum()
    assert "bad.tif skipped" in caplog.text


def test_without_a_clear_pixel_there_is_nothing_to_score(scene, tmp_path):
    with pytest.raises(EvaluationError):
        read_real(tmp_path)
    write_scene_geotiff(scene.isel(y=slice(0, 20)), tmp_path / "narrow.tif")
    with pytest.raises(EvaluationError):
        score_emulation(default_bundle_path(), tmp_path)


def test_a_missing_bundle_is_no_skipped_scene(scene, tmp_path):
    write_scene_geotiff(scene, tmp_path / "good.tif")

    with pytest.raises(LaiModelError):
        score_emulation(tmp_path / "nowhere.zip", tmp_path)


def test_evaluate_prints_a_table_per_case_and_fails_in_one_sentence(scene, tmp_path):
    write_scene_geotiff(scene, tmp_path / "good.tif")
    command = ["evaluate", str(default_bundle_path())]

    result = CliRunner().invoke(app, [*command, str(tmp_path)])
    empty = CliRunner().invoke(app, [*command, str(tmp_path / "empty")])

    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("| score | ") == 3
    assert result.stdout.count("| paper: MLP | paper: UNet |") == 1
    assert "sigma" not in result.stdout
    assert (empty.exit_code, empty.stdout) == (1, "")
    assert "holds no scene" in empty.stderr
