"""`lai-udf run` over a STAC Collection or ItemCollection: a folder of COGs per Item."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_cubes import fake_cube, to_digital_numbers
from fake_products import write_item, write_multiband
from typer.testing import CliRunner

from lai_udf.cli import app
from lai_udf.errors import EmptySceneError, UnreadableProductError
from lai_udf.identity import RunOptions
from lai_udf.predict import BANDS
from lai_udf.run import run_items
from lai_udf.scenes.stac import holds_items, open_items, read_items

IDS = ("S2A_first", "S2B_second")
TIMES = ("2022-10-05T11:54:11Z", "2022-10-10T11:54:11Z")


def folder_of(output: Path, name: str) -> Path:
    """Return the folder of the result of an Item."""
    for path in output.glob("*/lai.tif"):
        with rasterio.open(path) as dataset:
            if dataset.tags()["PRODUCT_ID"] == name:
                return path.parent
    raise AssertionError(f"no result of {name}")


BANDED = {"type": "image/tiff", "bands": [{"name": band} for band in BANDS]}


def write_scene_item(path: Path, seed: int, *, empty: bool = False) -> Path:
    """Write an Item of one multiband asset beside it."""
    cube = fake_cube(np.random.default_rng(seed), 24).isel(t=0)
    numbers = to_digital_numbers(cube).astype("uint16").values * (not empty)
    write_multiband(path.with_suffix(".tif"), dict(zip(BANDS, numbers, strict=True)))
    return write_item(
        path, {"data": {"href": f"./{path.stem}.tif", **BANDED}}, {"datetime": TIMES[seed]}
    )


def write_collection(folder: Path, hrefs: list[str], kind: str = "Collection") -> Path:
    extent = {"spatial": {"bbox": [[-10, 53, -9, 54]]}, "temporal": {"interval": [[None, None]]}}
    document = {
        "type": kind,
        "stac_version": "1.0.0",
        "id": "season",
        "description": "Two dates.",
        "license": "other",
        "extent": extent,
        "links": [{"rel": "item", "href": href} for href in hrefs],
    }
    path = folder / "collection.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Return a Collection whose Items lie in folders of their own."""
    folder = tmp_path / "in"
    for seed, name in enumerate(IDS):
        write_scene_item(folder / name / f"{name}.json", seed)
    return write_collection(folder, [f"./{name}/{name}.json" for name in IDS])


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Return an ItemCollection: the same Items in one file, beside their rasters."""
    folder = tmp_path / "in"
    items = [write_scene_item(folder / f"{name}.json", n) for n, name in enumerate(IDS)]
    path = folder / "search.json"
    features = [json.loads(item.read_text()) for item in items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture(params=["collection", "search"])
def several(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def run(known: str, source: Path, output: Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["run", str(source), str(output), "--model", known])
    return result.exit_code, result.stdout, result.stderr


def test_every_item_gets_a_folder_of_its_own(several: Path, tmp_path: Path, known: str) -> None:
    code, stdout, stderr = run(known, several, tmp_path / "out")

    assert code == 0, stderr
    folders = [folder_of(tmp_path / "out", name) for name in IDS]
    assert [Path(line) for line in stdout.splitlines()] == folders


def test_finished_items_are_left_and_lost_ones_made_again(
    several: Path, tmp_path: Path, known: str
) -> None:
    run(known, several, tmp_path / "out")
    folders = [folder_of(tmp_path / "out", name) for name in IDS]
    before = [(folder / "lai.tif").stat().st_mtime_ns for folder in folders]
    (folders[1] / "lai_sd.tif").unlink()

    code, stdout, stderr = run(known, several, tmp_path / "out")

    after = [(folder / "lai.tif").stat().st_mtime_ns for folder in folders]
    assert (code, len(stdout.splitlines())) == (0, 2)
    assert stderr.count("finished already") == 1
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


def test_item_without_data_is_left_out(tmp_path: Path, known: str, collection: Path) -> None:
    write_scene_item(collection.parent / IDS[0] / f"{IDS[0]}.json", 0, empty=True)

    folders = run_items(
        open_items(str(collection)), tmp_path / "out", RunOptions(model=Path(known))
    )

    assert folders == [folder_of(tmp_path / "out", IDS[1])]
    assert list((tmp_path / "out").iterdir()) == folders


@pytest.mark.parametrize("damaged", [0, 1])
def test_items_beside_a_damaged_one_are_complete(
    several: Path, tmp_path: Path, known: str, damaged: int
) -> None:
    for path in several.parent.rglob(f"{IDS[damaged]}.tif"):
        path.write_bytes(b"no raster")

    code, _, stderr = run(known, several, tmp_path / "out")

    assert code == 3
    assert IDS[damaged] in stderr
    good = folder_of(tmp_path / "out", IDS[1 - damaged])
    assert list((tmp_path / "out").iterdir()) == [good]


def test_missing_item_is_refused(collection: Path) -> None:
    (collection.parent / IDS[0] / f"{IDS[0]}.json").unlink()

    with pytest.raises(UnreadableProductError):
        list(read_items(str(collection)))


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", ".hidden", ""])
def test_id_that_is_no_folder_name_is_refused(search: Path, name: str) -> None:
    document = json.loads(search.read_text())
    document["features"][0]["id"] = name
    search.write_text(json.dumps(document))

    with pytest.raises(UnreadableProductError):
        list(open_items(str(search)))


def test_two_items_of_one_id_are_refused(search: Path) -> None:
    document = json.loads(search.read_text())
    document["features"] *= 2
    search.write_text(json.dumps(document))

    with pytest.raises(UnreadableProductError):
        list(open_items(str(search)))


def test_page_of_a_search_is_logged(search: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = json.loads(search.read_text())
    document["links"] = [{"rel": "next", "href": "https://example.com/page2"}]
    search.write_text(json.dumps(document))

    assert len(list(open_items(str(search)))) == 2
    assert "one page of a search" in caplog.text


@pytest.mark.parametrize("kind", ["Collection", "Catalog", "FeatureCollection"])
def test_document_without_items_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_collection(tmp_path, [], kind)

    assert holds_items(str(path))
    with pytest.raises(EmptySceneError):
        list(open_items(str(path)))


def test_one_item_is_one_scene(search: Path) -> None:
    assert not holds_items(str(search.parent / f"{IDS[0]}.json"))
    assert not holds_items(str(search.parent / f"{IDS[0]}.tif"))
