"""Collections describe their items, one for each target and resolution, and stay true."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.fake_items import collection, edit_item, numbered_item, publish

from lai_service import Settings
from lai_service.catalogue.new_collection import collection_name
from lai_service.catalogue.port import Catalogue
from lai_service.ops.upkeep import repair_data
from lai_stac.fields import UNCERTAINTY_URI
from lai_stac.validation import validate_collection

Make = Callable[..., Path]


def facts(target: str, lai: float, version: str = "1.0.0") -> dict:
    return {
        "laiq:target": target,
        "laiq:lai_mean": lai,
        "laiq:model_version": version,
        "platform": "sentinel-2a",
        "gsd": 20,
    }


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({}, "lai"),
        ({"laiq:target": "sl2p", "gsd": 20.0}, "lai"),
        ({"laiq:target": "field", "gsd": 20}, "lai-field"),
        ({"laiq:target": "field", "gsd": 10}, "lai-field-10m"),
        ({"gsd": 10.0}, "lai-10m"),
    ],
)
def test_target_and_resolution_have_a_collection_each(properties: dict, name: str) -> None:
    assert collection_name("lai", {"properties": properties}) == name


def test_summaries_widen_with_every_item_and_repair_narrows_them(
    writer: TestClient, make_result: Make, settings: Settings, catalogue: Catalogue
) -> None:
    for day, lai, version in ((1, 1.5, "1.0.0"), (11, 4.5, "1.1.0"), (21, 3.0, "1.0.0")):
        folder = make_result(
            f"i{day}", f"2024-06-{day:02d}T10:00:00Z", **facts("sl2p", lai, version)
        )
        assert publish(writer, folder).status_code == 201
    found = writer.get("/collections/lai").json()
    assert found["summaries"]["laiq:lai_mean"] == {"minimum": 1.5, "maximum": 4.5}
    assert found["summaries"]["laiq:model_version"] == ["1.0.0", "1.1.0"]
    assert found["extent"]["temporal"]["interval"][0][1].startswith("2024-06-21")
    validate_collection(found)

    writer.delete("/collections/lai/items/i11")
    repair_data(catalogue, settings.data)
    found = writer.get("/collections/lai").json()
    assert found["summaries"]["laiq:lai_mean"] == {"minimum": 1.5, "maximum": 3.0}
    assert found["summaries"]["laiq:model_version"] == ["1.0.0"]


def test_collection_of_a_publisher_keeps_its_own_words(
    writer: TestClient, make_result: Make
) -> None:
    publish(writer, make_result(**facts("sl2p", 2.0)))
    change = {"title": "Ours", "summaries": {"platform": ["sentinel-2b"]}}
    assert writer.patch("/collections/lai", json=change).status_code == 204
    publish(writer, make_result("second", "2024-07-01T10:00:00Z", **facts("sl2p", 3.0)))
    found = writer.get("/collections/lai").json()
    assert (found["title"], found["summaries"]["platform"]) == (
        "Ours",
        ["sentinel-2a", "sentinel-2b"],
    )


def test_asset_definitions_state_no_level_that_an_item_contradicts(
    writer: TestClient, make_result: Make, settings: Settings, catalogue: Catalogue
) -> None:
    def level_of(item: dict, level: float) -> None:
        upper = {"unc:confidence_level": level, "unc:type": "interval_upper"}
        item["assets"]["lai_upper"] |= {**upper, "unc:method": "conformal"}
        item["stac_extensions"] = [UNCERTAINTY_URI]

    def stated() -> dict:
        return dict(writer.get("/collections/lai").json()["item_assets"]["lai_upper"])

    for number, level in enumerate((0.95, 0.95, 0.8)):
        folder = make_result(f"i{number}", f"2024-06-0{number + 1}T10:00:00Z", **facts("sl2p", 2.0))
        edit_item(folder, lambda item, level=level: level_of(item, level))
        before = stated() if number else {}
        assert publish(writer, folder).status_code == 201
    assert before["unc:confidence_level"] == 0.95
    assert "unc:confidence_level" not in stated()

    assets = {"lai_upper": {**before, "title": "Ours"}}
    assert writer.patch("/collections/lai", json={"item_assets": assets}).status_code == 204
    repair_data(catalogue, settings.data)
    assert "unc:confidence_level" not in stated()
    assert stated()["title"] == "Ours"
    validate_collection(writer.get("/collections/lai").json(), unknown="skip")


def test_collections_have_titles_of_their_own(writer: TestClient, make_result: Make) -> None:
    for name in ("north", "south", "lai"):
        folder = make_result(name, **facts("sl2p", 2.0))
        body = {"directory": str(folder), "collection": name}
        assert writer.post("/publish", json=body).status_code == 201
    titles = [one["title"] for one in writer.get("/collections").json()["collections"]]
    assert len(set(titles)) == 3


def test_collection_states_how_its_assets_are_drawn(writer: TestClient, make_result: Make) -> None:
    publish(writer, make_result(**facts("sl2p", 2.0)))
    renders = writer.get("/collections/lai").json()["renders"]
    assert renders["lai"]["rescale"] == [[0, 6000]]
    assert set(renders) == {"lai", "lai_sd", "lai_lower", "lai_upper", "lai_flags"}
    item = writer.get("/search").json()["features"][0]
    for asset, render in renders.items():
        query = {"url": item["assets"][asset]["href"], "colormap_name": render["colormap_name"]}
        if "rescale" in render:
            query["rescale"] = ",".join(map(str, render["rescale"][0]))
        assert writer.get("/cog/preview.png", params=query).status_code == 200


@pytest.fixture
def three(writer: TestClient) -> TestClient:
    """Return the client of a service with collections west, east and without items."""
    for name, place in (("west", -100), ("east", 100), ("empty", None)):
        described = {**collection(name), "title": f"LAI of the {name}", "keywords": ["Leaf"]}
        assert writer.post("/collections", json=described).status_code == 201
        if place is not None:
            item = {**numbered_item(place), "id": name, "collection": name}
            assert writer.post(f"/collections/{name}/items", json=item).status_code == 201
    return writer


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, {"west", "east", "empty"}),
        ({"bbox": "-101,0,-99,1"}, {"west", "empty"}),
        ({"bbox": "90,0,-170,1"}, {"east", "empty"}),
        ({"datetime": "../2019-12-31T00:00:00Z"}, set()),
        ({"datetime": "2030-01-01T00:00:00Z/.."}, {"empty"}),
        ({"q": "WEST,nothing"}, {"west"}),
        ({"q": "leaf", "bbox": "99,0,101,1"}, {"east", "empty"}),
    ],
)
def test_collections_are_found_by_place_time_and_words(
    three: TestClient, query: dict, names: set[str]
) -> None:
    found = three.get("/collections", params=query).json()
    assert {one["id"] for one in found["collections"]} == names
    assert found["numberMatched"] == len(names)


def test_collections_come_page_by_page(three: TestClient) -> None:
    address, seen = "/collections?limit=2&q=lai", []
    while address:
        page = three.get(address).json()
        seen += [one["id"] for one in page["collections"]]
        address = next((x["href"] for x in page["links"] if x["rel"] == "next"), None)
    assert sorted(seen) == ["east", "empty", "west"]


@pytest.mark.parametrize("query", ["limit=0", "offset=-1", "bbox=0,1,1,0", "datetime=yesterday"])
def test_collection_search_that_makes_no_sense_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/collections?{query}")
    assert answer.status_code == 400, answer.text
