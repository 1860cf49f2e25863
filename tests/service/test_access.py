"""Writes need a token; no route is forgotten."""

import re

import pytest
from fastapi.testclient import TestClient
from service.fake_items import TOKEN, collection, stac_item
from starlette.routing import Mount

from lai_service import Settings, create_app
from lai_service.api.limits import OPEN_READS
from lai_service.errors import SettingsError

DAY = "2024-06-21T10:36:31Z"
READING = {"GET", "HEAD", "OPTIONS"}


def all_routes(routes: list, prefix: str = "") -> list[tuple[str, str]]:
    """Return (method, path) of every route, those of included routers and mounts too."""
    found = []
    for route in routes:
        path = prefix + getattr(route, "path", "")
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None:
            found += all_routes(inner, prefix + (getattr(route, "prefix", "") or ""))
        elif isinstance(route, Mount):
            found += all_routes(route.routes or [], path)
        else:
            found += [(method, path) for method in getattr(route, "methods", None) or ()]
    return found


def writing_routes(app) -> list[tuple[str, str]]:
    schema = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    return sorted(
        (method, path)
        for method, path in schema | set(all_routes(app.routes))
        if method not in READING and not (method == "POST" and path in OPEN_READS)
    )


def test_the_enumeration_sees_the_routes_that_matter(client: TestClient) -> None:
    found = writing_routes(client.app)
    assert {
        ("POST", "/publish"),
        ("POST", "/collections"),
        ("PUT", "/collections/{collection_id}"),
        ("PATCH", "/collections/{collection_id}"),
        ("DELETE", "/collections/{collection_id}"),
        ("POST", "/collections/{collection_id}/items"),
        ("PUT", "/collections/{collection_id}/items/{item_id}"),
        ("PATCH", "/collections/{collection_id}/items/{item_id}"),
        ("DELETE", "/collections/{collection_id}/items/{item_id}"),
        ("POST", "/collections/{collection_id}/bulk_items"),
    } <= set(found)


def test_every_writing_route_refuses_a_missing_or_wrong_token(
    client: TestClient, subtests: pytest.Subtests
) -> None:
    for header in [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer x{TOKEN}",
    ]:
        with subtests.test(header=header):
            headers = {} if header is None else {"Authorization": header}
            for method, path in writing_routes(client.app):
                address = re.sub(r"\{[^}]*\}", "x", path)
                answer = client.request(method, address, json={}, headers=headers)
                assert (answer.status_code, method, path) == (401, method, path)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert client.get("/collections").json()["collections"] == []


@pytest.mark.parametrize(
    "path", ["/", "/collections", "/search/", "//search", "/search/../publish"]
)
def test_a_path_that_looks_like_search_is_no_way_around(client: TestClient, path: str) -> None:
    assert client.post(path, json=collection()).status_code == 401


def test_writes_are_off_without_a_token(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"token": None}))
    with TestClient(app) as client:
        for header in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}):
            answer = client.post("/collections", json=collection(), headers=header)
            assert answer.status_code == 403
        assert client.get("/collections").json()["collections"] == []
        assert client.post("/search", json={}).status_code == 200


def test_tokens_are_also_read_from_a_file(settings: Settings, tmp_path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# writers\nfirst-writer-token\n\nsecond-writer-token\n")
    given = settings.model_copy(update={"token": None, "token_file": file})
    with TestClient(create_app(given)) as client:
        for token in ("first-writer-token", "second-writer-token"):
            headers = {"Authorization": f"Bearer {token}"}
            answer = client.put("/collections/lai", json=collection(), headers=headers)
            assert answer.status_code == 404
        headers = {"Authorization": "Bearer # writers"}
        assert client.put("/collections/lai", json={}, headers=headers).status_code == 401


def test_short_token_is_refused_at_start(settings: Settings) -> None:
    from pydantic import SecretStr

    with pytest.raises(SettingsError):
        create_app(settings.model_copy(update={"token": SecretStr("short")}))


def test_token_is_in_no_answer_and_no_settings_text(writer: TestClient, settings: Settings) -> None:
    texts = [writer.get(path).text for path in ("/", "/api", "/_mgmt/health", "/_mgmt/metrics")]
    assert not any(TOKEN in text for text in [*texts, repr(settings)])


def test_huge_body_is_refused_without_being_stored(settings: Settings) -> None:
    small = settings.model_copy(update={"max_body_bytes": 10_000})
    with TestClient(create_app(small)) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        client.post("/collections", json=collection())
        item = stac_item("big", "2024-01-01T00:00:00Z", filler="x" * 20_000)
        declared = client.post("/collections/lai/items", json=item)
        streamed = client.post("/search", content=(b" " * 5_000 for _ in range(4)))
        assert [declared.status_code, streamed.status_code] == [413, 413]
        assert client.get("/search").json()["features"] == []


def test_every_parameter_of_a_path_is_in_the_openapi_document(client: TestClient) -> None:
    for path, methods in client.get("/api").json()["paths"].items():
        for method, operation in methods.items():
            given = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert (method, path, given) == (method, path, set(re.findall(r"{(\w+)}", path)))


def test_every_writing_route_refuses_a_body_that_makes_no_sense(writer: TestClient) -> None:
    assert writer.post("/collections", json=collection()).status_code == 201
    assert writer.post("/collections/lai/items", json=stac_item("x", DAY)).status_code == 201
    bodies = [b"\xff\xfe", b'{"id": "\xff"}', b"[" * 50_000, b"null", b"7", b'"x"', b"[1]", b"{"]
    ours = ("/collections", "/publish")
    for method, path in writing_routes(writer.app):
        if method == "DELETE" or not path.startswith(ours):
            continue
        address = path.replace("{collection_id}", "lai").replace("{item_id}", "x")
        for body in bodies:
            headers = {"Content-Type": "application/json"}
            answer = writer.request(method, address, content=body, headers=headers)
            assert answer.status_code in (400, 422), (method, path, body[:9], answer.text)
            assert 5 < len(answer.json()["description"]) < 500
    assert [item["id"] for item in writer.get("/search").json()["features"]] == ["x"]


def test_transactions_refuse_an_inverted_bbox(writer: TestClient) -> None:
    writer.post("/collections", json=collection())
    item = {**stac_item("x", DAY), "bbox": [10, 48, 11, 47]}
    answer = writer.post("/collections/lai/items", json=item)
    assert answer.status_code == 422
    across = {**stac_item("y", DAY), "bbox": [179, 47, -179, 48]}
    assert writer.post("/collections/lai/items", json=across).status_code == 201
