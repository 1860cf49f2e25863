"""Fits on pools of real patches: known angles, gaps, labels from elsewhere, eq. 1 of the paper."""

import json

import numpy as np
import pytest
import yaml
from fake_archive import product_name, write_land
from fake_products import write_raster
from typer.testing import CliRunner

from lai_training import sl2p
from lai_training.cli import app
from lai_training.datasets.config import PrepareConfig
from lai_training.datasets.prepare import prepare
from lai_training.errors import ConfigError, FitError, PrepareError
from lai_training.learn.config import FitConfig, SampleConfig, read_config
from lai_training.learn.fit import fit
from lai_training.learn.pools import (
    Pool,
    load_pool,
    measure_normalisation,
    measure_range,
    normalise_by_range,
)
from lai_training.learn.run_folder import read_provenance
from lai_training.learn.samples import PoolStream, build_batch
from lai_training.networks import MLP
from lai_udf.predict import NOMINAL_COSINES

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

UNTOUCHED = {
    "patch_px": 32, "batch": 4, "noisy_share": 0, "missing_share": 0, "masked_draw_share": 0,
    "nominal_angle_share": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two tiles, one of them with a cloud."""
    folder = tmp_path_factory.mktemp("archive")
    cloud = np.full((64, 64), 4)
    cloud[5:9, 5:9] = 9
    write_land(folder, tile="31TCJ", date="20220506", scene_class=cloud)
    write_land(folder, tile="30TYT", date="20220506")
    return folder


def _prepare(archive, out, **changes):
    settings = {
        "sources": [str(archive)],
        "patch_px": 32,
        "mask_buffer_px": 2,
        "select": [{"tile": "31TCJ", "split": "train"}, {"tile": "30TYT", "split": "validation"}],
        **changes,
    }
    return prepare(PrepareConfig.model_validate(settings), out)


@pytest.fixture(scope="module")
def pool(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "pool"
    _prepare(archive, folder)
    return folder


def _experiment(folder, **changes):
    return {
        "network": "mlp",
        "seed": 1,
        "pool": {"prepared": str(folder)},
        "validation": {"prepared": str(folder), "split": "validation"},
        "samples": {"patch_px": 32, "batch": 4},
        "epochs": 1,
        "steps": 2,
        "learning_rate": 0.003,
        **changes,
    }


def _stream(pool, **changes):
    config = FitConfig.model_validate(_experiment(pool, samples={**UNTOUCHED, **changes}))
    opened = load_pool(config.pool, pool)
    normalisation = measure_normalisation(opened.reflectance)
    return PoolStream(opened, normalisation, MLP, config.samples, steps=2, seed=1)


def _arrays(normalisation):
    return (np.array(normalisation[key]) for key in ("mean", "std"))


def test_a_network_is_fitted_on_real_patches(pool, tmp_path):
    config = tmp_path / "real.yaml"
    config.write_text(yaml.safe_dump(_experiment(pool, normalisation="percentile")))
    run = tmp_path / "run"

    result = CliRunner().invoke(app, ["fit", str(config), "--run", str(run)])

    assert result.exit_code == 0, result.output
    data = json.loads((run / "provenance.json").read_text())["data"]
    assert list(data["pool"]["products"]) == [product_name("31TCJ", "20220506")]
    assert data["validation"]["patches"] == 4
    limits = _prepare_limits(pool)
    mean, std = _arrays(read_provenance(run)["normalisation"])
    np.testing.assert_allclose(mean, limits.lowest, atol=1e-6)
    np.testing.assert_allclose(mean + std, limits.highest, atol=1e-5)


def _prepare_limits(pool):
    from lai_training.datasets.manifest import read_manifest

    return read_manifest(pool).normalisation


def test_samples_have_the_angles_of_their_patch(pool):
    (features, _), label, _ = _stream(pool)[0]

    view, sun, _ = np.degrees(np.arccos(features[:, 31, 31, 11:])).T
    np.testing.assert_allclose(view, 3, atol=0.1)
    np.testing.assert_allclose(sun, 40.3, atol=0.2)
    assert not np.isnan(label).any()


def test_angles_can_still_be_withheld(pool):
    (features, _), _, _ = _stream(pool, nominal_angle_share=1)[0]

    np.testing.assert_allclose(features[..., 11:], np.broadcast_to(NOMINAL_COSINES, (4, 32, 32, 3)))


def test_gaps_are_not_trained_on_and_are_marked_as_gaps(pool):
    batches = [_stream(pool)[index] for index in range(2)]
    features = np.concatenate([features for (features, _), _, _ in batches])
    weight = np.concatenate([weight for _, _, weight in batches])

    gaps = weight[..., 0] == 0
    assert gaps.any()
    np.testing.assert_array_equal(features[..., 10] == 0, gaps)
    assert np.isfinite(features).all()


def test_gaps_do_not_spread_by_added_texture(pool):
    whole, rough = _stream(pool), _stream(pool, grain_share=1)

    for index in range(2):
        gaps, more = ((stream[index][2] == 0).sum() for stream in (whole, rough))
        assert gaps <= more <= 2 * gaps  # a shift by a fraction of a pixel touches neighbours


def test_labels_from_elsewhere_are_trained_on(archive, tmp_path):
    for seed, tile in enumerate(("31TCJ", "30TYT")):
        lai = np.random.default_rng(seed).uniform(0, 6, (1, 64, 64)).astype("float32")
        lai[0, 50:] = np.nan
        name = f"{product_name(tile, '20220506')}.tif"
        write_raster(tmp_path / "labels" / name, lai, nodata=np.nan)
    out = tmp_path / "pool"
    _prepare(archive, out, labels=str(tmp_path / "labels"))

    _, label, weight = _stream(out)[0]

    given = load_pool(FitConfig.model_validate(_experiment(out)).pool, out).lai
    assert np.isin(label[weight > 0], given).all()


def test_labels_and_patches_are_cut_alike(land):
    """The mean over bands stands in for a label, so that every sample shows its own label."""
    stand_in = land.astype("float32").mean(axis=1)
    config = SampleConfig.model_validate(UNTOUCHED | {"patch_px": 16})
    normalisation = normalise_by_range(np.zeros(10), np.ones(10))
    pool = Pool(land.astype("float32"), lai=stand_in)
    stream = PoolStream(pool, normalisation, MLP, config, steps=1, seed=3)

    (features, _), label, _ = stream[0]

    np.testing.assert_allclose(label[..., 0], features[..., :10].mean(axis=-1), atol=1e-5)


def test_pixels_without_a_label_are_not_trained_on(land, rng):
    clean = land[:4].astype("float32")
    lai = np.full((4, 32, 32), 2.0, "float32")
    lai[:, :8] = np.nan
    config = SampleConfig.model_validate(UNTOUCHED)

    _, label, weight = build_batch(clean, measure_normalisation(land), MLP, config, rng, lai=lai)

    assert (weight[:, :8] == 0).all()
    assert (label[:, 8:] == 2).all()
    assert (weight[:, 8:] > 0).all()


def test_stored_labels_are_those_that_a_fit_makes(pool):
    stream = _stream(pool)
    (features, _), label, weight = stream[0]
    normalisation = measure_normalisation(load_pool(FitConfig.model_validate(
        _experiment(pool)).pool, pool).reflectance)  # fmt: skip
    mean, std = _arrays(normalisation)
    clean = (features[..., :10] * std + mean).astype("float32")

    again, _ = sl2p.predict_patches(clean.transpose(0, 3, 1, 2), features[:, 31, 31, 11:])

    seen = weight[..., 0] > 0
    np.testing.assert_allclose(label[seen][..., 0], again[seen], atol=2e-3)


def test_eq_1_maps_the_extremes_to_0_and_1(land):
    mean, std = _arrays(measure_range(land))

    low, high = np.percentile(land[::10].astype("float32"), (2, 98), axis=(2, 3))
    np.testing.assert_allclose(mean, low.min(axis=0), atol=1e-6)
    np.testing.assert_allclose(mean + std, high.max(axis=0), atol=2e-6)


def test_a_gap_does_not_move_the_constants(land):
    holed = np.array(land)
    holed[0, :, :4] = np.nan

    np.testing.assert_allclose(
        measure_normalisation(holed)["mean"],
        np.nanmean(holed[::10].astype("f8"), (0, 2, 3)),
        atol=1e-6,
    )
    assert np.isfinite(measure_range(holed)["std"]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": {"prepared": "p", "splits": "train"}}, "unknown key pool.splits"),
        ({"pool": {"prepared": "p", "split": "all"}}, "pool.split: .*'train'"),
        ({"pool": {"patches": 8, "size_px": 32}}, "key pool.seed is missing"),
        ({"normalisation": "minmax"}, "normalisation: "),
    ],
)
def test_a_wrong_pool_is_refused_with_the_key(changes, message, pool, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(_experiment(pool, **changes)))

    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_patches_smaller_than_the_samples_are_refused(pool, tmp_path):
    config = FitConfig.model_validate(_experiment(pool, samples={"patch_px": 48, "batch": 4}))

    with pytest.raises(FitError):
        fit(config, tmp_path / "run", pools=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_pool_that_is_not_there_is_refused(tmp_path):
    config = FitConfig.model_validate(_experiment(tmp_path / "absent"))

    with pytest.raises(PrepareError):
        fit(config, tmp_path / "run", pools=tmp_path)
