"""Searches: place, time, filter and sort order, page by page; pystac-client unmodified."""

import warnings

import pystac_client
import pytest
from fastapi.testclient import TestClient
from service.fake_items import TOKEN, collection, footprint, ids, numbered_item

from lai_service.catalogue.port import Catalogue, Search, SortKey
from lai_service.errors import BadRequestError

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def test_pystac_client_finds_an_item_by_place_time_and_a_laiq_property(
    live: str, make_result
) -> None:
    import requests

    writer = {"Authorization": f"Bearer {TOKEN}"}
    for day, lai in ((21, 2.5), (26, 3.5)):
        folder = make_result(
            f"lai_s2_32tpu_202406{day}", f"2024-06-{day}T10:36:31Z", **{"laiq:lai_mean": lai}
        )
        body = {"directory": str(folder)}
        answer = requests.post(f"{live}/publish", json=body, headers=writer, timeout=30)
        assert answer.status_code == 201, answer.text

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pystac-client warns where conformance is missing
        api = pystac_client.Client.open(live)
        search = api.search(
            collections=["lai"],
            bbox=footprint()[0],
            datetime="2024-06-01/2024-06-30",
            filter={"op": ">", "args": [{"property": "laiq:lai_mean"}, 3]},
            sortby="-properties.datetime",
            limit=1,
        )
        (found,) = search.items()
        by_query = api.search(query={"laiq:lai_mean": {"lt": 3}})
        both = api.search(limit=1, sortby="laiq:lai_mean")

    assert found.id == "lai_s2_32tpu_20240626"
    assert found.assets["lai"].href.startswith(f"{live}/data/lai/")
    assert [i.id for i in by_query.items()] == ["lai_s2_32tpu_20240621"]
    assert [i.properties["laiq:lai_mean"] for i in both.items()] == [2.5, 3.5]
    assert found.get_collection().id == "lai"


def test_bbox_meets_footprints_and_not_only_boxes(filled: TestClient) -> None:
    assert ids(filled.get("/search?bbox=2.5,0.2,3.5,0.8&sortby=id")) == ["item-002", "item-003"]
    assert ids(filled.get("/search?bbox=2.92,0.2,2.98,0.8")) == []


def test_bbox_across_the_antimeridian_finds_both_sides(filled: TestClient) -> None:
    assert ids(filled.get("/search?bbox=10.5,0,1.5,1&sortby=id")) == [
        "item-000",
        "item-001",
        "item-010",
        "item-011",
    ]


def test_intersects_and_time_are_applied_together(filled: TestClient) -> None:
    line = {"type": "LineString", "coordinates": [[0.5, 0.5], [8.5, 0.5]]}
    body = {"intersects": line, "datetime": "2024-06-03T00:00:00Z/2024-06-05T00:00:00Z"}
    assert sorted(ids(filled.post("/search", json=body))) == ["item-002", "item-003"]


def test_latest_comes_first(filled: TestClient) -> None:
    assert ids(filled.get("/search?limit=2")) == ["item-011", "item-010"]


@pytest.mark.sqlite_only
def test_sort_order_puts_items_without_the_property_last_when_descending(
    filled: TestClient,
) -> None:
    filled.post("/collections/lai/items", json=numbered_item(20))
    found = ids(filled.get("/search?sortby=-laiq:lai_mean,id&limit=20"))
    assert (found[0], found[-1]) == ("item-011", "item-020")


@pytest.mark.parametrize("sortby", ["", "laiq:lai_mean", "-laiq:lai_mean,id", "-platform", "id"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_hold_every_item_once_in_order(filled: TestClient, sortby: str, method: str) -> None:
    for number in range(20, 24):
        filled.post("/collections/lai/items", json=numbered_item(number))
    whole = ids(filled.get("/search", params={"limit": 100} | _sort(sortby)))
    assert len(set(whole)) == 16

    seen: list[str] = []
    answer = filled.get("/search", params={"limit": 3} | _sort(sortby))
    if method == "POST":
        keys = [k for k in sortby.split(",") if k]
        body = {"limit": 3, "sortby": [_key(key) for key in keys]} if keys else {"limit": 3}
        answer = filled.post("/search", json=body)
    while True:
        seen += ids(answer)
        following = [link for link in answer.json()["links"] if link["rel"] == "next"]
        if not following:
            break
        (link,) = following
        answer = filled.request(link["method"], link["href"], json=link.get("body"))
    assert seen == whole


def _sort(sortby: str) -> dict:
    return {"sortby": sortby} if sortby else {}


def _key(key: str) -> dict:
    return {"field": key.lstrip("-"), "direction": "desc" if key.startswith("-") else "asc"}


def test_every_page_states_how_many_items_match(filled: TestClient) -> None:
    total = len(filled.get("/search?limit=1000").json()["features"])
    address: str | None = "/search?limit=5"
    while address:
        page = filled.get(address).json()
        assert page["numberMatched"] == total
        address = next((x["href"] for x in page["links"] if x["rel"] == "next"), None)
    nothing = filled.get("/search?ids=nothing").json()
    assert (nothing["numberMatched"], nothing["numberReturned"]) == (0, 0)


def test_paging_is_stable_while_items_arrive_and_leave(catalogue: Catalogue) -> None:
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [numbered_item(n) for n in range(10)], "insert")
    search = Search(limit=4)
    first = catalogue.search(search)

    catalogue.put_items(
        "lai", [numbered_item(27)], "insert"
    )  # later than all: before the first page
    catalogue.remove_item("lai", first.items[0]["id"])
    second = catalogue.search(Search(limit=4, token=first.next_token))

    assert [i["id"] for i in first.items] == [f"item-{n:03d}" for n in (9, 8, 7, 6)]
    assert [i["id"] for i in second.items] == [f"item-{n:03d}" for n in (5, 4, 3, 2)]


def test_token_that_is_not_ours_is_refused(filled: TestClient, subtests: pytest.Subtests) -> None:
    for token in ["x", "WzFd", "W10", "bnVsbA", "%%%", "é", "W1tdLDEsMl0"]:
        with subtests.test(token=token):
            answer = filled.get("/search", params={"token": token})
            assert (answer.status_code, "token" in answer.json()["description"]) == (400, True)


def test_token_of_another_sort_order_is_refused(catalogue: Catalogue) -> None:
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [numbered_item(n) for n in range(4)], "insert")
    token = catalogue.search(Search(limit=2)).next_token
    with pytest.raises(BadRequestError):
        catalogue.search(Search(limit=2, token=token, sort=(SortKey("id"),)))
