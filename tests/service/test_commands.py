"""The commands as a user calls them, against a real server where one is needed."""

import json
import socket
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pystac
import pytest
import rasterio
from service.fake_items import TOKEN
from typer.testing import CliRunner

from lai_service import Settings
from lai_service.catalogue.port import Catalogue, all_items
from lai_service.catalogue.sqlite import SqliteCatalogue
from lai_service.cli import app
from lai_service.errors import LaiServiceError
from lai_service.files.publishing import Publisher
from lai_service.ops.browser_build import build_browser
from lai_service.ops.export import export_catalogue
from lai_service.ops.upkeep import repair_data
from lai_service.settings import warn_of_unknown_variables
from lai_service.web import web_file

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
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the logs of this process as pytest has them."""
    monkeypatch.setattr("lai_service.ops.request_log.configure_logging", lambda kind: None)


@pytest.fixture
def filled(environment: Settings, catalogue: Catalogue, make_result: Make) -> Settings:
    publisher = Publisher(catalogue, environment.data, environment.allowed_roots)
    publisher.publish(make_result())
    publisher.publish(make_result("other", "2024-07-01T10:00:00Z"))
    return environment


def test_publish_prints_the_address_of_the_item(live: str, make_result: Make) -> None:
    folder = make_result()
    first = run(app, ["publish", str(folder), "--url", live, "--token", TOKEN])
    assert first.exit_code == 0, first.output
    assert first.stdout == f"created: {live}/collections/lai/items/{folder.name}\n"
    item = folder / f"{folder.name}.json"
    second = run(app, ["publish", str(item), "--url", live, "--token", TOKEN])
    assert second.stdout.startswith("unchanged: ")


def test_publish_with_a_wrong_token_fails_and_stores_nothing(live: str, make_result: Make) -> None:
    done = run(app, ["publish", str(make_result()), "--url", live, "--token", "wrong-token"])
    assert done.exit_code == 1
    assert pystac_items(live) == []


def pystac_items(live: str) -> list:
    import requests

    return requests.get(f"{live}/search", timeout=10).json()["features"]


def test_publish_without_a_service_fails_in_one_sentence(make_result: Make) -> None:
    done = run(
        app, ["publish", str(make_result()), "--url", "http://127.0.0.1:9", "--token", TOKEN]
    )
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1


def test_publish_to_what_is_no_address_fails(make_result: Make) -> None:
    done = run(app, ["publish", str(make_result()), "--url", "localhost", "--token", TOKEN])
    assert done.exit_code == 1


def test_publish_takes_every_folder_below_and_goes_on_after_a_refusal(
    live: str, make_result: Make
) -> None:
    folders = [make_result(f"item-{day}", f"2024-06-{day:02d}T10:00:00Z") for day in (1, 2, 3)]
    (folders[1] / "lai.tif").write_text("no raster")
    above = str(folders[0].parent)
    first = run(app, ["publish", above, "--url", live, "--token", TOKEN])
    assert first.exit_code == 1
    assert first.stdout.count("created: ") == 2
    assert "item-2" in first.stderr
    (folders[1] / "lai.tif").write_bytes((folders[0] / "lai.tif").read_bytes())
    second = run(app, ["publish", above, str(folders[0]), "--url", live, "--token", TOKEN])
    assert second.exit_code == 0
    outcomes = [line.split(":")[0] for line in second.stdout.splitlines()]
    assert outcomes == ["unchanged", "created", "unchanged"]


def test_publish_leaves_out_the_item_of_the_model_that_a_job_ran(
    live: str, make_result: Make
) -> None:
    folder = make_result("item-1", "2024-06-01T10:00:00Z")
    model = folder.parent / "work" / "lai_model" / "model.json"
    model.parent.mkdir(parents=True)
    properties = {"mlm:name": "unet", "datetime": "2024-06-01T00:00:00Z"}
    model.write_text(json.dumps({"type": "Feature", "id": "unet", "properties": properties}))

    done = run(app, ["publish", str(folder.parent), "--url", live, "--token", TOKEN])

    assert done.exit_code == 0, done.output
    assert done.stdout.count("created: ") == 1


def test_publish_takes_the_finished_jobs_of_a_table(live: str, make_result: Make) -> None:
    done, running = make_result("done"), make_result("running", "2024-06-22T10:00:00Z")
    table = done.parent / "jobs.csv"
    rows = ["title,status,folder", f"a,finished,{done.name}", f"b,running,{running.name}"]
    table.write_text("\n".join([*rows, "c,finished,"]))
    published = run(app, ["publish", "--jobs", str(table), "--url", live, "--token", TOKEN])
    assert published.exit_code == 0, published.output
    assert [item["id"] for item in pystac_items(live)] == ["done"]
    table.write_text("title,status,folder\nb,running,running")
    none = run(app, ["publish", "--jobs", str(table), "--url", live, "--token", TOKEN])
    assert none.exit_code == 1
    assert run(app, ["publish"]).exit_code == 2


def test_publish_of_an_empty_folder_fails(live: str, make_result: Make) -> None:
    (empty := make_result().parent / "empty").mkdir()
    done = run(app, ["publish", str(empty), "--url", live, "--token", TOKEN])
    assert done.exit_code == 1


def test_publish_of_two_items_in_one_folder_fails(live: str, make_result: Make) -> None:
    folder = make_result()
    first = folder / f"{folder.name}.json"
    (folder / "a.json").write_bytes(first.read_bytes())
    first.rename(folder / "b.json")
    done = run(app, ["publish", str(folder), "--url", live, "--token", TOKEN])
    assert done.exit_code == 1


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
    publisher.publish(make_result("other", "2024-07-01T10:00:00Z", offset=1.0))
    catalogue.remove_item("lai", "lai_s2_32tpu_20240621")
    monkeypatch.setattr("lai_service.ops.export.all_items", lambda *_: found)
    assert export_catalogue(catalogue, filled, tmp_path / "static") == 1
    root = pystac.Catalog.from_file(str(tmp_path / "static" / "catalog.json"))
    (item,) = root.get_items(recursive=True)
    with rasterio.open(item.assets["lai"].get_absolute_href()) as raster:
        assert raster.read(1)[20, 20] == 3000


def test_export_of_an_item_without_its_raster_fails(filled: Settings, tmp_path: Path) -> None:
    next(filled.data.glob("lai/other/*/lai.tif")).unlink()
    done = run(app, ["export", str(tmp_path / "static")])
    assert done.exit_code == 1
    assert not list(tmp_path.glob("*static*"))


def test_repair_does_not_blame_an_item_that_is_replaced_meanwhile(
    filled: Settings, catalogue: Catalogue, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(all_items(catalogue))
    publisher = Publisher(catalogue, filled.data, filled.allowed_roots)
    publisher.publish(make_result("other", "2024-07-01T10:00:00Z", offset=1.0))
    monkeypatch.setattr("lai_service.ops.upkeep.all_items", lambda *_: found)
    assert repair_data(catalogue, filled.data).broken == ()


def test_export_does_not_write_over_a_folder(filled: Settings, tmp_path: Path) -> None:
    done = run(app, ["export", str(tmp_path)])
    assert done.exit_code == 1


def test_repair_removes_what_no_item_names_and_reports_what_is_missing(filled: Settings) -> None:
    orphan = filled.data / "lai" / "other" / "0123456789abcdef"
    orphan.mkdir()
    assert str(orphan) in run(app, ["repair", "--dry-run"]).stdout
    assert orphan.is_dir()
    assert run(app, ["repair"]).exit_code == 0
    assert not orphan.exists()
    assert run(app, ["repair", "--dry-run"]).stdout == "nothing to repair\n"
    next(filled.data.glob("lai/other/*/lai.tif")).unlink()
    done = run(app, ["repair"])
    assert done.exit_code == 1


def test_backup_holds_every_item(filled: Settings, tmp_path: Path) -> None:
    target = tmp_path / "backup.sqlite"
    if filled.database_url is not None:
        done = run(app, ["backup", str(target)])
        assert done.exit_code == 1
        return
    assert run(app, ["backup", str(target)]).exit_code == 0
    copy = SqliteCatalogue(target)
    assert copy.item("lai", "other")["id"] == "other"
    copy.close()


def test_backup_does_not_write_over_a_file(filled: Settings, tmp_path: Path) -> None:
    if filled.database_url is not None:
        pytest.skip("pg_dump backs up PostgreSQL")
    target = tmp_path / "backup.sqlite"
    target.write_text("precious")
    done = run(app, ["backup", str(target)])
    assert done.exit_code == 1
    assert target.read_text() == "precious"
    done = run(app, ["backup", str(tmp_path / "nowhere" / "backup.sqlite")])
    assert done.exit_code == 1


@pytest.mark.parametrize("command", [["backup", "new"], ["export", "new"], ["repair"]])
def test_catalogue_that_is_not_there_is_refused_and_not_made(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAI_SERVICE_DATA", raising=False)
    done = run(app, [*command, "--data", "elsewhere"])
    assert done.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
def test_postgresql_database_without_a_catalogue_is_refused_and_left_empty(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    empty = f"{postgres.rpartition('/')[0]}/postgres"
    monkeypatch.setenv("LAI_SERVICE_DATABASE_URL", empty)
    (orphan := tmp_path / "lai" / "item" / "0123456789abcdef").mkdir(parents=True)
    done = run(app, ["repair", "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert orphan.is_dir()
    with psycopg.connect(empty) as connection:
        assert connection.execute("select to_regnamespace('pgstac')").fetchone() == (None,)


def test_data_root_of_a_command_is_that_of_its_option(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAI_SERVICE_DATA", str(tmp_path / "another"))
    done = run(app, ["export", str(tmp_path / "static"), "--data", str(filled.data)])
    assert done.stdout == f"2 items: {tmp_path / 'static' / 'catalog.json'}\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["serve", "--port", "99999"], 2, "--port"),
        (["serve", "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1:8080"),
        (["serve", "--data", "file/data", "--port", "0"], 1, "file/data: Not a directory"),
        (["serve", "--allow", "nowhere", "--port", "0"], 1, "nowhere is no folder; --allow"),
    ],
    ids=["port", "host", "data", "allow"],
)
def test_serve_that_cannot_work_ends_with_a_sentence(
    arguments: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quiet: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    done = run(app, arguments)
    assert done.exit_code == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_busy_port_is_one_sentence(tmp_path: Path, quiet: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run(app, ["serve", "--port", str(port), "--data", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1


def test_setting_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAI_SERVICE_MAX_BODY_BYTES", "x")
    done = run(app, ["repair", "--dry-run"])
    assert done.exit_code == 1
    assert done.stderr.startswith("lai-service: LAI_SERVICE_MAX_BODY_BYTES makes no sense: ")
    assert done.stderr.endswith("; it is 'x'\n")


def test_misspelt_setting_is_reported_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LAI_SERVICE_TOKKEN", "secret-of-mine")
    warn_of_unknown_variables()
    assert caplog.messages == [
        "LAI_SERVICE_TOKKEN is no setting and has no effect; LAI_SERVICE_TOKEN is one"
    ]


def test_version_is_that_of_the_distribution() -> None:
    assert run(app, ["--version"]).stdout == f"lai-service {version('sentinel2-lai')}\n"


def test_browser_labels_cover_the_fields_of_the_extension() -> None:
    from lai_stac import fields

    text = web_file("fields.config.js")
    names = {value for value in vars(fields).values() if isinstance(value, str)}
    names = {name for name in names if name.startswith("laiq:") and name != "laiq:"}
    assert [name for name in sorted(names) if f"'{name}'" not in text] == []


def test_browser_cannot_be_built_without_npm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaiServiceError):
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
