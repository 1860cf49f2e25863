"""Catalogues, items and runs of the first edition, brought up to date.

`tests/data/first_edition.zip` was made with that edition (`make_first_edition.py` beside it).
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_lai import ARGUMENTS, fake_layers, write_product
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from lai_service import Settings, create_app
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.port import all_items
from lai_service.cli import app
from lai_service.files.publishing import Publisher
from lai_service.ops.upkeep import upgrade_catalogue
from lai_stac.item import describe
from lai_stac.statistics import SIGMA_FIELDS, half_width_in_sigma
from lai_stac.upgrade import is_current, upgrade_folder
from lai_stac.validation import validate_item

ARCHIVE = Path(__file__).parents[1] / "data" / "first_edition.zip"


@pytest.fixture
def first_edition(tmp_path: Path) -> Path:
    shutil.unpack_archive(ARCHIVE, tmp_path)
    return tmp_path


def items_of(root: Path) -> list[dict]:
    catalogue = open_catalogue(Settings(data=root / "data"), make=False)
    try:
        return sorted(all_items(catalogue), key=lambda item: item["id"])
    finally:
        catalogue.close()


def test_items_of_a_catalogue_get_ids_fields_and_collections_of_today(first_edition):
    before = items_of(first_edition)
    assert [is_current(item) for item in before] == [False, False]

    result = CliRunner().invoke(app, ["upgrade", "--data", str(first_edition / "data")])

    assert result.exit_code == 0, result.output
    after = items_of(first_edition)
    assert sorted(item["collection"] for item in after) == ["lai", "lai-field"]
    for item in after:
        assert is_current(item)
        assert item["properties"]["proj:epsg"] == 32632
        assert item["properties"]["unc:calibration"] in [
            old["properties"]["laiq:calibration"] for old in before
        ]
        assert item["properties"]["platform"] == "sentinel-2a"
        assert "processing:expression" not in item["properties"]
        titles = [link["title"] for link in item["links"] if link["rel"] == "derived_from"]
        assert any("T32TQM" in title for title in titles)
    draws = next(item for item in after if item["collection"] == "lai")
    assert draws["properties"]["unc:samples"] == 8
    assert "_32tqm_" in draws["id"]
    assert "_mc8_" in draws["id"]


def test_files_move_with_their_items_and_none_is_lost(first_edition):
    data = first_edition / "data"
    CliRunner().invoke(app, ["upgrade", "--data", str(data)])
    for item in items_of(first_edition):
        hrefs = [asset["href"] for asset in item["assets"].values()]
        hrefs += [link["href"] for link in item["links"] if link["rel"] == "processing-expression"]
        assert all((data / href).is_file() for href in hrefs)
        assert len(hrefs) == 7
    assert {path.name for path in data.glob("*/*") if path.parent.name[0] != "."} == {
        item["id"] for item in items_of(first_edition)
    }
    assert not list(data.glob(".upgrade-*"))


def test_the_upgraded_catalogue_is_served(first_edition):
    CliRunner().invoke(app, ["upgrade", "--data", str(first_edition / "data")])
    with TestClient(create_app(Settings(data=first_edition / "data"))) as client:
        found = client.get("/search").json()["features"]
        assert len(found) == 2
        for item in found:
            validate_item(item, unknown="skip")
            assert client.get(item["assets"]["lai"]["href"]).status_code == 200
        field = client.get("/collections/lai-field").json()
    assert field["summaries"]["laiq:target"] == ["field"]


def test_upgrading_again_changes_nothing(first_edition):
    data = first_edition / "data"
    CliRunner().invoke(app, ["upgrade", "--data", str(data)])
    before = items_of(first_edition)
    again = CliRunner().invoke(app, ["upgrade", "--data", str(data)])
    assert again.exit_code == 0
    assert again.stdout == "nothing to upgrade\n"
    assert items_of(first_edition) == before


def test_an_item_that_cannot_be_upgraded_stays_and_is_named(first_edition):
    data = first_edition / "data"
    name = items_of(first_edition)[0]["id"]
    (data / items_of(first_edition)[0]["assets"]["lai_upper"]["href"]).unlink()
    result = CliRunner().invoke(app, ["upgrade", "--data", str(data)])
    assert result.exit_code == 1
    assert name in result.stderr
    left = items_of(first_edition)
    assert sum(is_current(item) for item in left) == 1
    assert name in [item["id"] for item in left]


def test_an_interruption_leaves_an_item_twice_at_worst(first_edition, monkeypatch):
    data = first_edition / "data"
    catalogue = open_catalogue(Settings(data=data), make=False)
    monkeypatch.setattr(type(catalogue), "remove_item", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        upgrade_catalogue(catalogue, data)
    monkeypatch.undo()
    assert len(items_of(first_edition)) == 3
    upgrade_catalogue(catalogue, data)
    catalogue.close()
    assert [is_current(item) for item in items_of(first_edition)] == [True, True]


def test_an_item_folder_is_named_after_its_new_id(first_edition):
    (old,) = (first_edition / "item").iterdir()
    new = upgrade_folder(old)
    document = json.loads((new / f"{new.name}.json").read_text())
    assert is_current(document)
    assert not old.exists()
    assert [path.name for path in new.glob("lai_s2_*.json")] == [f"{new.name}.json"]
    assert upgrade_folder(new) == new


def test_the_command_upgrades_items_and_runs_on_disk(first_edition):
    (old,) = (first_edition / "item").iterdir()
    folders = [str(old), str(first_edition / "run")]
    result = CliRunner().invoke(app, ["upgrade", *folders])
    assert result.exit_code == 0, result.output
    assert not old.exists()
    (path,) = (first_edition / "run").glob("lai_s2_*.json")
    document = json.loads(path.read_text())
    assert is_current(document)
    assert document["properties"]["laiq:cloud_fraction"] is not None
    again = CliRunner().invoke(app, ["upgrade", str(first_edition)])
    assert again.exit_code == 1  # neither an item nor a run


@pytest.fixture
def of_level_80(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, dict]:
    """Return a folder whose item takes intervals of 80 % for those of 95 %, and the true one."""
    folder = write_product(tmp_path / "result", fake_layers(rng))
    path = describe(folder, **ARGUMENTS, settings={"level": 0.8})
    true = json.loads(path.read_text())
    stale = json.loads(path.read_text())
    for name in SIGMA_FIELDS:
        stale["properties"][name] *= half_width_in_sigma(0.8) / half_width_in_sigma(0.95)
    path.write_text(json.dumps(stale))
    return folder, true


def test_the_uncertainty_of_an_item_of_today_becomes_that_of_its_level(
    of_level_80: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, true = of_level_80
    settings = Settings(data=tmp_path / "data")
    catalogue = open_catalogue(settings)
    Publisher(catalogue, settings.data, (tmp_path,)).publish(folder, collection="mine")
    assert upgrade_catalogue(catalogue, settings.data) == (1, [])
    (item,) = all_items(catalogue)
    catalogue.close()
    assert item["properties"] == true["properties"]
    assert (item["collection"], item["id"]) == ("mine", true["id"])
    assert all((settings.data / a["href"]).is_file() for a in item["assets"].values())
    again = CliRunner().invoke(app, ["upgrade", "--data", str(settings.data)])
    assert again.stdout == "nothing to upgrade\n"


def test_a_folder_of_today_gets_the_uncertainty_of_its_level(
    of_level_80: tuple[Path, dict],
) -> None:
    folder, true = of_level_80
    assert upgrade_folder(folder) == folder
    assert json.loads((folder / f"{true['id']}.json").read_text()) == true
