"""Cutting: what is masked, what is kept, and labels that belong to exactly what is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lai_training import sl2p
from lai_training.datasets.config import SplitRule
from lai_training.datasets.patches import Histograms, add_buffer, cut_strip, list_corners
from lai_training.datasets.pool import assign_splits, measure_leakage
from lai_udf.predict import NOMINAL_COSINES

VEGETATION = 4
NOMINAL = np.array(NOMINAL_COSINES, np.float32)[:, None, None]


def _cut(reflectance, *, least=0.5, patch_px=16, cosines=None, lai=None, first_row=0):
    given_cosines = np.broadcast_to(NOMINAL, (3, *reflectance.shape[1:]))
    return cut_strip(
        reflectance,
        given_cosines if cosines is None else cosines,
        first_row=first_row,
        patch_px=patch_px,
        least_valid_share=least,
        lai=lai,
    )


@pytest.fixture
def strip(land):
    """Reflectance (10, 32, 64)."""
    return np.concatenate([land[0], land[1]], axis=2).astype("float32")


def test_the_buffer_is_a_disc_of_its_radius():
    cloud = np.zeros((21, 21), dtype=bool)
    cloud[10, 10] = True

    masked = add_buffer(cloud, 5)

    rows, columns = np.nonzero(masked)
    assert np.hypot(rows - 10, columns - 10).max() == 5
    assert masked[13, 14]  # 3, 4, 5
    assert not masked[14, 14]
    assert masked.sum() == 81  # lattice points in a disc of radius 5 (OEIS A000328)


def test_patches_lie_side_by_side_and_within_the_image():
    assert list(list_corners(5490, 5490, 128))[-1] == (5248, 5248)
    assert len(list(list_corners(5490, 5490, 128))) == 1764  # 24 images: 42,336 patches
    assert list(list_corners(31, 64, 32)) == []


def test_patches_with_too_little_data_are_dropped(strip):
    strip[:, :16, :8] = np.nan  # half of the first patch
    strip[3, 16:, 16:27] = np.nan  # more than half of another, in one band only

    patches = _cut(strip)

    assert len(patches.reflectance) == 7
    assert [16, 16] not in patches.corners.tolist()
    assert [0, 0] in patches.corners.tolist()


def test_a_pixel_without_one_band_is_without_all(strip):
    strip[3, 5, 5] = np.nan

    patches = _cut(strip)

    assert np.isnan(patches.reflectance[0, :, 5, 5]).all()
    assert np.isnan(patches.lai[0, 5, 5])
    assert np.isnan(patches.reflectance).sum() == 10


def test_labels_are_the_estimate_of_sl2p_for_the_stored_patch_at_its_angles(strip):
    rng = np.random.default_rng(1)
    cosines = np.cos(np.radians(rng.uniform(0, 60, (3, 1, 1)))).astype("float32")

    patches = _cut(strip, cosines=np.broadcast_to(cosines, (3, 32, 64)))

    np.testing.assert_allclose(patches.cosines, np.tile(cosines[:, 0, 0], (8, 1)), rtol=1e-6)
    expected, _ = sl2p.predict_patches(patches.reflectance.astype("float32"), patches.cosines)
    np.testing.assert_allclose(patches.lai, expected, rtol=1e-3, atol=1e-3)


def test_angles_move_the_label(strip):
    low_sun = np.array([1, np.cos(np.radians(65)), 0], np.float32)[:, None, None]

    nominal, low = _cut(strip), _cut(strip, cosines=np.broadcast_to(low_sun, (3, 32, 64)))

    assert 0.02 < np.abs(nominal.lai.astype("float32") - low.lai).mean() < 1


def test_flags_are_snaps(strip):
    strip[:, :, :16] = 0.9  # no vegetation looks so

    patches = _cut(strip)

    first = patches.corners[:, 1] == 0
    assert (patches.flags[first] & sl2p.Flag.INPUT_OUT_OF_RANGE).all()
    assert not (patches.flags[~first] & sl2p.Flag.INPUT_OUT_OF_RANGE).all()


def test_a_given_label_is_cut_with_the_image(strip):
    lai = np.arange(32 * 64, dtype="float32").reshape(32, 64) / 1000
    strip[:, 0, 0] = np.nan

    patches = _cut(strip, lai=lai, first_row=64)

    assert patches.corners[0].tolist() == [64, 0]
    assert patches.corners[-1].tolist() == [80, 48]
    np.testing.assert_allclose(patches.lai[-1], lai[16:, 48:], atol=1e-3)
    assert np.isnan(patches.lai[0, 0, 0])


@settings(max_examples=25, deadline=None)  # a busy machine is no fault
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 50, 98]))
def test_percentiles_are_those_of_numpy_to_a_digital_number(seed, percent):
    rng = np.random.default_rng(seed)
    image = np.rint(rng.gamma(2, 800, (10, 12, 12))).astype("float32") / np.float32(10_000)
    image[rng.random(image.shape) < 0.2] = np.nan
    histograms = Histograms()
    for rows in np.split(image, 3, axis=1):
        histograms.add(rows)

    expected = np.nanpercentile(image, percent, axis=(1, 2), method="inverted_cdf")
    np.testing.assert_allclose(histograms.percentile(percent), expected, atol=1e-4)


def _splits(by="tile_date", tile="31TCJ", date="2018-05-06", name="a", count=400, **rule):
    corners = np.arange(count, dtype="int32")[:, None].repeat(2, 1)
    rule = SplitRule(by=by, **rule)
    return assign_splits(rule, tile=tile, date=date, product_id=name, corners=corners)


def test_a_scene_stays_together_unless_patches_are_divided():
    for by in ("tile_date", "tile", "date"):
        assert len(set(_splits(by))) == 1
    assert len(set(_splits("patch"))) == 2


def test_the_share_is_kept_over_many_scenes():
    days = [f"2018-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]

    names = [_splits(date=day, count=1, test_share=0.1)[0] for day in days]

    assert names.count("validation") / len(names) == pytest.approx(0.25, abs=0.06)
    assert names.count("test") / len(names) == pytest.approx(0.1, abs=0.04)
    assert (_splits("patch") == "validation").mean() == pytest.approx(0.25, abs=0.06)


def test_what_is_kept_together_decides():
    days = [f"2018-05-{day:02d}" for day in range(1, 29)]

    assert len({_splits("tile", date=day)[0] for day in days}) == 1
    assert len({_splits("tile_date", date=day)[0] for day in days}) == 2
    assert [_splits("date", date=day, tile="31TCJ")[0] for day in days] == [
        _splits("date", date=day, tile="30TYT")[0] for day in days
    ]


def test_random_patches_leak_and_whole_scenes_do_not():
    corners = np.array(list(list_corners(1280, 1280, 128)), np.int32)
    rule = SplitRule(by="patch")
    splits = assign_splits(rule, tile="t", date="d", product_id="p", corners=corners)
    divided = {name: corners[splits == name] for name in ("train", "validation")}

    random = measure_leakage([("a", divided)], 128, "")
    whole = measure_leakage([("a", {"train": corners}), ("b", {"validation": corners})], 128, "")
    dates = measure_leakage([("a", {"train": corners}), ("a", {"validation": corners})], 128, "")

    assert random.touching > 0.99
    assert (whole.touching, whole.same_place) == (0, 0)
    assert (dates.touching, dates.same_place) == (0, 1)
