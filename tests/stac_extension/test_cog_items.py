"""Items of what a run left in folders, from the tags of its files alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_lai import UTM32, fake_layers
from typer.testing import CliRunner

from lai_stac.__main__ import app
from lai_stac.cog_items import describe_cogs, describe_runs
from lai_stac.errors import DescriptionError, RasterError
from lai_udf.bundle import open_bundle
from lai_udf.cog import write_lai_cogs

PRODUCT = "S2A_MSIL2A_20240621T103629_N0510_R008_T32TQM_20240621T170857"


def write_run(folder: Path, **changes: str) -> Path:
    bundle = open_bundle()
    tags = {
        "DATETIME": "2024-06-21T10:36:29Z",
        "PLATFORM": "sentinel-2a",
        "PRODUCT_ID": PRODUCT,
        "MODEL_ID": bundle.model_id,
        "MODEL_VERSION": bundle.version,
        "MODEL_CHECKSUM": bundle.checksum,
        "TARGET": "sl2p",
        "SAMPLES": "0",
        "SEED": "0",
        "RESULT_ID": "lai_s2_32tqm_1",
        "SCENE_CLASSES": "yes",
    }
    layers = fake_layers(np.random.default_rng(0))
    cube = UTM32.to_data_array(np.stack(list(layers.values())), list(layers))
    write_lai_cogs(cube, folder, tags={k: v for k, v in (tags | changes).items() if v})
    return folder


def properties_of(path: Path) -> dict:
    return json.loads(path.read_text())["properties"]


def test_every_result_below_a_folder_is_described(tmp_path: Path):
    for name in ("a", "b"):
        write_run(tmp_path / name, RESULT_ID=f"lai_s2_{name}")
    paths = describe_runs([tmp_path])
    assert [path.name for path in paths] == ["lai_s2_a.json", "lai_s2_b.json"]
    assert properties_of(paths[0])["platform"] == "sentinel-2a"


def test_a_command_describes_a_run_without_a_service(tmp_path: Path):
    folder = write_run(tmp_path / "a")
    done = CliRunner().invoke(app, [str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(folder / "lai_s2_32tqm_1.json")]
    assert CliRunner().invoke(app, [str(tmp_path / "none")]).exit_code == 1


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"SCENE_CLASSES": ""}, False),
        ({"SCENE_CLASSES": "", "RESULT_ID": ""}, True),  # of a release that did not state it
    ],
)
def test_the_cloud_fraction_is_null_without_a_scene_classification(tmp_path, changes, known):
    properties = properties_of(describe_cogs(write_run(tmp_path / "a", **changes)))
    assert (properties["laiq:cloud_fraction"] is not None) == known


def test_two_products_of_one_tile_and_datatake_are_two_items(tmp_path: Path):
    names = [PRODUCT, PRODUCT[:-1] + "8"]
    paths = [
        describe_cogs(write_run(tmp_path / str(n), RESULT_ID="", PRODUCT_ID=name))
        for n, name in enumerate(names)
    ]
    assert len({path.name for path in paths}) == 2


@pytest.mark.parametrize("absent", ["DATETIME", "TARGET", "MODEL_CHECKSUM"])
def test_files_that_do_not_state_what_they_are_are_refused(tmp_path: Path, absent: str):
    with pytest.raises(DescriptionError):
        describe_cogs(write_run(tmp_path / "a", **{absent: ""}))


def test_a_folder_without_results_is_refused(tmp_path: Path):
    with pytest.raises(RasterError):
        describe_runs([tmp_path])


def test_the_help_of_the_module_is_plain_text_as_that_of_the_commands() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"TERM": "xterm-256color"}).stdout
    assert "FOLDER" in shown
    assert shown.isascii()
