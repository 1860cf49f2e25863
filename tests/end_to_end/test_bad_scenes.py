"""Scenes and options that cannot be used: one sentence, a code other than 0, no item."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from end_to_end import scenes
from end_to_end.conftest import DemoRun, item_folders
from end_to_end.scenes import Raster, write_bad_scene
from end_to_end.test_refused_graphs import damage_bundle
from lai_demo.__main__ import main
from lai_udf.bundle import default_bundle_path

# rioxarray multiplies affine transforms with `*`
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@dataclass(frozen=True)
class Refusal:
    """How the demo ended."""

    code: int
    sentence: str
    printed: str


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., Refusal]:
    """Run the command in this process; with these arguments it must fail and leave no item."""
    command = typer.Typer()
    command.command()(main)

    def run(*options: str, out: Path = tmp_path / "out") -> Refusal:
        result = CliRunner().invoke(command, [f"--out={out}", "--window=96", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert not item_folders(tmp_path / "out")
        assert not list(tmp_path.rglob("lai*.tif"))
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.startswith("lai-demo: ")
        return Refusal(result.exit_code, result.stderr, result.stdout)

    return run


NAMED: dict[Callable[[Raster], None], tuple[str, ...]] = {
    scenes.drop_band: ("lacks B8A", "bad.tif"),
    scenes.undeclare: ("SCALE=", "bad.tif"),
    scenes.digital_numbers_as_float: ("digital numbers", "SCALE=", "bad.tif"),
    scenes.empty: ("no pixel holds data", "bad.tif"),
    scenes.cloud_over: ("every pixel is cloud", "bad.tif"),
    scenes.lose_crs: ("has no CRS", "bad.tif"),
    scenes.go_geographic: ("EPSG:4326", "reproject", "bad.tif"),
    scenes.lose_time: ("DATETIME=", "bad.tif"),
}


@pytest.mark.parametrize(("spoil", "words"), NAMED.items(), ids=[bad.__name__ for bad in NAMED])
# rasterio warns when it writes and opens the scene that has no CRS
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_bad_scene_ends_with_a_sentence_before_any_server_starts(
    refuse, scene, tmp_path, spoil, words
):
    path = write_bad_scene(scene, tmp_path / "bad.tif", spoil)
    refusal = refuse(f"--scene={path}")
    assert refusal.code == 1
    assert all(word in refusal.sentence for word in words), refusal.sentence
    assert "http" not in refusal.printed


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (scenes.undeclare, ("OFFSET=",)),
        (scenes.reflectance, ("SCALE=",)),
    ],
    ids=["forgotten offset", "scaled twice"],
)
def test_an_implausible_scale_ends_with_the_sentence_of_the_udf(
    refuse, scene, tmp_path, spoil, words
):
    path = write_bad_scene(scene, tmp_path / "bad.tif", spoil)
    refusal = refuse(f"--scene={path}", "--scale=0.0001")  # and no offset
    assert refusal.code == 1
    assert all(word in refusal.sentence for word in words), refusal.sentence


def test_a_truncated_scene_is_named(refuse, scene, tmp_path):
    path = tmp_path / "bad.tif"
    path.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    refusal = refuse(f"--scene={path}")
    assert refusal.code == 1
    assert "truncated" in refusal.sentence
    assert "bad.tif" in refusal.sentence


@pytest.mark.parametrize("name", ["none.tif", "none.json", "none.SAFE"])
def test_a_missing_scene_is_named(refuse, tmp_path, name):
    refusal = refuse(f"--scene={tmp_path / name}")
    assert refusal.code == 1
    assert f"{name} does not exist" in refusal.sentence


def test_a_foreign_file_is_named(refuse, tmp_path):
    path = tmp_path / "notes.tif"
    path.write_text("not a raster")
    assert "cannot read" in refuse(f"--scene={path}").sentence


def test_a_damaged_bundle_is_named_before_the_scene_is_read(refuse, scene, tmp_path):
    bundle = damage_bundle(default_bundle_path(), tmp_path / "bad.zip")
    refusal = refuse(f"--scene={scene}", f"--model={bundle}")
    assert refusal.code == 1
    assert "bad.zip: model.onnx fails its checksum" in refusal.sentence


def test_an_output_folder_below_a_file_is_named(refuse, scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refusal = refuse(f"--scene={scene}", out=tmp_path / "file" / "out")
    assert refusal.code == 1
    assert "cannot be written" in refusal.sentence
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--scale=thousand", ("SCALE", "thousand")),
        ("--scale=0", ("SCALE=",)),
        ("--datetime=yesterday", ("'yesterday' is no time",)),
        ("--window=95", ("95", "multiple")),
        ("--samples=1", ("SAMPLES=", "from 2 to")),
    ],
)
def test_an_option_that_means_nothing_is_named(refuse, scene, option, words):
    refusal = refuse(f"--scene={scene}", option)
    assert refusal.code == 1
    assert all(word in refusal.sentence for word in words), refusal.sentence
    assert "http" not in refusal.printed


def test_a_failed_run_leaves_the_item_of_an_earlier_run_as_it_was(
    refuse, demo_run: DemoRun, scene, tmp_path
):
    before = {path: path.stat().st_mtime_ns for path in demo_run.item_folder.iterdir()}
    path = write_bad_scene(scene, tmp_path / "bad.tif", scenes.drop_band)
    assert refuse(f"--scene={path}", out=demo_run.out).code == 1
    assert {path: path.stat().st_mtime_ns for path in demo_run.item_folder.iterdir()} == before
