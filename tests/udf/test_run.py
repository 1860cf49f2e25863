"""`lai-udf run`: scenes in, COGs out, or one sentence and nothing."""

import json
import os
import subprocess
import sys
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
from lai_udf.cog import read_lai_cogs
from lai_udf.errors import IdentityError, UndeclaredScaleError
from lai_udf.predict import BANDS
from lai_udf.run import RunOptions, map_ahead, predict_scene, run_cube, run_scene
from lai_udf.scenes.read import open_scene, read_scene
from lai_udf.zonal import usable_pixels

NAMES = ["lai.tif", "lai_flags.tif", "lai_lower.tif", "lai_sd.tif", "lai_upper.tif"]
BESIDE = ["quicklook.png", "summary.json"]


def write_scene(path: Path, side: int = 72, **changes: object) -> Path:
    cube = fake_cube(np.random.default_rng(8), side).isel(t=0)
    numbers = to_digital_numbers(cube).astype("uint16")
    return write_multiband(path, dict(zip(BANDS, numbers.values, strict=True)), **changes)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


def result_in(folder: Path) -> Path:
    """Return the folder of the only result of a run."""
    (result,) = folder.iterdir()
    return result


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
    result = result_in(tmp_path / "out")
    assert result.name.startswith("lai_s2_")
    assert sorted(path.name for path in result.iterdir()) == sorted(NAMES + BESIDE)


def test_a_second_scene_in_the_same_folder_replaces_nothing(scene: Path, tmp_path: Path) -> None:
    run(scene, tmp_path / "out")
    before = result_in(tmp_path / "out")
    other = write_scene(tmp_path / "other.tif", tags={"TIFFTAG_DATETIME": "2022:10:08 11:54:11"})
    run(other, tmp_path / "out")
    run(scene, tmp_path / "out", "--target", "field")

    assert len(list((tmp_path / "out").iterdir())) == 3
    with rasterio.open(before / "lai.tif") as dataset:
        assert dataset.tags()["DATETIME"] == "2022-10-05T11:54:11Z"
        assert dataset.tags()["RESULT_ID"] == before.name


def test_a_run_into_the_folder_of_another_result_is_refused(scene: Path, tmp_path: Path) -> None:
    other = write_scene(tmp_path / "other.tif")
    run_scene(open_scene(scene), tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for source, options in ((other, RunOptions()), (scene, RunOptions(target="field"))):
        with pytest.raises(IdentityError):
            run_scene(open_scene(source), tmp_path / "out", options)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_summary_holds_statistics_and_an_unknown_cloud_share(
    scene: Path, tmp_path: Path
) -> None:
    run(scene, tmp_path / "out")
    folder = result_in(tmp_path / "out")
    summary = json.loads((folder / "summary.json").read_text())
    lai = read_lai_cogs(folder)
    usable = usable_pixels(lai.sel(bands="LAI").values, lai.sel(bands="LAI_FLAGS").values)

    assert summary["id"] == folder.name
    assert summary["cloud_share"] is None
    assert summary["usable_share"] == pytest.approx(usable.mean(), abs=1e-6)
    assert summary["mean"] == pytest.approx(lai.sel(bands="LAI").values[usable].mean(), abs=1e-4)
    assert "scale 0.0001, offset -0.1" in summary["scaling"]


def test_cloud_share_is_that_of_the_scene_classes(tmp_path: Path) -> None:
    cube = to_digital_numbers(fake_cube(np.random.default_rng(8), 40).isel(t=0)).astype("uint16")
    planes = dict(zip((*BANDS, "SCL"), [*cube.values, np.full((40, 40), 4, "uint16")], strict=True))
    planes["SCL"][:10] = 9  # cloud
    planes["SCL"][10:20] = 0  # no data: not observed
    how = {"scales": (1e-4,) * 10 + (1.0,), "offsets": (-0.1,) * 10 + (0.0,)}
    run(write_multiband(tmp_path / "scene.tif", planes, **how), tmp_path / "out")

    summary = json.loads((result_in(tmp_path / "out") / "summary.json").read_text())
    assert summary["cloud_share"] == pytest.approx(1 / 3, abs=1e-6)


def test_a_single_pass_does_not_call_its_spread_draws(scene: Path, tmp_path: Path) -> None:
    texts = []
    for samples in (0, 2):
        paths = run_scene(open_scene(scene), tmp_path / str(samples), RunOptions(samples=samples))
        with rasterio.open(paths["lai_sd"]) as dataset:
            texts.append(dataset.descriptions[0])
    assert "draws" not in texts[0]
    assert "2 Monte-Carlo draws" in texts[1]


def test_scene_cut_into_windows_equals_the_scene_in_memory(
    scene: Path, tmp_path: Path, shipped: str
) -> None:
    whole = predict_scene(read_scene(scene))
    run_scene(open_scene(scene), tmp_path / "out", core_px=32)
    windows = read_lai_cogs(tmp_path / "out")

    assert list(windows["bands"].values) == list(whole["bands"].values)
    np.testing.assert_allclose(windows.values, whole.values, atol=0.0006)  # half of scale 0.001


def test_files_say_what_made_them(scene: Path, tmp_path: Path) -> None:
    paths = run_scene(open_scene(scene), tmp_path / "out", RunOptions(samples=2, seed=4))
    with rasterio.open(paths["lai"]) as dataset:
        tags = dataset.tags()

    assert tags["MODEL_ID"] == "sentinel2-lai"
    assert tags["MODEL_CHECKSUM"].startswith("1220")
    assert (tags["TARGET"], tags["SAMPLES"], tags["SEED"]) == ("sl2p", "2", "4")
    assert tags["DATETIME"].startswith("2022-10-05T11:54:11")


def test_scene_in_memory_keeps_grid_time_and_provenance(scene: Path) -> None:
    read = read_scene(scene)
    lai = predict_scene(read, RunOptions(bands=("LAI",)))

    assert lai.rio.crs == read.rio.crs
    assert lai.attrs["datetime"] == read.attrs["datetime"]
    assert lai.attrs["model_id"] == "sentinel2-lai"
    assert list(lai["bands"].values) == ["LAI"]


def test_bands_can_be_chosen(scene: Path, tmp_path: Path) -> None:
    code, _, _ = run(scene, tmp_path / "out", "--bands", "LAI, LAI_FLAGS")

    assert code == 0
    names = [path.name for path in result_in(tmp_path / "out").glob("*.tif")]
    assert sorted(names) == ["lai.tif", "lai_flags.tif"]


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
    lai = result_in(tmp_path / "out") / "lai.tif"
    before = lai.stat().st_mtime_ns
    code, stdout, stderr = run(scene, tmp_path / "out")

    assert code == 0
    assert "finished already" in stderr
    assert sorted(Path(line).name for line in stdout.splitlines()) == NAMES
    assert lai.stat().st_mtime_ns == before


@pytest.mark.parametrize("changed", ["--overwrite", "same scene anew", "lost band", "foreign file"])
def test_anything_else_is_computed_anew(scene: Path, tmp_path: Path, changed: str) -> None:
    run(scene, tmp_path / "out")
    output = result_in(tmp_path / "out")
    before = (output / "lai.tif").stat().st_mtime_ns
    if changed == "same scene anew":
        os.utime(scene, (1, 1))
    if changed == "lost band":
        (output / "lai_sd.tif").unlink()
    if changed == "foreign file":
        (output / "lai_sd.tif").write_text("no raster")
    code, _, stderr = run(scene, tmp_path / "out", *(["--overwrite"] * (changed == "--overwrite")))

    assert code == 0, stderr
    assert result_in(tmp_path / "out") == output
    assert sorted(path.name for path in output.iterdir()) == sorted(NAMES + BESIDE)
    assert (output / "lai.tif").stat().st_mtime_ns != before


@pytest.mark.parametrize("option", [("--seed", 1, "--samples", 2), ("--target", "field")])
def test_other_settings_give_another_result(
    scene: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    run(scene, tmp_path / "out")
    run(scene, tmp_path / "out", *option)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_finished_dates_of_a_series_are_left(tmp_path: Path, known: str) -> None:
    cube = fake_cube(np.random.default_rng(2), 24, dates=2).rio.write_crs("EPSG:32631")
    told: list[Path] = []
    how = {"options": RunOptions(model=Path(known)), "overwrite": False, "skipped": told.append}

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
