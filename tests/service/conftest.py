"""A service over a temporary data root, in process and on a real port.

Every test that asks for `settings`, `catalogue` or a client runs twice: over the SQLite catalogue
and, where there is a PostgreSQL server with PostGIS (`-m postgres`), over pgstac.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from service.fake_items import KEYS, TOKEN, cog_bytes, collection, numbered_item, stac_item

from lai_service import Settings, create_app
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.port import Catalogue
from lai_service.catalogue.sqlite import SqliteCatalogue


@pytest.fixture
def make_result(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a folder of item and COGs; LAI rises from west to east."""

    def make(
        item_id: str = "lai_s2_32tpu_20240621",
        when: str = "2024-06-21T10:36:31Z",
        *,
        offset: float = 0.0,
        **properties: Any,
    ) -> Path:
        folder = tmp_path / "results" / item_id
        folder.mkdir(parents=True, exist_ok=True)
        for key in KEYS:
            (folder / f"{key}.tif").write_bytes(cog_bytes(key, offset))
        item = stac_item(item_id, when, **properties)
        item["assets"] = {
            key: {
                "href": f"./{key}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
            }
            for key in KEYS
        }
        (folder / f"{item_id}.json").write_text(json.dumps(item), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the address of a database with pgstac in a cluster of this session's own."""
    pytest.importorskip("psycopg_pool", reason="the extra 'pgstac' is not installed")
    from service.postgres_server import private_server, server_binaries

    binaries = server_binaries()
    if isinstance(binaries, str):
        pytest.skip(binaries)
    with private_server(binaries) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("pgstac", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Return the address of an empty pgstac database; None is the SQLite file."""
    if request.param == "sqlite":
        return None
    if request.node.get_closest_marker("sqlite_only"):
        pytest.skip("pgstac differs here, as service/README.md states")
    url: str = request.getfixturevalue("postgres")
    import psycopg

    with psycopg.connect(url) as connection:
        there = connection.execute("select to_regclass('pgstac.collections')").fetchone()
        if there != (None,):
            connection.execute("delete from pgstac.collections")
    return url


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    (tmp_path / "results").mkdir(exist_ok=True)
    return Settings(
        database_url=database_url,
        data=tmp_path / "data",
        allowed_roots=(tmp_path / "results",),
        token=TOKEN,
        browser=tmp_path / "no-browser",
    )


@pytest.fixture
def catalogue(settings: Settings) -> Iterator[Catalogue]:
    made = open_catalogue(settings)
    yield made
    made.close()


@pytest.fixture
def sqlite_catalogue(tmp_path: Path) -> Iterator[SqliteCatalogue]:
    made = SqliteCatalogue(tmp_path / "sqlite" / "catalogue.sqlite")
    yield made
    made.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """Return a client that reads."""
    with TestClient(create_app(settings)) as made:
        yield made


@pytest.fixture
def writer(client: TestClient) -> TestClient:
    """Return the same client, with the token."""
    client.headers["Authorization"] = f"Bearer {TOKEN}"
    return client


@pytest.fixture
def filled(writer: TestClient) -> TestClient:
    """Return the writer of a service with a dozen items in a row from west to east."""
    assert writer.post("/collections", json=collection()).status_code == 201
    items = {f"item-{n:03d}": numbered_item(n, **{"laiq:lai_mean": n / 4}) for n in range(12)}
    answer = writer.post("/collections/lai/bulk_items", json={"items": items})
    assert answer.json() == {"received": 12, "success": 12, "skipped": 0, "errors": []}
    return writer


@pytest.fixture
def published(writer: TestClient, make_result: Callable[..., Path]) -> TestClient:
    """Three dates; LAI rises by 1 from date to date and by 0.05 from column to column."""
    for number, day in enumerate((1, 11, 21)):
        folder = make_result(
            f"lai_s2_32tpu_202406{day:02d}", f"2024-06-{day:02d}T10:00:00Z", offset=float(number)
        )
        answer = writer.post("/publish", json={"directory": str(folder)})
        assert answer.status_code == 201, answer.text
    return writer


@pytest.fixture
def live(settings: Settings) -> Iterator[str]:
    """Return the address of a real server on a free port of the loopback."""
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)
