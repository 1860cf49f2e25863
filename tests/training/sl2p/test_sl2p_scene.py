"""`lai-train sl2p`: a scene in, a GeoTIFF of LAI and SNAP's flags out, or nothing at all."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from typer.testing import CliRunner

from lai_training.cli import app
from lai_training.sl2p import scene as sl2p_scene
from lai_training.sl2p.processor import predict_image
from lai_udf.grid import Grid
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.geotiff import write_scene_geotiff
from lai_udf.scenes.read import read_scene

runner = CliRunner()
TRANSFORM = Affine(20, 0, 500_000, 0, -20, 4_800_000)


def make_scene(rng: np.random.Generator, *, angles: bool = False, rows: int = 40) -> xr.DataArray:
    """A scene of 24 columns, reflectance as of a canopy, one pixel without data."""
    grid = Grid(CRS.from_epsg(32631), TRANSFORM, rows, 24)
    values = rng.uniform(0.02, 0.1, (len(BANDS), rows, 24)).astype(np.float32)
    values[4:8] += 0.25
    labels = list(BANDS)
    if angles:
        degrees = np.array([30, 150, 5, 100], np.float32)[:, None, None]
        values = np.concatenate([values, np.broadcast_to(degrees, (4, rows, 24))])
        labels += ANGLES
    values[:, 3, 5] = np.nan
    attributes = {"datetime": "2020-06-01T10:50:31Z", "platform": "sentinel-2b"}
    return grid.to_data_array(values, labels, attributes)


def run(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("angles", [False, True])
def test_the_file_holds_what_predict_returns(rng, tmp_path, monkeypatch, angles):
    monkeypatch.setattr(sl2p_scene, "STRIP_ROWS", 16)  # 40 rows: two strips and a rest
    scene_path = write_scene_geotiff(make_scene(rng, angles=angles), tmp_path / "scene.tif")
    output = tmp_path / "new" / "sl2p.tif"

    code, printed = run("sl2p", scene_path, output, "--variable", "LAI", "--variable", "CCC")

    assert code == 0, printed
    assert printed.strip() == str(output)
    scene = read_scene(scene_path)
    with rasterio.open(output) as dataset:
        assert dataset.descriptions == ("LAI", "LAI_FLAGS", "CCC", "CCC_FLAGS")
        assert dataset.crs == scene.rio.crs
        assert dataset.transform == TRANSFORM
        assert dataset.tags()["ANGLES"] == ("of the scene" if angles else "nominal")
        pixels = dataset.read()
    for first, variable in ((0, "LAI"), (2, "CCC")):
        value, flags = predict_image(scene, variable=variable)
        np.testing.assert_allclose(pixels[first], value, atol=2e-5 if first == 0 else 2e-3)
        np.testing.assert_array_equal(pixels[first + 1], flags)
    assert np.isnan(pixels[0, 3, 5])
    assert np.isnan(pixels[0]).sum() == 1


def test_a_3_0_network_follows_the_platform(rng, tmp_path):
    scene = make_scene(rng)
    path = write_scene_geotiff(scene, tmp_path / "scene.tif")

    code, printed = run("sl2p", path, tmp_path / "sl2p.tif", "--network", "3_0")

    assert code == 0, printed
    with rasterio.open(tmp_path / "sl2p.tif") as dataset:
        assert dataset.tags()["SL2P_NETWORK"] == "3_0 S2B"


def test_a_3_0_network_without_platform_asks_for_the_sensor(rng, tmp_path):
    scene = make_scene(rng)
    del scene.attrs["platform"]
    path = write_scene_geotiff(scene, tmp_path / "scene.tif")

    assert_refused(tmp_path, path, "--network", "3_0", message="set the sensor")
    assert run("sl2p", path, tmp_path / "a.tif", "--network", "3_0", "--sensor", "S2A")[0] == 0


def test_an_unknown_variable_is_refused(rng, tmp_path):
    path = write_scene_geotiff(make_scene(rng), tmp_path / "scene.tif")
    assert_refused(tmp_path, path, "--variable", "NDVI", message="no variable 'NDVI'")


def test_a_scene_without_a_time_names_the_option_that_gives_it(rng, tmp_path):
    path = write_scene_geotiff(make_scene(rng), tmp_path / "scene.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(DATETIME="", TIFFTAG_DATETIME="")
    assert_refused(tmp_path, path, message="set --datetime")

    code, _ = run("sl2p", path, tmp_path / "sl2p.tif", "--datetime", "2020-06-01T10:50:31Z")

    assert code == 0
    with rasterio.open(tmp_path / "sl2p.tif") as dataset:
        assert dataset.tags()["DATETIME"] == "2020-06-01T10:50:31Z"


def test_a_scene_without_data_leaves_no_file(rng, tmp_path):
    empty = make_scene(rng)
    empty[:] = np.nan
    path = write_scene_geotiff(empty, tmp_path / "scene.tif")
    assert_refused(tmp_path, path, message="no pixel holds data")


def test_a_truncated_scene_leaves_no_file(rng, tmp_path):
    path = write_scene_geotiff(make_scene(rng, rows=400), tmp_path / "scene.tif")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_refused(tmp_path, path, message=str(path))


def assert_refused(folder: Path, path: Path, *options: str, message: str) -> None:
    before = sorted(folder.rglob("*"))

    code, printed = run("sl2p", path, folder / "out" / "sl2p.tif", *options)

    assert code == 1
    assert message in printed
    assert printed.count("\n") == 1  # one sentence
    assert sorted(folder.rglob("*")) == before
