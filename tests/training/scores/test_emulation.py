"""Scores on scenes: which pixels count, what SL2P is compared with, and how tables look."""

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from lai_training.cli import app
from lai_training.errors import EvaluationError
from lai_training.scores.emulation import (
    compare_with_sl2p,
    find_clear_vegetation,
    find_scenes,
    score_scenes,
)
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


def test_the_reference_is_sl2p_of_the_scene_without_noise(scene):
    quiet = compare_with_sl2p(scene, default_bundle_path())
    noisy = compare_with_sl2p(scene, default_bundle_path(), noise=1.0, seed=1)

    inner = predict_image(scene.sel(bands=list(BANDS)))[0][find_clear_vegetation(scene)]
    np.testing.assert_array_equal(quiet["sl2p"], inner)
    np.testing.assert_array_equal(quiet["sl2p"], quiet["sl2p_noisy"])
    np.testing.assert_array_equal(noisy["sl2p"], inner)
    assert np.std(noisy["sl2p_noisy"] - inner) > 0.02


def test_given_angles_are_given_to_both(scene):
    nominal = compare_with_sl2p(scene, default_bundle_path(), seed=4)
    given = compare_with_sl2p(scene, default_bundle_path(), angles=True, seed=4)

    inner = predict_image(add_missing_angles(scene, 4))[0][find_clear_vegetation(scene)]
    np.testing.assert_array_equal(given["sl2p"], inner)
    moved = given["sl2p"] - nominal["sl2p"]
    assert np.abs(moved).mean() > 0.02
    assert np.corrcoef(moved, given["network"] - nominal["network"])[0, 1] > 0.9


def test_scenes_that_cannot_be_read_are_skipped_and_named(scene, tmp_path, caplog):
    write_scene_geotiff(scene, tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_text("no raster")

    scores = score_scenes(find_scenes(tmp_path), default_bundle_path())

    assert (scores["scenes"], scores["skipped"]) == (1, ["bad.tif"])
    assert "bad.tif skipped" in caplog.text
    assert scores["n"] == find_clear_vegetation(scene).sum()


def test_without_a_clear_pixel_there_is_nothing_to_score(scene, tmp_path):
    with pytest.raises(EvaluationError):
        find_scenes(tmp_path)
    path = write_scene_geotiff(scene.isel(y=slice(0, 20)), tmp_path / "narrow.tif")
    with pytest.raises(EvaluationError):
        score_scenes([path], default_bundle_path())


def test_a_missing_bundle_is_no_skipped_scene(scene, tmp_path):
    path = write_scene_geotiff(scene, tmp_path / "good.tif")

    with pytest.raises(LaiModelError):
        score_scenes([path], tmp_path / "nowhere.zip")


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
