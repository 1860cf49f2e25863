"""An item and its rasters become public together, and change together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import morecantile
import pytest
import rasterio
from fastapi.testclient import TestClient
from service.fake_items import cog_bytes, edit_item, publish, stored_files

from lai_service import Settings
from lai_service.api.documents import MAP_EXTENSION
from lai_service.catalogue.items import validate_document
from lai_service.catalogue.port import Catalogue

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Make = Callable[..., Path]
ITEM = "lai_s2_32tpu_20240621"


def test_published_item_is_found_and_its_raster_is_served(
    writer: TestClient, make_result: Make
) -> None:
    answer = publish(writer, make_result(**{"laiq:lai_mean": 2.5}))

    assert answer.status_code == 201, answer.text
    assert answer.headers["LAI-Publish-Outcome"] == "created"
    item = writer.get(answer.headers["Location"]).json()
    assert item["properties"]["laiq:lai_mean"] == 2.5
    raster = writer.get(item["assets"]["lai"]["href"])
    assert raster.status_code == 200
    with rasterio.MemoryFile(raster.content).open() as opened:
        assert opened.scales == (0.001,)
        assert opened.read(1)[20, 20] == 2000


def test_raster_is_served_in_ranges(writer: TestClient, make_result: Make) -> None:
    item = publish(writer, make_result()).json()
    part = writer.get(item["assets"]["lai"]["href"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"II*\x00")


PRODUCT = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157"


def test_a_raster_that_is_a_link_is_published_under_the_name_of_its_href(
    writer: TestClient, make_result: Make
) -> None:
    folder = make_result()
    (folder / "lai.tif").rename(folder / "lai_v2.tif")
    (folder / "lai.tif").symlink_to("lai_v2.tif")
    href = publish(writer, folder).json()["assets"]["lai"]["href"]
    assert writer.get(href).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"laiq:target": "field"},
        {"unc:samples": 8, "unc:dropout_rate": 0.2, "unc:random_seed": 1},
        {"laiq:model_version": "9.9.9"},
        {"links": [{"rel": "derived_from", "href": f"s3://eodata/{PRODUCT[:-1]}8.SAFE"}]},
    ],
)
def test_another_result_of_the_same_id_replaces_nothing(
    writer: TestClient, make_result: Make, settings: Settings, change: dict[str, Any]
) -> None:
    folder = make_result(**{"laiq:target": "sl2p", "laiq:model_version": "0.2.1"})
    links = [{"rel": "derived_from", "href": f"s3://eodata/{PRODUCT}.SAFE"}]
    edit_item(folder, lambda item: item.update(links=links, collection="lai"))
    assert publish(writer, folder).status_code == 201
    before = stored_files(settings)
    edit_item(folder, lambda item: item.update(links=change.get("links", links)))
    facts = {name: value for name, value in change.items() if name != "links"}
    edit_item(folder, lambda item: item["properties"].update(facts))
    (folder / "lai.tif").write_bytes(cog_bytes("lai", 3.0))
    assert publish(writer, folder).status_code == 409
    assert stored_files(settings) == before


def test_publishing_twice_changes_nothing(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    folder = make_result()
    first = publish(writer, folder)
    files = {p: p.stat().st_mtime_ns for p in stored_files(settings)}

    second = publish(writer, folder)

    assert (second.status_code, second.headers["LAI-Publish-Outcome"]) == (200, "unchanged")
    assert second.json() == first.json()
    assert {p: p.stat().st_mtime_ns for p in stored_files(settings)} == files


def test_new_version_replaces_the_files_of_the_old_one(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    old = publish(writer, make_result()).json()
    new = publish(writer, make_result(offset=1.0))

    assert (new.status_code, new.headers["LAI-Publish-Outcome"]) == (200, "updated")
    assert writer.get(new.json()["assets"]["lai"]["href"]).status_code == 200
    assert writer.get(old["assets"]["lai"]["href"]).status_code == 404
    assert len(stored_files(settings)) == 5


def test_item_with_its_root_is_published_like_a_folder(
    writer: TestClient, make_result: Make
) -> None:
    folder = make_result()
    item = json.loads((folder / f"{ITEM}.json").read_text())
    answer = writer.post("/publish", json={"item": item, "root": str(folder)})
    assert answer.status_code == 201
    assert publish(writer, folder).headers["LAI-Publish-Outcome"] == "unchanged"


def test_collection_is_made_with_the_first_item_and_covers_all(
    writer: TestClient, make_result: Make
) -> None:
    publish(writer, make_result(when="2024-06-21T10:36:31Z"))
    publish(writer, make_result("lai_s2_32tpu_20240701", "2024-07-01T10:36:31Z"))
    extent = writer.get("/collections/lai").json()["extent"]
    assert extent["temporal"]["interval"] == [["2024-06-21T10:36:31Z", "2024-07-01T10:36:31Z"]]


def test_deleting_an_item_removes_its_files(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    publish(writer, make_result())
    assert writer.delete(f"/collections/lai/items/{ITEM}").status_code == 204
    assert writer.get(f"/collections/lai/items/{ITEM}").status_code == 404
    assert stored_files(settings) == []


def test_item_read_from_the_service_can_be_put_back(writer: TestClient, make_result: Make) -> None:
    item = publish(writer, make_result()).json()
    item["properties"]["laiq:lai_mean"] = 3.25
    answer = writer.put(f"/collections/lai/items/{ITEM}", json=item)
    assert answer.status_code == 204, answer.text
    again = writer.get(f"/collections/lai/items/{ITEM}").json()
    assert again["assets"] == item["assets"]
    assert again["properties"]["laiq:lai_mean"] == 3.25


def test_served_item_links_tiles_that_any_stac_browser_draws(
    writer: TestClient, make_result: Make
) -> None:
    item = publish(writer, make_result()).json()
    (link,) = [link for link in item["links"] if link["rel"] == "xyz"]
    west, south, east, north = item["bbox"]
    tile = morecantile.tms.get("WebMercatorQuad").tile((west + east) / 2, (south + north) / 2, 14)
    picture = writer.get(link["href"].format(x=tile.x, y=tile.y, z=tile.z))
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, link["type"])
    assert MAP_EXTENSION in item["stac_extensions"]
    validate_document(item, "item", unknown="refuse")
    remote = {**item, "assets": {"lai": {**item["assets"]["lai"], "href": "https://a.org/b.tif"}}}
    assert writer.put(f"/collections/lai/items/{ITEM}", json=remote).status_code == 204
    again = writer.get(f"/collections/lai/items/{ITEM}").json()
    assert "xyz" not in [link["rel"] for link in again["links"]]
    assert MAP_EXTENSION not in again["stac_extensions"]


def test_served_item_that_is_sent_back_is_the_one_that_was_stored(
    writer: TestClient, make_result: Make, catalogue: Catalogue
) -> None:
    item = publish(writer, make_result()).json()
    stored = catalogue.item("lai", ITEM)
    assert writer.put(f"/collections/lai/items/{ITEM}", json=item).status_code == 204
    assert catalogue.item("lai", ITEM) == {"stac_extensions": [], **stored}


def test_file_beside_the_item_that_a_link_names_is_published_with_it(
    writer: TestClient, make_result: Make
) -> None:
    folder = make_result()
    (folder / "model.json").write_text("{}")
    edit_item(
        folder, lambda item: item["links"].append({"rel": "derived_from", "href": "./model.json"})
    )
    links = publish(writer, folder).json()["links"]
    (link,) = [link for link in links if link["rel"] == "derived_from"]
    assert writer.get(link["href"]).text == "{}"


@pytest.mark.parametrize("href", ["/home/me/scene.tif", "file:///home/me/x.tif", "../scene.tif"])
def test_link_to_a_file_of_this_machine_is_left_out(
    writer: TestClient, make_result: Make, href: str
) -> None:
    folder = make_result()
    edit_item(folder, lambda item: item["links"].append({"rel": "derived_from", "href": href}))
    answer = publish(writer, folder)
    assert answer.status_code == 201, answer.text
    assert "derived_from" not in [link["rel"] for link in answer.json()["links"]]
