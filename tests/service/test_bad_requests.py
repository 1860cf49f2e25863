"""Bad requests are answered 4xx with one clear sentence."""

import pytest
from fastapi.testclient import TestClient
from service.fake_items import numbered_item

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
    "unknown operator": "filter=accenti(id) = 'a'",
    "filter crs": "filter=id='a'&filter-crs=http://www.opengis.net/def/crs/EPSG/0/3857",
    "bad cql2 json": "filter-lang=cql2-json&filter={",
    "bad intersects": "intersects={}",
    "bow tie": 'intersects={"type":"Polygon","coordinates":[[[0,0],[1,1],[1,0],[0,1],[0,0]]]}',
    "bad query": "query=[1]",
    "query operator": 'query={"id":{"like":"x"}}',
    "negative limit": "limit=-1",
    "limit of words": "limit=ten",
    "empty sort": "sortby=-",
    "sort by what no item has": "sortby=-laiq:lai_maen",
    "bbox and no geometry": "bbox=0,0,1,1&intersects={}",
    "both places": 'bbox=0,0,1,1&intersects={"type":"Point","coordinates":[0,0]}',
}


def test_bad_search_is_answered_400_with_one_sentence(
    filled: TestClient, subtests: pytest.Subtests
) -> None:
    for case in BAD_SEARCHES:
        with subtests.test(case=case):
            answer = filled.get(f"/search?{BAD_SEARCHES[case]}")
            assert answer.status_code == 400, answer.text
            text = answer.json()["description"]
            assert 5 < len(text) < 500


def test_bad_search_body_is_answered_400(filled: TestClient, subtests: pytest.Subtests) -> None:
    for body in [
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
        b'{"fields": {"include": ["\\ud800"]}}',
        b'{"filter-crs": "\\ud800CRS84"}',
        b'{"bbox": [NaN, 0, 1, 1]}',
        b'{"filter": ' + b'{"op":"not","args":[' * 20_000,
        b"[" * 100_000,
    ]:
        with subtests.test(body=body):
            answer = filled.post(
                "/search", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 400, answer.text


def test_body_that_is_no_json_object_is_answered_400(
    writer: TestClient, subtests: pytest.Subtests
) -> None:
    for path in ["/search", "/aggregate", "/timeseries", "/publish"]:
        with subtests.test(path=path):
            for body in (b"[null]", b"null", b"7", b"{", b"\xff", b"[" * 20_000):
                answer = writer.post(
                    path, content=body, headers={"Content-Type": "application/json"}
                )
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
    assert writer.post("/collections/nothing/items", json=numbered_item(1)).status_code == 404
    bulk = {"items": {"item-001": numbered_item(1)}}
    assert writer.post("/collections/nothing/bulk_items", json=bulk).status_code == 404
