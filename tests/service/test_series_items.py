"""Series products: described from their COGs, published beside the dates they were made from."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_series import fake_series, write_dates
from fastapi.testclient import TestClient

from lai_service import Settings
from lai_service.catalogue.port import Catalogue
from lai_service.ops.export import export_catalogue
from lai_stac.cog_items import describe_cogs
from lai_stac.errors import DescriptionError
from lai_udf.series_files import open_series_input, write_series

GRID = {"step_days": 40, "start": "2024-05-01", "end": "2024-07-01"}
FIELD = {"type": "Point", "coordinates": [3.0005, 45.1535]}
"""In the second row and column of `fake_series`."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Return folders of COGs below the allowed root: of dates, and of the series of them."""
    cube = fake_series(np.random.default_rng(5), size=(6, 7)).rio.write_crs("EPSG:32631")
    dates = write_dates(cube.isel(t=slice(20, 44, 6)), tmp_path / "results" / "dates")
    out = tmp_path / "results" / "series"
    write_series(open_series_input(dates[0].parent), out, cogs=True, **GRID)
    return dates, sorted(path for path in out.iterdir() if path.is_dir())


@pytest.fixture
def published(writer: TestClient, folders: tuple[list[Path], list[Path]]) -> list[dict]:
    """Return the items of the series, published after those of its dates."""
    answers = [writer.post("/publish", json={"cogs": str(f)}) for part in folders for f in part]
    assert [answer.status_code for answer in answers] == [201] * len(answers), answers[-1].text
    return [answer.json() for answer in answers[len(folders[0]) :]]


def test_an_item_of_a_series_states_what_it_is(folders: tuple[list[Path], list[Path]]) -> None:

    dates, (folder, *_) = folders
    item = json.loads(describe_cogs(folder).read_text())

    assert {"lai", "lai_sd", "lai_lower", "lai_upper", "gap_days"} <= set(item["assets"])
    assert "lai_flags" not in item["assets"]
    assert item["properties"]["datetime"] == "2024-05-01T00:00:00Z"
    assert item["properties"]["processing:level"] == "L3"
    assert "from 4 dates from 2024-04-12" in item["properties"]["processing:lineage"]
    assert not {"laiq:cloud_fraction", "unc:calibration"} & set(item["properties"])
    assert item["assets"]["lai_sd"]["unc:components"] == ["aleatoric", "input"]
    drawn = item["properties"]["renders"]["lai_sd"]["title"]
    assert drawn == item["assets"]["lai_sd"]["title"]
    assert item["assets"]["gap_days"]["bands"][0]["unit"] == "d"
    sources = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert sources[: len(dates)] == [f"../{one.name}/{one.name}.json" for one in dates]


def test_the_series_of_other_settings_is_another_item(
    folders: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    dates, (folder, *_) = folders
    other = tmp_path / "other"
    source = open_series_input(dates[0].parent)
    write_series(source, other, cogs=True, max_gap_days=30, dates=["2024-05-01"])

    assert describe_cogs(folder).name != describe_cogs(other / folder.name).name


def test_items_of_a_series_have_their_collection_and_link_those_of_its_dates(
    writer: TestClient, published: list[dict]
) -> None:
    days = [item["properties"]["datetime"][:10] for item in published]
    assert days == ["2024-05-01", "2024-06-10"]
    assert {item["collection"] for item in published} == {"lai-series"}
    title = writer.get("/collections/lai-series").json()["title"]
    assert "through clouds and gaps" in title
    links = [link for link in published[0]["links"] if link["rel"] == "derived_from"]
    found = [writer.get(link["href"]) for link in links if "/collections/" in link["href"]]
    assert [answer.status_code for answer in found] == [200] * 4
    assert found[0].json()["id"] == "lai_s2_field_2024-04-12"


def test_a_published_series_item_can_be_put_back(
    writer: TestClient, published: list[dict], catalogue: Catalogue
) -> None:
    stored = catalogue.item("lai-series", published[0]["id"])
    address = f"/collections/lai-series/items/{stored['id']}"

    assert writer.put(address, json=writer.get(address).json()).status_code == 204
    assert catalogue.item("lai-series", stored["id"])["links"] == stored["links"]


def test_an_exported_series_item_links_the_exported_dates(
    published: list[dict], catalogue: Catalogue, settings: Settings, tmp_path: Path
) -> None:
    export_catalogue(catalogue, settings, tmp_path / "out")
    path = tmp_path / "out" / "lai-series" / published[0]["id"] / f"{published[0]['id']}.json"
    hrefs = [link["href"] for link in json.loads(path.read_text())["links"]]
    (first,) = [href for href in hrefs if "2024-04-12" in href]
    assert (path.parent / first).resolve().is_file()


@pytest.mark.usefixtures("published")
def test_a_time_series_is_of_dates_unless_the_series_is_asked_for(writer: TestClient) -> None:
    def days(**asked: object) -> list[str]:
        answer = writer.post("/timeseries", json={"geometry": FIELD, **asked})
        assert answer.status_code == 200, answer.text
        return [row["datetime"][:10] for row in answer.json()["observations"]]

    assert days() == ["2024-04-12", "2024-05-12", "2024-06-11", "2024-07-11"]
    assert days(collections=["lai-series"])[0] == "2024-05-01"


def test_cogs_that_name_no_model_make_no_item(
    folders: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    cube = fake_series(np.random.default_rng(1)).rio.write_crs("EPSG:32631")
    cube.to_dataset("bands").to_netcdf(tmp_path / "lai.nc", engine="h5netcdf")
    write_series(open_series_input(tmp_path / "lai.nc"), tmp_path / "out", cogs=True, **GRID)
    folder = next(path for path in (tmp_path / "out").iterdir() if path.is_dir())

    with pytest.raises(DescriptionError):
        describe_cogs(folder)
