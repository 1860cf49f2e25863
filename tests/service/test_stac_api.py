"""What stands beside searches and writes: landing page, aggregations, the state of the service."""

from fastapi.testclient import TestClient


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
    assert len(filled.get("/aggregations").json()["aggregations"]) == 4
    assert filled.get("/aggregate?aggregations=x").status_code == 400
    assert filled.get("/collections/nothing/aggregate").status_code == 404


def test_management_routes_report_the_state(filled: TestClient) -> None:
    assert filled.get("/_mgmt/ping").json() == {"message": "PONG"}
    health = filled.get("/_mgmt/health").json()
    assert (health["status"], health["items"]) == ("UP", 12)
    filled.get("/collections/lai/items/item-001")
    text = filled.get("/_mgmt/metrics").text
    assert 'route="/collections/{collection_id}/items/{item_id}",status="200"} 1.0' in text


def test_head_is_answered_as_get_without_a_body(filled: TestClient) -> None:
    for path in ("/", "/collections", "/search", "/_mgmt/ping", "/map/", "/collections/none"):
        whole, head = filled.get(path), filled.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]
    assert 'method="HEAD",route="/collections"' in filled.get("/_mgmt/metrics").text
    assert filled.head("/publish").status_code == 405
