"""Behind an authenticating proxy the service asks for no token of its own, and only then."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from lai_service import Settings, create_app
from lai_service.errors import SettingsError
from lai_service.settings import read_settings


def test_writer_whom_the_proxy_let_through_needs_no_token(settings: Settings) -> None:
    behind = settings.model_copy(update={"token": None, "writes_checked_by_proxy": True})
    with TestClient(create_app(behind)) as client:
        answer = client.post("/publish", json={}, headers={"Authorization": "Bearer a.jwt.of.it"})
    assert answer.status_code == 400  # past the guard: the body is what is wrong


def test_token_and_proxy_exclude_each_other(settings: Settings) -> None:
    both = settings.model_copy(update={"writes_checked_by_proxy": True})
    with pytest.raises(SettingsError):
        create_app(both)


@pytest.mark.parametrize("stripped", [True, False])
def test_links_begin_with_the_path_of_the_proxy(settings: Settings, stripped: bool) -> None:
    before = "" if stripped else "/lai"
    with TestClient(create_app(settings), root_path="/lai") as client:
        links = client.get(f"{before}/").json()["links"]
        page = client.get(f"{before}/map", follow_redirects=False)
    assert all(link["href"].startswith("http://testserver/lai/") for link in links)
    assert page.headers["location"].endswith("/map/")
    assert page.headers["location"].startswith("http://testserver/lai/") or stripped


def test_a_browser_built_for_the_root_is_not_served_below_a_path(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("built for /browser")
    below = settings.model_copy(update={"browser": tmp_path, "root_path": "/lai"})
    with TestClient(create_app(below), root_path="/lai") as client:
        page = client.get("/browser/").text
    assert "built for" not in page
    assert "/external/http://testserver/lai/" in page


@pytest.mark.parametrize("before", ["", "/lai"])
def test_the_page_of_the_api_links_the_description_without_a_network(
    settings: Settings, before: str
) -> None:
    with TestClient(create_app(settings), root_path=before) as client:
        page = client.get("/api.html").text
        landing = client.get("/").json()["links"]
    assert f'<a href="{before}/api">' in page
    assert f"url: '{before}/api'" in page
    (link,) = [one for one in landing if one["rel"] == "service-doc"]
    assert link["href"] == f"http://testserver{before}/api.html"


@pytest.mark.parametrize("path", ["lai", "/lai/", "/a b", "http://host/lai"])
def test_a_root_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(SettingsError):
        read_settings(root_path=path)


def test_links_name_the_host_that_was_asked(client: TestClient) -> None:
    links = client.get("/", headers={"Host": "lai.example.org"}).json()["links"]
    assert all(link["href"].startswith("http://lai.example.org/") for link in links)
