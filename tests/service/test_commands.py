"""The commands as a user calls them, against a real server where one is needed."""

import json
from collections.abc import Callable
from pathlib import Path

import pystac
import pytest
import rasterio
from service.fake_items import TOKEN
from typer.testing import CliRunner

from lai_service import Settings
from lai_service.browser_build import build_browser
from lai_service.browser_fields import fields_config
from lai_service.catalogue import Catalogue
from lai_service.catalogue_sqlite import SqliteCatalogue
from lai_service.cli import app
from lai_service.errors import LaiServiceError
from lai_service.export import export_catalogue
from lai_service.publishing import Publisher, PublishRequest
from lai_service.repair import repair_data
from lai_service.walk import all_items

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Make = Callable[..., Path]
run = CliRunner().invoke


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("LAI_SERVICE_DATA", str(settings.data))
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        monkeypatch.setenv("LAI_SERVICE_DATABASE_URL", url)
    return settings


@pytest.fixture
def filled(environment: Settings, catalogue: Catalogue, make_result: Make) -> Settings:
    publisher = Publisher(catalogue, environment.data, environment.allowed_roots)
    publisher.publish(PublishRequest(directory=make_result()))
    publisher.publish(PublishRequest(directory=make_result("other", "2024-07-01T10:00:00Z")))
    return environment


def test_publish_prints_the_address_of_the_item(live: str, make_result: Make) -> None:
    folder = make_result()
    first = run(app, ["publish", str(folder), "--url", live, "--token", TOKEN])
    assert first.exit_code == 0, first.output
    assert first.stdout == f"created: {live}/collections/lai/items/{folder.name}\n"
    item = folder / f"{folder.name}.json"
    second = run(app, ["publish", str(item), "--url", live, "--token", TOKEN])
    assert second.stdout.startswith("unchanged: ")


def test_publish_with_a_wrong_token_says_so_and_fails(live: str, make_result: Make) -> None:
    done = run(app, ["publish", str(make_result()), "--url", live, "--token", "wrong-token"])
    assert done.exit_code == 1
    assert "401" in done.stderr
    assert "token is wrong" in done.stderr
    assert pystac_items(live) == []


def pystac_items(live: str) -> list:
    import requests

    return requests.get(f"{live}/search", timeout=10).json()["features"]


def test_publish_without_a_service_says_so_and_fails(make_result: Make) -> None:
    done = run(
        app, ["publish", str(make_result()), "--url", "http://127.0.0.1:9", "--token", TOKEN]
    )
    assert (done.exit_code, "does not answer" in done.stderr) == (1, True)


def test_export_is_a_static_catalogue_that_pystac_walks(filled: Settings, tmp_path: Path) -> None:
    target = tmp_path / "static"
    done = run(app, ["export", str(target)])
    assert done.exit_code == 0, done.output
    root = pystac.Catalog.from_file(str(target / "catalog.json"))
    items = sorted(root.get_items(recursive=True), key=lambda item: item.id)
    assert [item.id for item in items] == ["lai_s2_32tpu_20240621", "other"]
    assert items[0].get_parent().id == "lai"
    with rasterio.open(items[0].assets["lai"].get_absolute_href()) as raster:
        assert raster.scales == (0.001,)
    assert str(filled.data) not in (target / "lai/other/other.json").read_text()


def test_export_follows_items_that_are_replaced_and_removed_meanwhile(
    filled: Settings,
    catalogue: Catalogue,
    make_result: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = list(all_items(catalogue))
    publisher = Publisher(catalogue, filled.data, filled.allowed_roots)
    publisher.publish(PublishRequest(directory=make_result("other", offset=1.0)))
    catalogue.remove_item("lai", "lai_s2_32tpu_20240621")
    monkeypatch.setattr("lai_service.export.all_items", lambda *_: found)
    assert export_catalogue(catalogue, filled, tmp_path / "static") == 1
    root = pystac.Catalog.from_file(str(tmp_path / "static" / "catalog.json"))
    (item,) = root.get_items(recursive=True)
    with rasterio.open(item.assets["lai"].get_absolute_href()) as raster:
        assert raster.read(1)[20, 20] == 3000


def test_export_of_an_item_without_its_raster_says_what_to_do(
    filled: Settings, tmp_path: Path
) -> None:
    next(filled.data.glob("lai/other/*/lai.tif")).unlink()
    done = run(app, ["export", str(tmp_path / "static")])
    assert (done.exit_code, "other is gone; run lai-service repair" in done.stderr) == (1, True)
    assert not list(tmp_path.glob("*static*"))


def test_repair_does_not_blame_an_item_that_is_replaced_meanwhile(
    filled: Settings, catalogue: Catalogue, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(all_items(catalogue))
    publisher = Publisher(catalogue, filled.data, filled.allowed_roots)
    publisher.publish(PublishRequest(directory=make_result("other", offset=1.0)))
    monkeypatch.setattr("lai_service.repair.all_items", lambda *_: found)
    assert repair_data(catalogue, filled.data).broken == ()


def test_export_does_not_write_over_a_folder(filled: Settings, tmp_path: Path) -> None:
    done = run(app, ["export", str(tmp_path)])
    assert (done.exit_code, "exists" in done.stderr) == (1, True)


def test_repair_removes_what_no_item_names_and_reports_what_is_missing(filled: Settings) -> None:
    orphan = filled.data / "lai" / "other" / "0123456789abcdef"
    orphan.mkdir()
    assert str(orphan) in run(app, ["repair", "--dry-run"]).stdout
    assert orphan.is_dir()
    assert run(app, ["repair"]).exit_code == 0
    assert not orphan.exists()
    next(filled.data.glob("lai/other/*/lai.tif")).unlink()
    done = run(app, ["repair"])
    assert (done.exit_code, "lai/other lai" in done.stderr) == (1, True)


def test_backup_holds_every_item(filled: Settings, tmp_path: Path) -> None:
    target = tmp_path / "backup.sqlite"
    if filled.database_url is not None:
        done = run(app, ["backup", str(target)])
        assert (done.exit_code, "pg_dump" in done.stderr) == (1, True)
        return
    assert run(app, ["backup", str(target)]).exit_code == 0
    copy = SqliteCatalogue(target)
    assert copy.item("lai", "other")["id"] == "other"
    copy.close()


def test_browser_labels_cover_the_fields_of_the_extension() -> None:
    from lai_stac import fields

    text = fields_config()
    names = {value for value in vars(fields).values() if isinstance(value, str)}
    names = {name for name in names if name.startswith("laiq:") and name != "laiq:"}
    assert [name for name in sorted(names) if f"'{name}'" not in text] == []


def test_browser_without_npm_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaiServiceError, match="npm"):
        build_browser(tmp_path / "browser")


def test_browser_is_served_where_it_is_built(settings: Settings, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient

    from lai_service import create_app

    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "index.html").write_text("<title>STAC Browser</title>")
    (folder / "config.js").write_text("window.STAC_BROWSER_CONFIG = {}")
    with TestClient(create_app(settings.model_copy(update={"browser": folder}))) as client:
        assert "STAC Browser" in client.get("/browser/").text
        assert 'const base = "http://testserver/"' in client.get("/browser/config.js").text


def test_small_page_stands_in_for_the_browser(client) -> None:
    page = client.get("/browser").text
    assert "stac-browser/#/external/http://testserver/" in page


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAI_SERVICE_ALLOWED_ROOTS", f"{tmp_path}/a, {tmp_path}/b")
    monkeypatch.setenv("LAI_SERVICE_CORS_ORIGINS", "https://example.org")
    found = Settings()
    assert found.allowed_roots == (tmp_path / "a", tmp_path / "b")
    assert found.cors_origins == ("https://example.org",)
    assert json.loads(found.model_dump_json())["token"] is None
