"""`lai-udf run` that cannot be done: one sentence, a code other than 0, and no file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_cubes import VEGETATION, fake_cube
from fake_products import write_multiband
from fake_runs import run, write_scene

from lai_udf.errors import UndeclaredScaleError
from lai_udf.predict import BANDS
from lai_udf.scenes.read import open_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


def assert_refused(
    outcome: tuple[int, str, str], folder: Path, *phrases: str, code: int = 1
) -> None:
    found, stdout, stderr = outcome
    assert found == code, stderr
    assert stdout == ""
    for phrase in phrases:
        assert phrase in stderr
    if code == 1:
        assert len(stderr.strip().splitlines()) == 1
    assert not folder.exists()


def test_missing_band_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    numbers = {band: np.full((32, 32), 2000, "uint16") for band in BANDS if band != "B05"}
    path = write_multiband(tmp_path / "scene.tif", numbers)

    assert_refused(run(path, tmp_path / "out"), tmp_path / "out", "lai-udf:", "B05")


def test_digital_numbers_declared_as_reflectance_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", scales=(1.0,) * 10, offsets=(0.0,) * 10)

    assert_refused(
        run(path, tmp_path / "out", "--scale", 1, "--offset", 0), tmp_path / "out", "0.0001"
    )


def test_reflectance_declared_as_digital_numbers_is_refused(tmp_path: Path) -> None:
    cube = fake_cube(np.random.default_rng(8), 40).isel(t=0)
    path = write_multiband(
        tmp_path / "scene.tif",
        dict(zip(BANDS, cube.values, strict=True)),
        scales=(1.0,) * 10,
        offsets=(0.0,) * 10,
    )
    code, stdout, stderr = run(path, tmp_path / "out", "--scale", 1e-4)
    assert (code, stdout) == (1, "")
    assert "set --scale" in stderr
    assert not (tmp_path / "out").exists()


def test_an_offset_that_is_declared_is_not_judged(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif")
    code, _, _ = run(path, tmp_path / "out", "--scale", 1e-4, "--offset", 0)
    assert code == 0


def test_scene_without_data_is_refused(tmp_path: Path) -> None:
    empty = {band: np.zeros((32, 32), "uint16") for band in BANDS}
    path = write_multiband(tmp_path / "scene.tif", empty)

    assert_refused(run(path, tmp_path / "out"), tmp_path / "out", "no pixel holds data")


def test_scene_wholly_under_cloud_is_left_out(tmp_path: Path) -> None:
    numbers = dict.fromkeys((*BANDS, "SCL"), np.full((3, 3), 2000, "uint16"))
    numbers["SCL"] = np.full((3, 3), 9, "uint16")
    path = write_multiband(tmp_path / "cloud.tif", numbers)

    assert_refused(run(path, tmp_path / "out"), tmp_path / "out", "cloud.tif: no pixel has LAI")


def test_saturated_pixels_in_a_late_window_are_no_data(tmp_path: Path) -> None:
    numbers = np.array(VEGETATION)[:, None, None] * np.ones((10, 1040, 8)) * 1e4 + 1000
    numbers[:, 970:] = 65535  # saturated, in the second window only
    path = write_multiband(
        tmp_path / "scene.tif", dict(zip(BANDS, numbers.round().astype("uint16"), strict=True))
    )
    code, stdout, _ = run(path, tmp_path / "out")

    assert code == 0
    with rasterio.open(stdout.splitlines()[0]) as dataset:
        usable = dataset.read_masks(1) > 0
    assert usable[:970].all()
    assert not usable[970:].any()


def test_time_of_a_scene_can_be_given(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", 24, tags={})
    assert_refused(run(path, tmp_path / "out"), tmp_path / "out", "no time of acquisition")

    code, stdout, _ = run(path, tmp_path / "out", "--datetime", "2024-06-01T12:30:31+02:00")

    assert code == 0
    with rasterio.open(stdout.splitlines()[0]) as dataset:
        assert dataset.tags()["DATETIME"] == "2024-06-01T10:30:31Z"


def test_errors_name_options_instead_of_parameters(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", scales=None, offsets=None)
    with pytest.raises(UndeclaredScaleError) as caught:
        open_scene(path)
    assert caught.value.parameter == "reflectance_scale"

    assert_refused(run(path, tmp_path / "out"), tmp_path / "out", "set --scale to 0.0001")


def test_several_faults_of_one_scene_are_reported_at_once(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", scales=None, offsets=None, tags={}, pixel=30.0)
    outcome = run(path, tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", "--scale", "--datetime", "--reproject")


def test_a_refused_scene_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    good = write_scene(tmp_path / "in" / "a.tif")
    lacking = {band: np.full((32, 32), 2000, "uint16") for band in BANDS if band != "B05"}
    write_multiband(tmp_path / "in" / "b.tif", lacking)
    write_scene(tmp_path / "in" / "c.tif", tags={"TIFFTAG_DATETIME": "2022:10:08 11:54:11"})
    code, stdout, stderr = run(tmp_path / "in", tmp_path / "out")

    assert code == 3
    assert len(stdout.splitlines()) == len(list((tmp_path / "out").iterdir())) == 2
    assert [line for line in stderr.splitlines() if "refused" in line and "b.tif" in line]
    assert run(good, tmp_path / "none.tif", tmp_path / "out")[0] == 3


def test_input_bands_are_named_by_hand(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", 24, descriptions=None)
    assert run(path, tmp_path / "out")[0] == 1
    assert run(path, tmp_path / "out", "--input-bands", ",".join(BANDS))[0] == 0


def test_output_in_a_bucket_is_misuse(scene: Path, tmp_path: Path) -> None:
    code, _, stderr = run(scene, "s3://bucket/results")
    assert code == 2
    assert "Traceback" not in stderr


def test_help_is_quick() -> None:
    """Nothing heavy is imported for it: the time itself depends on the machine."""
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from lai_udf.cli import app\n"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0\n"
        "print([name for name in ('numpy', 'xarray', 'rasterio', 'openeo') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["gs://bucket/a.tif", "ftp://host/a.zarr"])
def test_scheme_that_is_not_read_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    assert_refused(run(name, tmp_path / "out"), tmp_path / "out", "is read from a path", name[:2])


def test_missing_input_is_named(tmp_path: Path) -> None:
    assert_refused(run(tmp_path / "none.tif", tmp_path / "out"), tmp_path / "out", "none.tif")


def test_damaged_bundle_is_refused(scene: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(b"PK nothing")

    assert_refused(
        run(scene, tmp_path / "out", "--model", bundle),
        tmp_path / "out",
        "bundle.zip",
    )


def test_output_that_is_a_file_is_refused(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    code, _, stderr = run(scene, tmp_path / "taken")

    assert code == 1
    assert "cannot write to" in stderr
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.parametrize(
    "wrong",
    [
        ("--bands", "NDVI"),
        ("--bands", ""),
        ("--target", "snap"),
        ("--samples", "-1"),
        ("--colour", "red"),
    ],
)
def test_misuse_ends_with_code_2(scene: Path, tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert_refused(run(scene, tmp_path / "out", *wrong), tmp_path / "out", code=2)


def test_one_sample_is_refused(scene: Path, tmp_path: Path) -> None:
    assert_refused(
        run(scene, tmp_path / "out", "--samples", 1), tmp_path / "out", "samples must be"
    )
