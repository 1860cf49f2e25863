"""`lai-udf run`: scenes in, COGs out, or one sentence and nothing."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_cubes import VEGETATION, fake_cube, to_digital_numbers
from fake_products import write_multiband
from typer.testing import CliRunner

from lai_udf.cli import app
from lai_udf.cli_words import name_options
from lai_udf.cog import read_lai_cogs
from lai_udf.predict import BANDS
from lai_udf.run import Request, map_ahead, predict_scene, run_cube, run_scene
from lai_udf.scenes.read import open_scene, read_scene

NAMES = ["lai.tif", "lai_flags.tif", "lai_lower.tif", "lai_sd.tif", "lai_upper.tif"]


def write_scene(path: Path, side: int = 72, **changes: object) -> Path:
    cube = fake_cube(np.random.default_rng(8), side).isel(t=0)
    numbers = to_digital_numbers(cube).astype("uint16")
    return write_multiband(path, dict(zip(BANDS, numbers.values, strict=True)), **changes)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"lai-udf {version('sentinel2-lai')}\n")


def test_command_writes_one_cog_per_band_and_prints_the_paths(scene: Path, tmp_path: Path) -> None:
    code, stdout, _ = run(scene, tmp_path / "out")

    assert code == 0
    assert sorted(Path(line).name for line in stdout.splitlines()) == NAMES
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES


def test_scene_cut_into_windows_equals_the_scene_in_memory(
    scene: Path, tmp_path: Path, shipped: str
) -> None:
    whole = predict_scene(read_scene(scene))
    run_scene(open_scene(scene), tmp_path / "out", core_px=32)
    windows = read_lai_cogs(tmp_path / "out")

    assert list(windows["bands"].values) == list(whole["bands"].values)
    np.testing.assert_allclose(windows.values, whole.values, atol=0.0006)  # half of scale 0.001


def test_files_say_what_made_them(scene: Path, tmp_path: Path) -> None:
    paths = run_scene(open_scene(scene), tmp_path / "out", Request(samples=2, seed=4))
    with rasterio.open(paths["lai"]) as dataset:
        tags = dataset.tags()

    assert tags["MODEL_ID"] == "sentinel2-lai-seamless"
    assert tags["MODEL_CHECKSUM"].startswith("1220")
    assert (tags["TARGET"], tags["SAMPLES"], tags["SEED"]) == ("sl2p", "2", "4")
    assert tags["DATETIME"].startswith("2022-10-05T11:54:11")


def test_scene_in_memory_keeps_grid_time_and_provenance(scene: Path) -> None:
    read = read_scene(scene)
    lai = predict_scene(read, Request(bands=("LAI",)))

    assert lai.rio.crs == read.rio.crs
    assert lai.attrs["datetime"] == read.attrs["datetime"]
    assert lai.attrs["model_id"] == "sentinel2-lai-seamless"
    assert list(lai["bands"].values) == ["LAI"]


def test_bands_can_be_chosen(scene: Path, tmp_path: Path) -> None:
    code, _, _ = run(scene, tmp_path / "out", "--bands", "LAI, LAI_FLAGS")

    assert code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["lai.tif", "lai_flags.tif"]


def test_progress_counts_the_windows(scene: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    run_scene(
        open_scene(scene),
        tmp_path / "out",
        core_px=32,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(number, 9) for number in range(1, 10)]


def test_finished_results_are_left_and_the_user_is_told(scene: Path, tmp_path: Path) -> None:
    run(scene, tmp_path / "out")
    before = (tmp_path / "out" / "lai.tif").stat().st_mtime_ns
    code, stdout, stderr = run(scene, tmp_path / "out")

    assert code == 0
    assert "finished already" in stderr
    assert sorted(Path(line).name for line in stdout.splitlines()) == NAMES
    assert (tmp_path / "out" / "lai.tif").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changed",
    ["--overwrite", "--seed", "--target", "other scene", "lost band", "foreign file"],
)
def test_anything_else_is_computed_anew(scene: Path, tmp_path: Path, changed: str) -> None:
    output = tmp_path / "out"
    run(scene, output)
    before = (output / "lai.tif").stat().st_mtime_ns
    values = {
        "--overwrite": ["--overwrite"],
        "--seed": ["--seed", 1],
        "--target": ["--target", "field"],
    }
    if changed == "other scene":
        write_scene(scene, 80)
    if changed == "lost band":
        (output / "lai_sd.tif").unlink()
    if changed == "foreign file":
        (output / "lai_sd.tif").write_text("no raster")
    code, _, stderr = run(scene, output, *values.get(changed, []))

    assert (code, stderr) == (0, "")
    assert sorted(path.name for path in output.iterdir()) == NAMES
    assert (output / "lai.tif").stat().st_mtime_ns != before


def test_finished_dates_of_a_series_are_left(tmp_path: Path, known: str) -> None:
    cube = fake_cube(np.random.default_rng(2), 24, dates=2).rio.write_crs("EPSG:32631")
    told: list[Path] = []
    how = {"request": Request(model=Path(known)), "overwrite": False, "skipped": told.append}

    first = run_cube(cube[:1], tmp_path, **how)
    both = run_cube(cube, tmp_path, **how)
    cube[0, 0, 0, 0] += 0.01
    run_cube(cube, tmp_path, **how)

    assert told == [first[0], both[1]]


def test_work_runs_ahead_in_order_and_no_further_than_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    results = map_ahead(lambda number: number * number, items(), 2)

    assert next(results) == 0
    assert len(taken) <= 5
    assert list(results) == [number * number for number in range(1, 20)]


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
    assert_refused(run(path, tmp_path / "out", "--scale", 1e-4), tmp_path / "out", "scale")


def test_an_offset_that_is_declared_is_not_judged(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif")
    code, _, _ = run(path, tmp_path / "out", "--scale", 1e-4, "--offset", 0)
    assert code == 0


def test_scene_without_data_is_refused(tmp_path: Path) -> None:
    empty = {band: np.zeros((32, 32), "uint16") for band in BANDS}
    path = write_multiband(tmp_path / "scene.tif", empty)

    assert_refused(run(path, tmp_path / "out"), tmp_path / "out", "no pixel holds data")


def test_scene_wholly_under_cloud_is_written_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = dict.fromkeys((*BANDS, "SCL"), np.full((3, 3), 2000, "uint16"))
    numbers["SCL"] = np.full((3, 3), 9, "uint16")
    path = write_multiband(tmp_path / "cloud.tif", numbers)
    code, stdout, _ = run(path, tmp_path / "out", "--bands", "LAI_FLAGS,LAI")

    assert (code, len(stdout.splitlines())) == (0, 2)
    (line,) = caplog.messages
    assert "cloud.tif: no pixel has LAI" in line


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


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        (
            "set SCALE= and OFFSET= (reflectance_scale, reflectance_offset), for L2A 0.0001",
            "set --scale and --offset, for L2A 0.0001",
        ),
        ("set OFFSET=-0.1 (reflectance_offset), as in", "set --offset -0.1, as in"),
        ("in percent? Then set reflectance_scale=0.01", "in percent? Then set --scale 0.01"),
        ("check reflectance_scale and reflectance_offset", "check --scale and --offset"),
        ("in the file name; set DATETIME= (datetime)", "in the file name; set --datetime"),
        ('use target="sl2p"', "use --target sl2p"),
        ("cannot read /a/SCALE=1/x  y.tif", "cannot read /a/SCALE=1/x  y.tif"),
    ],
)
def test_messages_name_options_instead_of_settings(sentence: str, said: str) -> None:
    assert name_options(sentence) == said


@pytest.mark.parametrize("name", ["gs://bucket/a.tif", "s3://bucket/a.json", "s3://bucket/a.zarr"])
def test_scheme_that_is_not_read_is_told_with_those_that_are(tmp_path: Path, name: str) -> None:
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
        "give --model the zip",
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
