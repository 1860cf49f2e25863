"""A simulated scene is a file that the other packages read as it reads a real one."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from experiments.spectra.library import spectral_library
from lai_training.errors import SimulationError
from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.errors import OutputNotWritableError
from lai_udf.predict import BANDS
from lai_udf.scenes.read import read_scene


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(1_500, np.random.default_rng(7))


def test_a_simulated_scene_is_read_like_a_product(tmp_path: Path, library: SpectralLibrary) -> None:
    files = simulate(tmp_path / "a" / "scene.tif", size=(40, 48), seed=3, library=library)

    scene = read_scene(files.scene)

    assert list(scene.bands.values[:10]) == list(BANDS)
    assert set(scene.bands.values[10:]) >= {"SCL", "sunZenithAngles", "viewAzimuthMean"}
    assert scene.shape[1:] == (40, 48)
    assert scene.attrs["datetime"].startswith("2020-06-08T10:56:21")
    assert scene.rio.crs.to_epsg() == 32631
    reflectance = scene.sel(bands="B08").values
    assert 0.1 < np.nanmean(reflectance) < 0.6
    assert set(np.unique(scene.sel(bands="SCL"))) <= {4.0, 5.0, 6.0, 11.0}
    assert float(scene.sel(bands="sunZenithAngles")[0, 0]) == pytest.approx(23, abs=3)


def test_the_truth_lies_beside_the_scene(tmp_path: Path, library: SpectralLibrary) -> None:
    files = simulate(tmp_path / "scene.tif", size=32, seed=3, library=library)

    assert files.truth.name == "scene_truth.tif"
    with rasterio.open(files.truth) as truth, rasterio.open(files.scene) as scene:
        assert truth.descriptions == ("true_lai", "parcel")
        assert truth.transform == scene.transform
        assert 0 <= truth.read(1).min() <= truth.read(1).max() <= 10
    assert {each.name for each in tmp_path.iterdir()} == {"scene.tif", "scene_truth.tif"}


def test_the_seed_decides(tmp_path: Path, library: SpectralLibrary) -> None:
    one, same, other = (
        read_scene(simulate(tmp_path / f"{name}.tif", size=32, seed=seed, library=library).scene)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )

    np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(one.values, other.values)


@pytest.mark.parametrize(
    "wish",
    [
        {"size": 8},
        {"size": (32, 9999)},
        {"cloud_cover_percent": 120},
    ],
)
def test_impossible_wishes_are_refused_and_nothing_is_written(
    tmp_path: Path, library: SpectralLibrary, wish: dict[str, object]
) -> None:
    with pytest.raises(SimulationError):
        simulate(tmp_path / "scene.tif", library=library, **wish)
    assert not list(tmp_path.iterdir())


def test_another_format_is_refused(tmp_path: Path, library: SpectralLibrary) -> None:
    with pytest.raises(SimulationError):
        simulate(tmp_path / "scene.png", library=library)


def test_an_unwritable_folder_is_one_sentence(tmp_path: Path, library: SpectralLibrary) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputNotWritableError):
        simulate(tmp_path / "file" / "scene.tif", size=32, library=library)
