"""Statistics of land: right on images whose numbers are known, and close on real chips."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.realism.report import write_realism
from experiments.realism.statistics import (
    PIXELS,
    SCENES,
    SIMULATED,
    RealismError,
    compare_with_real,
    land_statistics,
    read_real_images,
    read_real_pixels,
    vegetated,
)
from experiments.spectra.library import spectral_library
from lai_training.simulation.landscapes import simulate_patches
from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.predict import BANDS

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
    with pytest.raises(RealismError):
        land_statistics([np.full((10, 12, 12), 0.2, np.float32)], rng)


def test_a_folder_without_scenes_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\x00 half a file")

    with pytest.raises(RealismError):
        read_real_images(tmp_path)
    assert "broken.tif is left out" in caplog.text


def test_the_comparison_writes_numbers_and_a_figure(
    tmp_path: Path, library: SpectralLibrary
) -> None:
    for seed in range(2):
        simulate(tmp_path / "real" / f"{seed}.tif", size=64, seed=seed, library=library)

    pixels = _write_pixels(tmp_path / "pixels.parquet", clear=[True] * 20)

    found = compare_with_real(tmp_path / "real", library, pixels=pixels, patches=4, seed=1)
    report = write_realism(found, tmp_path / "report")

    assert list(found) == [SIMULATED, SCENES, PIXELS]
    assert found[SIMULATED].pixels > 500 < found[SCENES].pixels
    names = {path.name for path in report.parent.iterdir()}
    assert names == {"realism.csv", "realism.md", "realism.png"}
    table = pd.read_csv(report.parent / "realism.csv")
    assert len(table) == 2 * 3 + 2 * 2  # pixels have no gradients
    assert "differ from those of real pixels by" in report.read_text()


def _write_pixels(path: Path, clear: list[bool] | list[int], **bands: float) -> Path:
    """Leaves of twenty brightnesses, by columns."""
    spectra = LEAF * np.linspace(0.8, 1.2, len(clear))[:, None]
    table = pd.DataFrame(dict(zip(BANDS, spectra.T, strict=True)), dtype="float32")
    table.assign(clear=clear, **bands).to_parquet(path)
    return path


def test_only_clear_green_pixels_of_a_table_count(tmp_path: Path) -> None:
    path = tmp_path / "pixels.parquet"

    assert read_real_pixels(_write_pixels(path, clear=[True, False, True])).shape == (10, 2)
    assert read_real_pixels(_write_pixels(path, clear=[0, 1, 0])).shape == (10, 1)
    with pytest.raises(RealismError):
        read_real_pixels(_write_pixels(path, clear=[True], B04=0.3))


@pytest.mark.parametrize("content", [b"no table", None])
def test_a_file_that_is_no_table_of_pixels_is_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "pixels.parquet"
    if content is None:
        pd.DataFrame({"B02": [0.1]}).to_parquet(path)
    else:
        path.write_bytes(content)

    with pytest.raises(RealismError):
        read_real_pixels(path)


def test_simulated_land_resembles_real_chips(shared_data: Path, library: SpectralLibrary) -> None:
    """Within half of the spread of real vegetation, and texture within a factor of two."""
    rng = np.random.default_rng(0)
    real = land_statistics(read_real_images(shared_data / "chips")[::2], rng)

    simulated = land_statistics(simulate_patches(48, 64, rng, library), rng)

    assert (np.abs(simulated.mean - real.mean) < 0.5 * real.sd).all()
    assert (np.abs(np.log(simulated.texture / real.texture)) < np.log(2)).all()
    assert (np.abs(np.log(simulated.edges / real.edges)) < np.log(2)).all()
    assert np.abs(simulated.correlation - real.correlation).mean() < 0.2
