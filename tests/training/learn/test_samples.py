"""Samples: repeatable draws, honest labels, and missing pixels that are not trained on."""

import numpy as np
import pytest
import xarray as xr

from experiments.spectra.library import spectral_library
from lai_training import sl2p
from lai_training.learn.config import PoolConfig, SampleConfig
from lai_training.learn.pools import (
    NORMALISATION_LIMIT,
    Pool,
    make_pool,
    measure_normalisation,
)
from lai_training.learn.samples import PoolStream, add_texture, build_batch, draw_training_masks
from lai_training.networks import MLP
from lai_udf.predict import BANDS, FEATURES

CLEAN = {"noisy_share": 0, "missing_share": 0, "nominal_angle_share": 1, "masked_draw_share": 0}
ROUGH = {"noisy_share": 1, "missing_share": 1, "grain_share": 1}


def _config(**changes: float) -> SampleConfig:
    return SampleConfig.model_validate({"patch_px": 32, "batch": 4, **changes})


def _batch(land, rng, **changes):
    clean = land[:4].astype("float32")
    return build_batch(clean, measure_normalisation(land), MLP, _config(**changes), rng)


def _stream(land, seed=3, **changes):
    normalisation = measure_normalisation(land)
    return PoolStream(Pool(land), normalisation, MLP, _config(), steps=3, seed=seed, **changes)


def _arrays(batch):
    (features, masks), label, weight = batch
    return features, masks, label, weight


def test_a_batch_depends_on_seed_epoch_and_index_alone(land):
    first, second = _stream(land), _stream(land)
    first[0]  # what was drawn before does not matter

    for one, other in zip(_arrays(first[2]), _arrays(second[2]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", ["seed", "epoch", "index"])
def test_another_seed_epoch_or_index_is_another_batch(land, change):
    stream = _stream(land, seed=4 if change == "seed" else 3)
    if change == "epoch":
        stream.on_epoch_end()

    batch = stream[1 if change == "index" else 0]

    assert not np.array_equal(_arrays(batch)[0], _arrays(_stream(land)[0])[0])


def test_the_validation_batches_are_the_same_in_every_epoch(land):
    fixed = _stream(land, fixed=True)
    before = fixed[0]

    fixed.on_epoch_end()

    np.testing.assert_array_equal(_arrays(before)[0], _arrays(fixed[0])[0])


def test_the_label_of_a_clean_patch_at_nominal_angles_is_sl2p_of_the_image(land, rng):
    _, _, label, weight = _arrays(_batch(land, rng, **CLEAN))

    scene = xr.DataArray(
        land[0].astype("float32"), dims=("bands", "y", "x"), coords={"bands": list(BANDS)}
    )
    expected, _ = sl2p.predict_image(scene, network="2_1", clip=False)
    np.testing.assert_allclose(label[0, ..., 0], expected.clip(-1, 10), atol=1e-4)
    assert (weight == _config().clean_weight).all()


def test_the_label_is_not_touched_by_the_noise(land):
    quiet = _arrays(_batch(land, np.random.default_rng(1), **CLEAN))
    loud = _arrays(_batch(land, np.random.default_rng(1), **{**CLEAN, "noisy_share": 1}))

    np.testing.assert_array_equal(quiet[2], loud[2])
    assert abs(quiet[0] - loud[0])[..., :10].mean() > 0.01
    np.testing.assert_array_equal(quiet[0][..., 10:], loud[0][..., 10:])


def test_missing_pixels_have_no_weight_no_features_and_are_marked(land, rng):
    features, _, label, weight = _arrays(_batch(land, rng, **ROUGH))
    missing = features[..., FEATURES.index("valid")] == 0

    assert 0 < missing.mean() < 1
    assert (features[missing][:, :10] == 0).all()
    assert (weight[..., 0][missing] == 0).all()
    assert (weight[..., 0][~missing] > 0).all()
    assert np.isfinite(label).all()


def test_an_unscored_border_has_no_weight(land, rng):
    _, _, _, weight = _arrays(_batch(land, rng, missing_share=0.0, unscored_border_px=4))
    inside = np.zeros(weight.shape[1:3], dtype=bool)
    inside[4:-4, 4:-4] = True

    assert (weight[..., 0][:, inside] > 0).all()
    assert (weight[..., 0][:, ~inside] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_features_are_finite_and_within_the_limit(land, seed):
    features, masks, _, _ = _arrays(_batch(land, np.random.default_rng(seed), **ROUGH))

    assert np.isfinite(features).all()
    assert abs(features[..., :10]).max() <= NORMALISATION_LIMIT
    assert np.isfinite(masks).all()


def test_masks_keep_their_mean_and_drop_at_the_rate_of_the_network(rng):
    masks = draw_training_masks(2000, 7, 0.1, 1.0, rng)

    assert set(np.unique(masks)) == {np.float32(0), np.float32(1 / 0.9)}
    assert masks.mean() == pytest.approx(1, abs=0.01)
    assert (draw_training_masks(50, 7, 0.1, 0.0, rng) == 1).all()


def test_roughness_touches_only_its_share_of_the_patches(land, rng):
    clean = land.astype("float32")

    same = add_texture(clean, _config(grain_share=0), rng)
    rough = add_texture(clean, _config(grain_share=1), rng)

    np.testing.assert_array_equal(same, clean)
    assert (abs(rough - clean).mean(axis=(1, 2, 3)) > 1e-4).all()
    assert np.isfinite(rough).all()


def test_a_pool_is_the_same_for_the_same_seed_and_leaves_no_traces(tmp_path):
    library = spectral_library(2_000, np.random.default_rng(1))
    calls = []

    for name in ("a", "b"):
        make_pool(
            tmp_path / f"{name}.npy",
            library,
            PoolConfig(patches=8, size_px=32, seed=5),
            progress=lambda done, total: calls.append((done, total)),
        )

    one, other = (np.load(tmp_path / f"{name}.npy") for name in ("a", "b"))
    assert one.shape == (8, 10, 32, 32)
    np.testing.assert_array_equal(one, other)
    assert calls == [(8, 8), (8, 8)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]


def test_a_pool_is_the_same_on_any_number_of_cores(tmp_path):
    library = spectral_library(2_000, np.random.default_rng(1))
    for cores in (1, 2):
        config = PoolConfig(patches=66, size_px=32, seed=5)
        make_pool(tmp_path / f"{cores}.npy", library, config, cores=cores)

    one, two = (np.load(tmp_path / f"{cores}.npy") for cores in (1, 2))
    np.testing.assert_array_equal(one, two)
