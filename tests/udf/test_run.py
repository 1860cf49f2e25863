"""`lai-udf run`: scenes in, COGs out, or one sentence and nothing."""

import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_cubes import fake_cube, to_digital_numbers
from fake_products import write_multiband
from fake_runs import run, write_scene
from typer.testing import CliRunner

from lai_stac import describe_runs
from lai_udf.cli import app
from lai_udf.errors import IdentityError
from lai_udf.identity import RunOptions
from lai_udf.predict import BANDS
from lai_udf.results import read_lai_cogs
from lai_udf.run import map_ahead, predict_scene, run_cube, run_scene
from lai_udf.scenes.read import open_scene, read_scene
from lai_udf.zonal import usable_pixels

NAMES = ["lai.tif", "lai_flags.tif", "lai_lower.tif", "lai_sd.tif", "lai_upper.tif"]
BESIDE = ["quicklook.png", "summary.json"]


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


def result_in(folder: Path) -> Path:
    """Return the folder of the only result of a run."""
    (result,) = folder.iterdir()
    return result


def test_version_is_printed() -> None:
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

    with rasterio.open(tmp_path / "out" / "lai.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as first:
        first.update_tags(RESULT_ID="")  # of a release that wrote no ids
    with pytest.raises(IdentityError):
        run_scene(open_scene(scene), tmp_path / "out")


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


def test_files_state_what_made_them(scene: Path, tmp_path: Path) -> None:
    paths = run_scene(open_scene(scene), tmp_path / "out", RunOptions(samples=2, seed=4))
    with rasterio.open(paths["lai"]) as dataset:
        tags = dataset.tags()

    assert tags["MODEL_ID"] == "sentinel2-lai"
    assert tags["MODEL_CHECKSUM"].startswith("1220")
    assert (tags["TARGET"], tags["SAMPLES"], tags["SEED"]) == ("sl2p", "2", "4")
    assert tags["DATETIME"].startswith("2022-10-05T11:54:11")


def test_files_hold_the_settings_that_differ_from_the_defaults(scene: Path, tmp_path: Path) -> None:
    options = RunOptions(target="field", level=0.9, region="new", plausibility="off")
    paths = run_scene(open_scene(scene), tmp_path / "out", options)
    with rasterio.open(paths["lai_lower"]) as dataset:
        tags = dataset.tags()
    assert (tags["LEVEL"], tags["REGION"], tags["PLAUSIBILITY"]) == ("0.9", "new", "off")

    (item,) = describe_runs([tmp_path / "out"])
    document = json.loads(item.read_text())
    assert document["assets"]["lai_lower"]["unc:confidence_level"] == 0.9
    assert "regions without field data" in document["properties"]["processing:lineage"]


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
    reported: list[tuple[int, int]] = []
    run_scene(
        open_scene(scene),
        tmp_path / "out",
        core_px=32,
        progress=lambda done, total: reported.append((done, total)),
    )
    assert reported == [(number, 9) for number in range(1, 10)]


def test_finished_results_are_left_and_named(scene: Path, tmp_path: Path) -> None:
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
    skipped: list[Path] = []
    how = {"options": RunOptions(model=Path(known)), "overwrite": False, "skipped": skipped.append}

    first = run_cube(cube[:1], tmp_path, **how)
    both = run_cube(cube, tmp_path, **how)
    cube[0, 0, 0, 0] += 0.01
    run_cube(cube, tmp_path, **how)

    assert skipped == [first[0], both[1]]


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
