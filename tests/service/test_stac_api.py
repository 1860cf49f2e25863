"""The STAC API as its clients meet it: pystac-client unmodified, and plain requests."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pystac_client
import pytest
from fastapi.testclient import TestClient
from service.fake_items import TOKEN, collection, footprint, stac_item

from lai_service import Settings, catalogue_sqlite
from lai_service.catalogue import Catalogue, Search, SortKey
from lai_service.catalogue_sqlite import SqliteCatalogue
from lai_service.databases import open_catalogue
from lai_service.errors import BadRequestError

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def item(number: int, **properties: object) -> dict:
    """Return item `number`: one degree square at longitude `number`, on day `number + 1`."""
    made = stac_item(f"item-{number:03d}", f"2024-06-{number % 28 + 1:02d}T10:00:00Z", **properties)
    ring = [[number, 0], [number + 0.9, 0], [number + 0.9, 1], [number, 1], [number, 0]]
    made["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    made["bbox"] = [number, 0, number + 0.9, 1]
    return made


@pytest.fixture
def filled(writer: TestClient) -> TestClient:
    assert writer.post("/collections", json=collection()).status_code == 201
    items = {f"item-{n:03d}": item(n, **{"laiq:lai_mean": n / 4}) for n in range(12)}
    answer = writer.post("/collections/lai/bulk_items", json={"items": items})
    assert answer.json() == {"received": 12, "success": 12, "skipped": 0, "errors": []}
    return writer


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [feature["id"] for feature in answer.json()["features"]]


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


def test_sort_order_puts_items_without_the_property_last_when_descending(
    filled: TestClient,
) -> None:
    filled.post("/collections/lai/items", json=item(20))
    found = ids(filled.get("/search?sortby=-laiq:lai_mean,id&limit=20"))
    assert (found[0], found[-1]) == ("item-011", "item-020")


@pytest.mark.parametrize("sortby", ["", "laiq:lai_mean", "-laiq:lai_mean,id", "-platform", "id"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_hold_every_item_once_in_order(filled: TestClient, sortby: str, method: str) -> None:
    for number in range(20, 24):
        filled.post("/collections/lai/items", json=item(number))
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


def test_paging_is_stable_while_items_arrive_and_leave(catalogue: Catalogue) -> None:
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [item(n) for n in range(10)], "insert")
    search = Search(limit=4)
    first = catalogue.search(search)

    catalogue.put_items("lai", [item(27)], "insert")  # later than all: before the first page
    catalogue.remove_item("lai", first.items[0]["id"])
    second = catalogue.search(Search(limit=4, token=first.next_token))

    assert [i["id"] for i in first.items] == [f"item-{n:03d}" for n in (9, 8, 7, 6)]
    assert [i["id"] for i in second.items] == [f"item-{n:03d}" for n in (5, 4, 3, 2)]


@pytest.mark.parametrize("token", ["x", "WzFd", "W10", "bnVsbA", "%%%", "é", "W1tdLDEsMl0"])
def test_token_that_is_not_ours_is_refused(filled: TestClient, token: str) -> None:
    answer = filled.get("/search", params={"token": token})
    assert (answer.status_code, "token" in answer.json()["description"]) == (400, True)


def test_token_of_another_sort_order_is_refused(catalogue: Catalogue) -> None:
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [item(n) for n in range(4)], "insert")
    token = catalogue.search(Search(limit=2)).next_token
    with pytest.raises(BadRequestError, match="token"):
        catalogue.search(Search(limit=2, token=token, sort=(SortKey("id"),)))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("id", {"id"}),
        ("properties.laiq:lai_mean,bbox", {"properties", "bbox"}),
        (
            "-geometry,-assets",
            {"type", "stac_version", "id", "collection", "bbox", "properties", "links"},
        ),
    ],
)
def test_only_the_fields_asked_for_are_shown(
    filled: TestClient, fields: str, shown: set[str]
) -> None:
    (feature,) = filled.get("/search", params={"fields": fields, "limit": 1}).json()["features"]
    assert set(feature) == shown


def test_nested_fields_are_shown_and_hidden_alone(filled: TestClient) -> None:
    body = {"limit": 1, "fields": {"include": ["properties.laiq:lai_mean"]}}
    (feature,) = filled.post("/search", json=body).json()["features"]
    assert feature["properties"] == {"laiq:lai_mean": 2.75}
    body = {"limit": 1, "fields": {"exclude": ["properties.laiq:lai_mean"]}}
    (feature,) = filled.post("/search", json=body).json()["features"]
    assert list(feature["properties"]) == ["datetime"]
    assert "geometry" in feature


@pytest.mark.parametrize(
    ("include", "exclude", "properties"),
    [
        (["properties"], ["properties.datetime"], ["laiq:lai_mean"]),
        (["properties.datetime"], ["properties"], ["datetime"]),
        (["properties.datetime"], ["properties.datetime"], ["datetime"]),
    ],
)
def test_longer_path_wins_where_fields_are_included_and_excluded(
    filled: TestClient, include: list, exclude: list, properties: list
) -> None:
    body = {"limit": 1, "fields": {"include": include, "exclude": exclude}}
    (feature,) = filled.post("/search", json=body).json()["features"]
    assert feature.keys() == {"properties"}
    assert sorted(feature["properties"]) == properties


BAD_SEARCHES = {
    "inverted bbox": "bbox=1,2,3,0",
    "bbox of three": "bbox=1,2,3",
    "bbox of words": "bbox=a,b,c,d",
    "bbox in metres": "bbox=600000,5300000,601280,5301280",
    "bbox of nan": "bbox=nan,0,1,1",
    "bad time": "datetime=yesterday",
    "inverted time": "datetime=2024-02-01T00:00:00Z/2024-01-01T00:00:00Z",
    "open time": "datetime=../..",
    "bad cql2": "filter=laiq:lai_mean >",
    "unknown operator": "filter=casei(id) = 'a'",
    "filter crs": "filter=id='a'&filter-crs=http://www.opengis.net/def/crs/EPSG/0/3857",
    "bad cql2 json": "filter-lang=cql2-json&filter={",
    "bad intersects": "intersects={}",
    "bow tie": 'intersects={"type":"Polygon","coordinates":[[[0,0],[1,1],[1,0],[0,1],[0,0]]]}',
    "bad query": "query=[1]",
    "query operator": 'query={"id":{"like":"x"}}',
    "negative limit": "limit=-1",
    "limit of words": "limit=ten",
    "empty sort": "sortby=-",
    "both places": 'bbox=0,0,1,1&intersects={"type":"Point","coordinates":[0,0]}',
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_bad_search_is_answered_400_with_one_sentence(filled: TestClient, case: str) -> None:
    answer = filled.get(f"/search?{BAD_SEARCHES[case]}")
    assert answer.status_code == 400, answer.text
    text = answer.json()["description"]
    assert 5 < len(text) < 500


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"bbox": [1, 2, 3, 0]}',
        b'{"bbox": [0, 0, 1]}',
        b'{"filter": []}',
        b'{"filter": {"op": "x", "args": []}}',
        b'{"filter-lang": "cql2-text", "filter": "a = 1"}',
        b'{"limit": "ten"}',
        b'{"datetime": "yesterday"}',
        b'{"intersects": {"type": "Point"}}',
        b'{"sortby": [{"field": "id", "direction": "sideways"}]}',
        b'{"query": {"id": 1}}',
        b'{"bbox": [NaN, 0, 1, 1]}',
        b'{"filter": ' + b'{"op":"not","args":[' * 20_000,
        b"[" * 100_000,
    ],
)
def test_bad_search_body_is_answered_400(filled: TestClient, body: bytes) -> None:
    answer = filled.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("path", ["/search", "/aggregate", "/timeseries", "/publish"])
def test_body_that_is_no_json_object_is_answered_400(writer: TestClient, path: str) -> None:
    for body in (b"[null]", b"null", b"7", b"{", b"\xff", b"[" * 20_000):
        answer = writer.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (body[:9], answer.text)
        assert len(answer.json()["description"]) < 200


def test_unknown_things_are_404(filled: TestClient) -> None:
    for path in (
        "/collections/nothing",
        "/collections/nothing/items",
        "/collections/lai/items/nothing",
        "/collections/nothing/queryables",
        "/data/lai/nothing.tif",
        "/data/.catalogue/catalogue.sqlite",
        "/data/%2e%2e/results",
    ):
        assert filled.get(path).status_code == 404, path


def test_writing_into_an_unknown_collection_is_404(writer: TestClient) -> None:
    assert writer.post("/collections/nothing/items", json=item(1)).status_code == 404
    bulk = {"items": {"item-001": item(1)}}
    assert writer.post("/collections/nothing/bulk_items", json=bulk).status_code == 404


def test_transactions_follow_the_extension(filled: TestClient) -> None:
    address = "/collections/lai/items/item-001"
    assert filled.post("/collections/lai/items", json=item(1)).status_code == 409
    assert filled.put("/collections/lai/items/item-099", json=item(99)).status_code == 404
    assert filled.put(address, json=item(2)).status_code == 400

    def properties() -> dict:
        return filled.get(address).json()["properties"]

    assert filled.put(address, json=item(1, note="new")).status_code == 204
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
    sent = item(60, created="2024-07-01T00:00:00.120000Z", small=1e-7, nested={"a": [1, None]})
    assert filled.post("/collections/lai/items", json=sent).status_code == 201
    shown = filled.get("/collections/lai/items/item-060").json()
    assert shown["properties"] == sent["properties"]
    assert shown["geometry"] == sent["geometry"]


def test_feature_collection_is_stored_whole_or_not_at_all(filled: TestClient) -> None:
    both = {"type": "FeatureCollection", "features": [item(60), item(1)]}
    assert filled.post("/collections/lai/items", json=both).status_code == 409
    assert filled.get("/collections/lai/items/item-060").status_code == 404
    both["features"][1] = item(61)
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
    document = item(50)
    document["assets"] = {"lai": {"href": href}}
    answer = filled.post("/collections/lai/items", json=document)
    assert answer.status_code == status, answer.text
    assert ("item-050" in ids(filled.get("/search?limit=100"))) is (status == 201)


@pytest.mark.parametrize("bad", ["a/b", "..", ".hidden", "a b", "a?b", "x" * 201, ""])
def test_ids_that_do_not_fit_an_address_are_refused(filled: TestClient, bad: str) -> None:
    document = item(50) | {"id": bad}
    assert 400 <= filled.post("/collections/lai/items", json=document).status_code < 500
    assert 400 <= filled.post("/collections", json=collection(bad)).status_code < 500


def test_infinite_numbers_are_refused(filled: TestClient) -> None:
    text = json.dumps({"items": {"item-050": item(50, x=float("inf"))}})
    headers = {"Content-Type": "application/json"}
    answer = filled.post("/collections/lai/bulk_items", content=text, headers=headers)
    assert answer.status_code == 422, answer.text
    assert "item-050" not in ids(filled.get("/search?limit=100"))


def test_bulk_load_stores_all_or_nothing(filled: TestClient) -> None:
    items = {"item-050": item(50), "item-001": item(1)}
    assert filled.post("/collections/lai/bulk_items", json={"items": items}).status_code == 409
    assert "item-050" not in ids(filled.get("/search?limit=100"))
    upsert = filled.post("/collections/lai/bulk_items", json={"items": items, "method": "upsert"})
    assert upsert.json()["success"] == 2


def test_landing_page_names_itself_and_both_sort_classes(client: TestClient) -> None:
    landing = client.get("/").json()
    assert (landing["id"], landing["stac_version"]) == ("sentinel2-lai", "1.1.0")
    for version in ("v1.0.0", "v1.1.0"):
        assert f"https://api.stacspec.org/{version}/item-search#sort" in landing["conformsTo"]


def test_aggregations_count_what_a_search_finds(filled: TestClient) -> None:
    names = "total_count,datetime_frequency,lai_mean_frequency"
    query = {"aggregations": names, "filter": "laiq:lai_mean >= 1", "bbox": "0,0,8.5,1"}
    total, months, classes = filled.get("/aggregate", params=query).json()["aggregations"]
    assert total["value"] == 5
    assert [(b["key"], b["frequency"]) for b in months["buckets"]] == [("2024-06-01T00:00:00Z", 5)]
    assert sum(bucket["frequency"] for bucket in classes["buckets"]) == 5
    expression = {"op": ">=", "args": [{"property": "laiq:lai_mean"}, 1]}
    body = {"aggregations": ["total_count"], "filter": expression, "bbox": [0, 0, 8.5, 1]}
    assert filled.post("/aggregate", json=body).json()["aggregations"] == [total]
    own = filled.get("/collections/lai/aggregate", params=query).json()["aggregations"]
    assert own[0] == total
    assert len(filled.get("/aggregations").json()["aggregations"]) == 5
    assert filled.get("/aggregate?aggregations=x").status_code == 400
    assert filled.get("/collections/nothing/aggregate").status_code == 404


def test_any_origin_may_read(client: TestClient) -> None:
    answer = client.get("/search", headers={"Origin": "https://radiantearth.github.io"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_management_routes_tell_the_state(filled: TestClient) -> None:
    assert filled.get("/_mgmt/ping").json() == {"message": "PONG"}
    health = filled.get("/_mgmt/health").json()
    assert (health["status"], health["items"]) == ("UP", 12)
    filled.get("/collections/lai/items/item-001")
    text = filled.get("/_mgmt/metrics").text
    assert 'route="/collections/{collection_id}/items/{item_id}",status="200"} 1.0' in text


def test_catalogue_survives_a_restart(tmp_path: Path) -> None:
    first = SqliteCatalogue(tmp_path / "c.sqlite")
    first.put_collection(collection(), "insert")
    first.put_items("lai", [item(1)], "insert")
    first.backup(tmp_path / "copy.sqlite")
    first.close()
    for name in ("c.sqlite", "copy.sqlite"):
        again = SqliteCatalogue(tmp_path / name)
        assert again.item("lai", "item-001")["properties"] == item(1)["properties"]
        again.close()


@pytest.mark.parametrize("sort", [(), (SortKey("laiq:lai_mean"),)])
def test_crowded_places_are_searched_with_the_same_result(
    sqlite_catalogue: SqliteCatalogue, monkeypatch: pytest.MonkeyPatch, sort: tuple
) -> None:
    sqlite_catalogue.put_collection(collection(), "insert")
    items = [item(n, **{"laiq:lai_mean": (n * 7) % 5}) for n in range(20)]
    sqlite_catalogue.put_items("lai", items, "insert")
    search = Search(bbox=(2.5, 0.2, 14.5, 0.8), limit=5, sort=sort)

    def pages() -> list[str]:
        found, token = [], None
        while True:
            page = sqlite_catalogue.search(replace(search, token=token))
            found += [i["id"] for i in page.items]
            token = page.next_token
            if token is None:
                return found

    by_index = pages()
    monkeypatch.setattr(catalogue_sqlite, "_CROWD", 3)
    assert pages() == by_index
    assert len(by_index) == 13


def test_extent_follows_the_items_whoever_writes_them(
    catalogue: Catalogue, settings: Settings
) -> None:
    other = open_catalogue(settings)
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [item(1)], "insert")

    def east() -> float:
        return catalogue.collection("lai")["extent"]["spatial"]["bbox"][0][2]

    assert east() == pytest.approx(1.9)
    other.put_items("lai", [item(5)], "insert")
    assert east() == pytest.approx(5.9)
    other.remove_item("lai", "item-005")
    assert east() == pytest.approx(1.9)
    other.close()


def test_every_page_says_how_many_items_match(filled: TestClient) -> None:
    total = len(filled.get("/search?limit=1000").json()["features"])
    address: str | None = "/search?limit=5"
    while address:
        page = filled.get(address).json()
        assert page["numberMatched"] == total
        address = next((x["href"] for x in page["links"] if x["rel"] == "next"), None)
    nothing = filled.get("/search?ids=nothing").json()
    assert (nothing["numberMatched"], nothing["numberReturned"]) == (0, 0)
