"""Behind an authenticating proxy the service asks for no token of its own, and only then."""

import pytest
from fastapi.testclient import TestClient

from lai_service import Settings, create_app
from lai_service.errors import SettingsError


def test_writer_whom_the_proxy_let_through_needs_no_token(settings: Settings) -> None:
    behind = settings.model_copy(update={"token": None, "writes_checked_by_proxy": True})
    with TestClient(create_app(behind)) as client:
        answer = client.post("/publish", json={}, headers={"Authorization": "Bearer a.jwt.of.it"})
    assert answer.status_code == 400  # past the guard: the body is what is wrong


def test_token_and_proxy_exclude_each_other(settings: Settings) -> None:
    both = settings.model_copy(update={"writes_checked_by_proxy": True})
    with pytest.raises(SettingsError):
        create_app(both)


def test_links_name_the_host_that_was_asked(client: TestClient) -> None:
    links = client.get("/", headers={"Host": "lai.example.org"}).json()["links"]
    assert all(link["href"].startswith("http://lai.example.org/") for link in links)
