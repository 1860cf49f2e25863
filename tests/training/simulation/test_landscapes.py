"""Simulated landscapes: seeded, physical, patchwork-like, true to their library of spectra."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from experiments.spectra.library import RECIPES, spectral_library
from lai_training.simulation.cover import draw_cover, season
from lai_training.simulation.landscapes import (
    SimulatedScene,
    render,
    simulate_patches,
    simulate_scene,
)
from lai_training.simulation.observation import (
    NoiseModel,
    add_clouds,
    add_haze_and_gain,
    add_noise,
    blur,
)
from lai_training.simulation.parcels import LandUse, ParcelMap, draw_parcels, random_fields
from lai_training.simulation.spectral_library import (
    GREEN,
    LAI_LEVELS,
    SpectralLibrary,
    SurfaceClass,
    shipped_library,
)
from lai_udf.predict import BANDS


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(3_000, np.random.default_rng(7))


@pytest.fixture(scope="module")
def scene(library: SpectralLibrary) -> SimulatedScene:
    return simulate_scene(96, 128, np.random.default_rng(3), library=library, date_of_year=150)


def _ndvi(reflectance: np.ndarray, axis: int) -> np.ndarray:
    red, nir = (reflectance.take(BANDS.index(band), axis) for band in ("B04", "B08"))
    return (nir - red) / (nir + red)


def test_a_library_holds_every_surface_and_is_physical(library: SpectralLibrary) -> None:
    assert set(library.surface_class) == set(SurfaceClass)
    assert library.reflectance.shape[1:] == (len(LAI_LEVELS), len(BANDS))
    assert np.isfinite(library.reflectance).all()
    assert library.reflectance.min() > 0
    assert library.reflectance.max() < 1.4  # snow in the sun may exceed 1


def test_more_leaves_are_greener_on_every_ladder_of_crops(library: SpectralLibrary) -> None:
    ndvi = _ndvi(library.reflectance[library.of_class(SurfaceClass.CROP)], axis=2)

    assert (np.diff(ndvi[:, :6], axis=1) > -0.01).all()  # to LAI 2; saturates beyond
    assert ndvi[:, 6].mean() > 0.6


def test_only_green_leaves_count_as_true_lai(library: SpectralLibrary) -> None:
    for surface_class in SurfaceClass:
        lai = library.lai[library.of_class(surface_class)]
        if surface_class in GREEN:
            np.testing.assert_allclose(lai, np.broadcast_to(LAI_LEVELS, lai.shape), rtol=1e-6)
        elif surface_class == SurfaceClass.SENESCENT:
            assert lai.max() <= 0.5 * LAI_LEVELS[-1]
        else:
            assert lai.max() == 0


@pytest.mark.parametrize("name", RECIPES)
def test_the_libraries_that_ship_are_what_their_recipes_make(name: Any) -> None:
    n, seed = RECIPES[name]
    made, shipped = spectral_library(n, np.random.default_rng(seed)), shipped_library(name)

    np.testing.assert_allclose(shipped.reflectance, made.reflectance, atol=1e-6)
    np.testing.assert_allclose(shipped.lai, made.lai, atol=1e-6)
    np.testing.assert_array_equal(shipped.surface_class, made.surface_class)
    np.testing.assert_allclose(shipped.angles_deg, made.angles_deg, atol=1e-4)


def test_scenes_and_training_share_no_spectrum() -> None:
    scenes, training = (shipped_library(name).reflectance[:, 5] for name in ("scenes", "training"))

    assert cKDTree(training).query(scenes)[0].min() > 0.005


def test_the_same_seed_gives_the_same_scene(library: SpectralLibrary) -> None:
    first, second, other = (
        simulate_scene(48, 48, np.random.default_rng(seed), library=library) for seed in (5, 5, 6)
    )

    np.testing.assert_array_equal(first.observed_reflectance, second.observed_reflectance)
    np.testing.assert_array_equal(first.true_lai, second.true_lai)
    assert not np.array_equal(first.true_lai, other.true_lai)


def test_a_scene_has_the_promised_arrays(scene: SimulatedScene) -> None:
    assert scene.boa_reflectance.shape == scene.observed_reflectance.shape == (10, 96, 128)
    for values in (scene.true_lai, scene.scene_classification, scene.parcel_id):
        assert values.shape == (96, 128)
    assert scene.boa_reflectance.dtype == scene.true_lai.dtype == np.float32
    assert scene.scene_classification.dtype == np.uint8
    assert np.isfinite(scene.observed_reflectance).all()
    assert scene.boa_reflectance.min() > 0
    assert 0 <= scene.true_lai.min() < scene.true_lai.max() <= LAI_LEVELS[-1]


def test_leafy_pixels_are_green_and_bare_ones_are_not(library: SpectralLibrary) -> None:
    scene = simulate_scene(128, 128, np.random.default_rng(1), library=library, date_of_year=150)
    ndvi = _ndvi(scene.boa_reflectance, axis=0)

    assert ndvi[scene.true_lai > 2.5].mean() > 0.7
    assert ndvi[scene.true_lai < 0.1].mean() < 0.35


def test_parcels_are_of_one_piece_with_sizes_of_fields(rng: np.random.Generator) -> None:
    parcels = draw_parcels(256, 256, rng)
    arable = np.flatnonzero(parcels.land_use == LandUse.ARABLE)
    size = np.bincount(parcels.parcel.ravel())[arable]

    hectares = size * 0.04
    assert 0.5 < np.median(hectares) < 20
    assert np.quantile(hectares, 0.98) < 60
    assert set(parcels.land_use) >= {LandUse.ARABLE, LandUse.FOREST}
    assert parcels.parcel.max() + 1 == len(parcels.land_use) == len(parcels.direction_rad)


def test_lai_varies_less_within_parcels_than_between_them(scene: SimulatedScene) -> None:
    parcel = scene.parcel_id.ravel()
    lai = scene.true_lai.ravel().astype(float)
    count = np.bincount(parcel)
    mean = np.bincount(parcel, lai) / np.maximum(count, 1)

    within = np.var(lai - mean[parcel])
    assert 0.02 < within / np.var(lai) < 0.5


def test_a_painted_pixel_is_an_interpolation_between_two_steps_of_its_ladders(
    library: SpectralLibrary, rng: np.random.Generator
) -> None:
    one = ParcelMap(np.zeros((16, 16), np.intp), np.array([0], np.uint8), np.zeros(1, np.float32))
    cover = draw_cover(one.land_use, 150, library, rng)
    cover.shade[:] = 0

    spectra, lai = render(one, cover, library, rng)

    ladders = np.concatenate([library.reflectance[cover.first], library.reflectance[cover.second]])
    low, high = ladders.min(axis=(0, 1)), ladders.max(axis=(0, 1))
    assert (spectra >= low[:, None, None] - 1e-6).all()
    assert (spectra <= high[:, None, None] + 1e-6).all()
    assert lai.std() > 0


@pytest.mark.parametrize(
    ("day", "expected_grown", "expected_dry"),
    [(40, 0.0, 0.0), (95, 0.5, 0.0), (150, 1.0, 0.0), (190, 0.65, 0.5), (215, 0.0, 0.0)],
)
def test_a_crop_emerges_grows_ripens_and_is_harvested(
    day: float, expected_grown: float, expected_dry: float
) -> None:
    """Emerges on day 50, peaks on 140, ripens from 170, is cut on 210; checked by hand."""
    grown, dry = season(*(np.array([value]) for value in (day, 50.0, 140.0, 170.0, 210.0)))

    assert grown[0] == pytest.approx(expected_grown, abs=1e-6)
    assert dry[0] == pytest.approx(expected_dry, abs=1e-6)


def test_fields_are_greener_in_june_than_in_march_and_november(library: SpectralLibrary) -> None:
    use = np.full(2_000, LandUse.ARABLE, np.uint8)
    mean = {
        day: draw_cover(use, day, library, np.random.default_rng(0)).lai.mean()
        for day in (60, 150, 320)
    }

    assert mean[150] > 2 * mean[60]
    assert mean[150] > 2 * mean[320]


def test_random_fields_are_standardised_and_as_smooth_as_asked(rng: np.random.Generator) -> None:
    field = random_fields(1, 128, 128, rng, 4.0)[0]

    assert field.mean() == pytest.approx(0, abs=0.3)
    assert field.std() == pytest.approx(1, abs=0.01)
    neighbour = np.mean(field[:, :-4] * field[:, 4:]) - field.mean() ** 2
    assert neighbour == pytest.approx(np.exp(-0.5), abs=0.08)  # exp(-d^2 / 2L^2) at d = L


def test_noise_has_the_standard_deviation_asked_for(rng: np.random.Generator) -> None:
    clean = np.full((10, 128, 128), 0.3, np.float32)

    noise = add_noise(clean, rng, NoiseModel(0.03, 0.005)) - clean

    assert noise.std() == pytest.approx(np.hypot(0.03 * 0.3, 0.005), rel=0.02)
    assert np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1] == pytest.approx(0, abs=0.03)


def test_a_blur_keeps_the_light_and_a_flat_image_and_shifts_as_asked() -> None:
    spot = np.zeros((9, 9), np.float32)
    spot[4, 4] = 1

    blurred = blur(spot, 0.1, (0.04, -0.06))

    assert blurred.sum() == pytest.approx(1, abs=1e-6)
    y, x = np.mgrid[0:9, 0:9]
    assert (blurred * y).sum() == pytest.approx(4.04, abs=1e-5)
    assert (blurred * x).sum() == pytest.approx(3.94, abs=1e-5)
    flat = np.full((5, 5), 0.2, np.float32)
    np.testing.assert_allclose(blur(flat, 0.15), flat, rtol=1e-6)


def test_haze_is_bluest_and_gains_differ_between_patches(rng: np.random.Generator) -> None:
    patches = np.full((400, 10, 2, 2), 0.1, np.float32)

    change = (add_haze_and_gain(patches, rng, haze=0.006, gain=0.0) - patches)[:, :, 0, 0]
    assert change[:, 0].std() == pytest.approx(0.006, rel=0.15)
    assert change[:, 9].std() < 0.1 * change[:, 0].std()
    gained = add_haze_and_gain(patches, rng, haze=0.0, gain=0.02)[:, :, 0, 0] / 0.1
    assert gained.std() == pytest.approx(0.02, rel=0.1)


def test_clouds_are_masked_and_dark_shadows_lie_beside_them(library: SpectralLibrary) -> None:
    scene = simulate_scene(
        128, 128, np.random.default_rng(2), library=library, cloud_cover=0.2, noise=NoiseModel(0, 0)
    )

    cloud = np.isin(scene.scene_classification, [8, 9])
    shadow = scene.scene_classification == 3
    assert 0.05 < cloud.mean() < 0.25
    assert shadow.any()
    blue, clean = scene.observed_reflectance[0], scene.boa_reflectance[0]
    assert blue[cloud].mean() > clean[cloud].mean() + 0.2
    assert (blue[shadow] <= clean[shadow] + 1e-6).all()
    untouched = np.isin(scene.scene_classification, [4, 5, 6, 11])
    assert np.abs(blue - clean)[untouched].max() < 0.25


def test_a_veil_is_no_thicker_than_asked(rng: np.random.Generator) -> None:
    ground = np.full((10, 64, 64), 0.1, np.float32)

    _, opacity, depth = add_clouds(ground, rng, cover=0.5, thickest=0.2)

    assert opacity.max() == pytest.approx(0.2)
    assert 0 <= depth.min() <= depth.max() <= 1


def test_patches_differ_are_seeded_and_keep_their_shape(library: SpectralLibrary) -> None:
    first, second = (
        simulate_patches(6, 32, np.random.default_rng(9), library, patches_per_scene=4)
        for _ in range(2)
    )

    assert first.shape == (6, 10, 32, 32)
    assert np.isfinite(first).all()
    assert first.min() > 0
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first.mean(axis=(1, 2, 3)))) == 6
