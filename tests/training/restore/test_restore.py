"""Bodies that restore spectra: exact without correction, trained on what scenes were before."""

import json

import keras
import numpy as np
import pytest
from fake_cubes import fake_cube

from lai_training import sl2p
from lai_training.bundles.export import pack_run, write_members
from lai_training.errors import EvaluationError
from lai_training.evaluation.networks import open_networks
from lai_training.evaluation.ten_metres import CUBIC, DETAIL, interpolate, score_wald
from lai_training.learn.config import BodyConfig, RestoreConfig
from lai_training.restore.degradation import add_measured_noise, cover, degrade, move
from lai_training.restore.fit import fit_bodies
from lai_training.restore.network import (
    BODIES,
    READOUT,
    VARIABLE_SCALES,
    attach_head,
    build_body,
    read_spectra,
)
from lai_training.restore.samples import BodyStream, Patches, measure_constants
from lai_training.restore.scenes import (
    CLEAR_LOST,
    Scene,
    find_valid_vegetation,
    fit_residual_cloud,
    read_scenes,
)
from lai_udf.bundle import open_bundle
from lai_udf.predict import BANDS, COARSE_ROWS, FINE_ROWS, exceed_visible, load_model
from lai_udf.scenes.geotiff import write_scene_geotiff

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NOMINAL = np.array([1.0, 0.76604444, 0.0], dtype="float32")
TINY = BodyConfig(epochs=1, steps=2, patch_px=16, batch=2, learning_rate=1e-3, band_weight=0.05)
CONFIG = RestoreConfig(
    network="restoring", seed=1, scenes="", simulated_patches=0, body_20m=TINY, body_10m=TINY
)


def make_scene(seed: int, side: int = 64) -> Scene:
    cube = fake_cube(np.random.default_rng(seed), side=side).isel(t=0, drop=True)
    reflectance = cube.sel(bands=list(BANDS)).values
    return Scene(f"{seed}.tif", reflectance, find_valid_vegetation(reflectance), f"place {seed}")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return fit_bodies(CONFIG, scenes, folder / "restoring", pools=folder)


@pytest.mark.parametrize("resolution", BODIES)
def test_an_untrained_network_is_sl2p(resolution, scenes):
    spec = BODIES[resolution]
    network = attach_head(build_body(spec), spec)
    constants = measure_constants(scenes, spec.side)
    (features, masks, spectra, cosines), target = BodyStream(
        Patches(scenes), spec, CONFIG, constants
    )[0]
    made = keras.ops.convert_to_numpy(network([features, masks, spectra, cosines]))

    assert target.shape[-1] == 16
    for sample in range(len(cosines)):
        expected = read_spectra(np.moveaxis(spectra[sample], -1, 0), cosines[sample])
        np.testing.assert_allclose(np.moveaxis(made[sample, ..., :5], -1, 0), expected, atol=1e-4)
    assert not made[..., 5:].any()


def test_folded_weights_predict_what_sl2p_predicts(scenes):
    image = scenes[0].reflectance
    for number, (variable, scale) in enumerate(VARIABLE_SCALES.items()):
        bands = dict(zip(BANDS, image, strict=True))
        value, _ = sl2p.predict_bands(bands, variable=variable, network="2_1", clip=False)
        found = read_spectra(image, NOMINAL)[number]
        np.testing.assert_allclose(found, value / scale, atol=2e-4)


def test_the_correction_of_a_block_sums_to_zero_and_leaves_the_fine_bands(rng):
    spec = BODIES[10]
    body = build_body(spec)
    readout = body.get_layer(READOUT)
    readout.kernel.assign(rng.normal(size=readout.kernel.shape))
    features = rng.normal(size=(1, 12, 12, spec.feature_count)).astype("float32")
    made = body([features, np.ones((1, spec.width), "float32")])
    correction = keras.ops.convert_to_numpy(made).reshape(12, 12, 4, len(BANDS))

    np.testing.assert_allclose(correction.sum(axis=2), 0, atol=1e-4)
    assert not correction[..., FINE_ROWS].any()
    assert np.abs(correction[..., COARSE_ROWS]).max() > 0.1


@pytest.mark.parametrize("resolution", BODIES)
def test_the_reach_is_what_is_promised(resolution, rng):
    spec = BODIES[resolution]
    body = build_body(spec)
    readout = body.get_layer(READOUT)
    readout.kernel.assign(rng.normal(size=readout.kernel.shape))
    features = rng.normal(size=(1, 24, 24, spec.feature_count)).astype("float32")
    ones = np.ones((1, spec.width), "float32")
    poked = features.copy()
    poked[0, 12, 12] += 10
    changed = np.abs(keras.ops.convert_to_numpy(body([poked, ones]) - body([features, ones]))).max(
        axis=(0, 3)
    )
    rows, columns = (changed > 0).nonzero()

    assert max(abs(rows - 12).max(), abs(columns - 12).max()) == spec.depth
    assert spec.reach_px <= 16


@pytest.mark.parametrize("seed", range(8))
def test_haze_cloud_and_shadow_change_every_band_and_leave_reflectance(seed):
    land = np.full((len(BANDS), 32, 32), 0.2, dtype="float32")
    covered = cover(land, np.random.default_rng(seed))

    assert covered.dtype == np.float32
    assert covered.shape == land.shape
    assert covered.min() > 0
    assert (np.abs(covered - land).max(axis=(1, 2)) > 1e-5).all()


def test_degrading_keeps_the_fine_bands_and_repeats_the_mean_of_the_others(scenes):
    image = scenes[0].reflectance
    degraded = degrade(image)

    np.testing.assert_array_equal(degraded[FINE_ROWS], image[FINE_ROWS])
    block = degraded[COARSE_ROWS, 4:6, 8:10]
    assert (block == block[:, :1, :1]).all()
    np.testing.assert_allclose(
        block[:, 0, 0], image[COARSE_ROWS, 4:6, 8:10].mean(axis=(1, 2)), rtol=1e-5
    )


def test_noise_has_the_measured_size_and_band_correlation(rng):
    flat = np.full((10, 200, 200), 0.2, dtype="float32")
    noise = add_measured_noise(flat, 1.0, rng) - flat
    flattened = noise.reshape(10, -1)
    correlation = np.corrcoef(flattened)
    b07, b8a, b11, b12 = (BANDS.index(band) for band in ("B07", "B8A", "B11", "B12"))

    assert flattened.std(axis=1)[0] == pytest.approx(0.025 * 0.2 + 0.0004, rel=0.1)
    assert flattened.std(axis=1)[b8a] == pytest.approx(0.013 * 0.2 + 0.0004, rel=0.1)
    assert 0.65 < correlation[b07, b8a] < 0.85
    assert 0.55 < correlation[b11, b12] < 0.75


def test_moving_a_scene_keeps_its_mean_and_its_contrast(rng):
    row, column = np.mgrid[:40, :40]
    wave = 0.3 + 0.1 * np.sin(row / 2) * np.cos(column / 3)
    moved = move(np.tile(wave, (10, 1, 1)).astype("float32"), rng)

    assert moved.mean() == pytest.approx(wave.mean(), abs=2e-3)
    assert moved[:, 8:-8, 8:-8].std() == pytest.approx(wave[8:-8, 8:-8].std(), rel=0.1)


def test_a_run_becomes_a_bundle_that_the_udf_runs_at_both_resolutions(run, scenes, tmp_path):
    members = pack_run(run, version="1.2.3")
    path = write_members(tmp_path / "bundle.zip", members)

    bundle = open_bundle(path)
    assert (bundle.model_id, bundle.version) == ("sentinel2-lai", "1.2.3")
    assert bundle.contract["version"] == 2
    assert set(load_model(str(path)).bodies) == {20, 10}
    assert {"body_20m.keras", "body_10m.keras"} <= set(members)
    with open_networks([path]) as networks:
        table = score_wald(scenes, networks)
    assert set(table["variable"]) == {"LAI", "FAPAR", "FCOVER", "CCC", "CWC"}
    ratio = table.set_index(["method", "variable"])["ratio"]
    assert (ratio[CUBIC] == 1).all()
    assert np.isfinite(ratio[DETAIL]).all()


def test_the_weights_that_ship_can_be_trained_on(run):
    body = keras.models.load_model(run / "body_10m.keras", compile=False)

    assert body.get_layer(READOUT).trainable_weights
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["scenes"] == ["0.tif", "1.tif", "2.tif"]


def test_interpolated_bands_are_smooth_and_keep_the_others(scenes):
    degraded = degrade(scenes[0].reflectance)
    smooth = interpolate(degraded)

    np.testing.assert_array_equal(smooth[FINE_ROWS], degraded[FINE_ROWS])
    assert (smooth[COARSE_ROWS, 20, 20] != smooth[COARSE_ROWS, 20, 21]).all()


def test_the_rule_for_residual_cloud_gives_up_the_share_that_it_states(scenes):
    rule = fit_residual_cloud(scenes)
    pixels = np.concatenate([s.reflectance[:, s.scored] for s in scenes], axis=1)
    excess = exceed_visible(pixels[:, None], rule)

    assert (excess > rule["threshold"]).mean() == pytest.approx(CLEAR_LOST, abs=0.005)


def test_scenes_of_one_place_stay_together(scenes, tmp_path):
    for seed in range(3):
        cube = fake_cube(np.random.default_rng(seed), side=64).isel(t=0, drop=True)
        cube.attrs["datetime"] = "2024-06-21T10:36:29Z"
        write_scene_geotiff(cube.rio.write_crs("EPSG:32631"), tmp_path / f"{seed}.tif")
    (tmp_path / "index.csv").write_text("file,loc_group_3km\n0.tif,1\n1.tif,1\n2.tif,2\n")
    found = read_scenes(tmp_path)

    assert [scene.place for scene in found] == ["1", "1", "2"]


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(EvaluationError):
        read_scenes(tmp_path)
