"""A browser page of another origin reads everything and writes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lai_service import Settings, create_app

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

HOSTED = {"Origin": "https://radiantearth.github.io"}


@pytest.fixture
def item(writer: TestClient, make_result: Callable[..., Path]) -> dict:
    return writer.post("/publish", json={"directory": str(make_result())}).json()


def test_hosted_browser_may_read_documents_tiles_and_parts_of_files(
    client: TestClient, item: dict
) -> None:
    href = item["assets"]["lai"]["href"]
    addresses = ["/", "/collections", "/search", f"/cog/info?url={href}", href]
    for address in addresses:
        answer = client.get(address, headers=HOSTED)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    part = client.get(href, headers={**HOSTED, "Range": "bytes=0-15"})
    assert (part.status_code, len(part.content)) == (206, 16)
    assert "Content-Range" in part.headers["access-control-expose-headers"]


def test_refusals_can_be_read_too(client: TestClient) -> None:
    missing = client.get("/collections/none", headers=HOSTED)
    assert (missing.status_code, missing.headers["access-control-allow-origin"]) == (404, "*")
    refused = client.post("/publish", json={}, headers=HOSTED)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [("/search", "POST", "content-type"), ("/data/lai/a/b/lai.tif", "GET", "range")],
)
def test_preflight_of_a_search_and_of_a_range_is_allowed(
    client: TestClient, path: str, method: str, headers: str
) -> None:
    asked = {
        **HOSTED,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    assert client.options(path, headers=asked).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_preflight_of_a_write_is_refused(client: TestClient, method: str) -> None:
    asked = {**HOSTED, "Access-Control-Request-Method": method}
    assert client.options("/collections/lai/items/a", headers=asked).status_code == 400


def test_a_page_cannot_send_the_token(client: TestClient) -> None:
    asked = {
        **HOSTED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert client.options("/publish", headers=asked).status_code == 400


def test_origins_can_be_narrowed(settings: Settings) -> None:
    narrow = settings.model_copy(update={"cors_origins": ("https://lai.example.org",)})
    with TestClient(create_app(narrow)) as client:
        own = client.get("/", headers={"Origin": "https://lai.example.org"})
        other = client.get("/", headers=HOSTED)
    assert own.headers["access-control-allow-origin"] == "https://lai.example.org"
    assert "access-control-allow-origin" not in other.headers
