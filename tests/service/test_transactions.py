"""Items and collections are written one by one, in bulk, and by patches: whole or not at all."""

import json

import pytest
from fastapi.testclient import TestClient
from service.fake_items import collection, ids, numbered_item


def test_transactions_follow_the_extension(filled: TestClient) -> None:
    address = "/collections/lai/items/item-001"
    assert filled.post("/collections/lai/items", json=numbered_item(1)).status_code == 409
    assert filled.put("/collections/lai/items/item-099", json=numbered_item(99)).status_code == 404
    assert filled.put(address, json=numbered_item(2)).status_code == 400

    def properties() -> dict:
        return filled.get(address).json()["properties"]

    assert filled.put(address, json=numbered_item(1, note="new")).status_code == 204
    assert properties()["note"] == "new"
    patch = {"properties": {"note": "patched", "platform": "s2a"}}
    assert filled.patch(address, json=patch).status_code == 204
    assert (properties()["note"], properties()["platform"]) == ("patched", "s2a")
    removal = [{"op": "remove", "path": "/properties/note"}]
    assert filled.patch(address, json=removal).status_code == 204
    assert "note" not in properties()
    assert filled.patch(address, json={"properties": {"platform": None}}).status_code == 204
    assert "platform" not in properties()
    assert filled.delete(address).status_code == 204
    assert filled.delete(address).status_code == 404


def test_item_is_stored_as_it_was_sent(filled: TestClient) -> None:
    sent = numbered_item(
        60, created="2024-07-01T00:00:00.120000Z", small=1e-7, nested={"a": [1, None]}
    )
    assert filled.post("/collections/lai/items", json=sent).status_code == 201
    shown = filled.get("/collections/lai/items/item-060").json()
    assert shown["properties"] == sent["properties"]
    assert shown["geometry"] == sent["geometry"]


def test_feature_collection_is_stored_whole_or_not_at_all(filled: TestClient) -> None:
    both = {"type": "FeatureCollection", "features": [numbered_item(60), numbered_item(1)]}
    assert filled.post("/collections/lai/items", json=both).status_code == 409
    assert filled.get("/collections/lai/items/item-060").status_code == 404
    both["features"][1] = numbered_item(61)
    assert filled.post("/collections/lai/items", json=both).status_code == 201
    assert filled.get("/collections/lai/items/item-061").status_code == 200


def test_patch_that_breaks_an_item_changes_nothing(filled: TestClient) -> None:
    address = "/collections/lai/items/item-001"
    before = filled.get(address).json()
    for patch, status in (
        ({"properties": {"datetime": "yesterday"}}, 422),
        ({"id": "other"}, 422),
        ([{"op": "remove", "path": "/nothing"}], 400),
        ([{"op": "test", "path": "/id", "value": "x"}], 400),
        ([{"op": "remove", "path": "/properties"}], 422),
        ([{"op": "fly", "path": "/properties"}], 400),
        ([1], 400),
        ({"links": 1}, 422),
        ({"assets": [1]}, 422),
    ):
        assert filled.patch(address, json=patch).status_code == status, patch
    assert filled.get(address).json() == before


def test_collections_are_patched_and_removed_with_their_items(filled: TestClient) -> None:
    assert filled.patch("/collections/lai", json={"title": "T"}).status_code == 204
    assert filled.get("/collections/lai").json()["title"] == "T"
    assert filled.patch("/collections/lai", json={"id": "x"}).status_code == 400
    assert filled.delete("/collections/lai").status_code == 204
    assert ids(filled.get("/search")) == []


@pytest.mark.parametrize(
    ("href", "status"),
    [
        ("https://example.org/lai.tif", 201),
        ("s3://bucket/lai.tif", 201),
        ("/etc/passwd", 403),
        ("../x.tif", 403),
        ("/vsicurl/http://127.0.0.1/x.tif", 403),
        ("file:///etc/passwd", 403),
        ("x.vrt", 403),
        ("lai/item-050/nothing.tif", 422),
        (f"lai/item-050/{'x' * 300}.tif", 422),
        ("lai/item-001/digest/lai.tif", 403),
        (".catalogue/catalogue.sqlite", 403),
        ("lai/item-050/.staging-x/lai.tif", 403),
        ("javascript:alert(1)", 422),
        ("", 422),
    ],
)
def test_posted_hrefs_are_checked_and_never_opened(
    filled: TestClient, href: str, status: int
) -> None:
    document = numbered_item(50)
    document["assets"] = {"lai": {"href": href}}
    answer = filled.post("/collections/lai/items", json=document)
    assert answer.status_code == status, answer.text
    assert ("item-050" in ids(filled.get("/search?limit=100"))) is (status == 201)


def test_ids_that_do_not_fit_an_address_are_refused(
    filled: TestClient, subtests: pytest.Subtests
) -> None:
    for bad in ["a/b", "..", ".hidden", "a b", "a?b", "x" * 201, ""]:
        with subtests.test(bad=bad):
            document = numbered_item(50) | {"id": bad}
            assert 400 <= filled.post("/collections/lai/items", json=document).status_code < 500
            assert 400 <= filled.post("/collections", json=collection(bad)).status_code < 500


def test_infinite_numbers_are_refused(filled: TestClient) -> None:
    text = json.dumps({"items": {"item-050": numbered_item(50, x=float("inf"))}})
    headers = {"Content-Type": "application/json"}
    answer = filled.post("/collections/lai/bulk_items", content=text, headers=headers)
    assert answer.status_code == 422, answer.text
    assert "item-050" not in ids(filled.get("/search?limit=100"))


def test_bulk_load_stores_all_or_nothing(filled: TestClient) -> None:
    items = {"item-050": numbered_item(50), "item-001": numbered_item(1)}
    assert filled.post("/collections/lai/bulk_items", json={"items": items}).status_code == 409
    assert "item-050" not in ids(filled.get("/search?limit=100"))
    upsert = filled.post("/collections/lai/bulk_items", json={"items": items, "method": "upsert"})
    assert upsert.json()["success"] == 2
