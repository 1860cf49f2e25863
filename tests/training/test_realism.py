"""Statistics of land: right on images whose numbers are known, and close on real chips."""

from pathlib import Path

import numpy as np
import pytest

from lai_training.errors import RealismError
from lai_training.landscapes import simulate_patches
from lai_training.realism import (
    compare_with_real,
    land_statistics,
    read_real_images,
    vegetated,
)
from lai_training.simulate import simulate
from lai_training.spectral_library import SpectralLibrary, spectral_library
from lai_training.spectral_tables import BANDS

LEAF = np.array([0.03, 0.06, 0.03, 0.1, 0.25, 0.3, 0.32, 0.33, 0.17, 0.08], np.float32)


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(10_000, np.random.default_rng(7))


def _flat() -> np.ndarray:
    return np.tile(LEAF[:, None, None], (1, 12, 12))


def test_clear_vegetation_excludes_soil_cloud_and_no_data() -> None:
    image = _flat()
    image[:, 0, 0] = 0.2  # soil: NDVI 0
    image[BANDS.index("B02"), 1, 1] = 0.25  # cloud
    image[:, 2, 2] = np.nan

    mask = vegetated(image)

    assert mask.sum() == 144 - 3
    assert not mask[[0, 1, 2], [0, 1, 2]].any()


def test_statistics_of_a_flat_and_a_striped_image_are_known(rng: np.random.Generator) -> None:
    striped = _flat() * (1 + 0.1 * (-1.0) ** np.arange(12)).astype(np.float32)

    flat, lines = (land_statistics([image], rng) for image in (_flat(), striped))

    np.testing.assert_allclose(flat.mean, LEAF, rtol=1e-5)
    np.testing.assert_allclose(flat.texture, 0, atol=1e-7)
    np.testing.assert_allclose(lines.sd, 0.1 * LEAF, rtol=1e-4)
    # two of three columns are alike: sd = 0.1 sqrt(1 - 1/9)
    np.testing.assert_allclose(lines.texture, 0.1 * np.sqrt(8 / 9) * LEAF, rtol=1e-3)
    np.testing.assert_allclose(lines.correlation, 1, atol=1e-4)


def test_without_vegetation_there_is_nothing_to_compare(rng: np.random.Generator) -> None:
    with pytest.raises(RealismError, match="30 % clear vegetation"):
        land_statistics([np.full((10, 12, 12), 0.2, np.float32)], rng)


def test_a_folder_without_scenes_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\x00 half a file")

    with pytest.raises(RealismError, match="holds no scene"):
        read_real_images(tmp_path)
    assert "broken.tif is left out" in caplog.text


def test_the_comparison_writes_numbers_and_a_figure(
    tmp_path: Path, library: SpectralLibrary
) -> None:
    for seed in range(2):
        simulate(tmp_path / "real" / f"{seed}.tif", size=64, seed=seed, library=library)

    real, simulated = compare_with_real(
        tmp_path / "real", tmp_path / "report", library, patches=4, seed=1
    )

    assert real.pixels > 500
    assert simulated.pixels > 500
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"realism.csv", "realism.md", "realism.png"}
    assert (tmp_path / "report" / "realism.csv").read_text().count("\n") == 41


def test_simulated_land_resembles_real_chips(shared_data: Path, library: SpectralLibrary) -> None:
    """Within half of the spread of real vegetation, and texture within a factor of two."""
    rng = np.random.default_rng(0)
    real = land_statistics(read_real_images(shared_data / "chips")[::2], rng)

    simulated = land_statistics(simulate_patches(48, 64, rng, library).boa_reflectance, rng)

    assert (np.abs(simulated.mean - real.mean) < 0.5 * real.sd).all()
    assert (np.abs(np.log(simulated.texture / real.texture)) < np.log(2)).all()
    assert (np.abs(np.log(simulated.edges / real.edges)) < np.log(2)).all()
    assert np.abs(simulated.correlation - real.correlation).mean() < 0.2
