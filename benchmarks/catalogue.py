"""Measure the catalogues: bulk load, and searches through the API, client on the same machine.

    python benchmarks/catalogue.py                                      SQLite
    python benchmarks/catalogue.py --postgres postgresql://.../empty    and pgstac
        --plain postgresql://.../other      and plain stac-fastapi-pgstac over a database of its own
        --plain-python VENV/bin/python      which may be installed in another environment

Items have three assets and some 2.4 kB; boxes of 1 x 1 degree and months are drawn with a fixed
seed. Times are those of `Catalogue` calls and of HTTP requests to a server process of its own,
with the bodies that pystac-client sends: the collection, CQL2 JSON, sort keys as objects. The table
has the median and the 99th percentile; every server was asked each kind of question once before.
The last row loads the same items a second time, over HTTP: validated, into another collection.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests

from lai_service import Settings
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue, Search, SortKey

TOKEN = "benchmark-token"
BARS = {
    "sqlite": {"bulk load, s": 25, "bbox + datetime": 5, "CQL2 + sort": 30},
    "pgstac": {"bulk load, s": 15, "bbox + datetime": 20, "CQL2 + sort": 30},
}
"""What is asked of ours: seconds, and milliseconds at the median."""
Rows = dict[str, tuple[float, ...]]
"""Rows of a column: seconds, or median and 99th percentile in milliseconds."""


def fake_item(number: int, rng: np.random.Generator) -> Document:
    """Return one small item somewhere on land-like latitudes within five years."""
    west, south = rng.uniform(-180, 179), rng.uniform(-60, 70)
    east, north = west + 0.9, south + 0.9
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    second = int(rng.integers(0, 5 * 365 * 86_400))
    when = np.datetime64("2020-01-01T00:00:00") + np.timedelta64(second, "s")
    lai = round(float(rng.gamma(2, 1.2)), 4)
    properties = {
        "datetime": f"{when}Z",
        "platform": f"sentinel-2{'abc'[number % 3]}",
        "laiq:quantity": "effective",
        "laiq:model_id": "lai-unet-seamless",
        "laiq:model_version": "1.0.0",
        "laiq:lai_mean": lai,
        "laiq:uncertainty_mean": round(lai * 0.15, 4),
        "laiq:valid_fraction": round(float(rng.uniform()), 4),
        "laiq:gcos_threshold_fraction": round(float(rng.uniform()), 4),
        "proj:code": "EPSG:32632",
        "note": "x" * 300,
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"lai_s2_{number:06d}",
        "collection": "lai",
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
        "links": [],
        "assets": {key: fake_asset(key, number) for key in ("lai", "lai_sd", "lai_flags")},
    }


def fake_asset(key: str, number: int) -> Document:
    """Return one asset of some 400 bytes."""
    return {
        "href": f"https://example.org/lai/{number:06d}/{key}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"],
        "bands": [{"name": key, "unit": "m2 m-2", "data_type": "int16", "nodata": -32768}],
        "raster:scale": 0.001,
        "file:checksum": "1220" + f"{number:064d}",
        "file:size": 30_000_000 + number,
    }


def fake_collection() -> Document:
    """Return the collection of the items."""
    extent = {
        "spatial": {"bbox": [[-180, -90, 180, 90]]},
        "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
    }
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": "lai",
        "description": "items of a benchmark",
        "license": "other",
        "extent": extent,
        "links": [],
    }


@dataclass(frozen=True)
class Question:
    """One kind of search, as a function of a random generator."""

    name: str
    """Row of the table."""
    draw: Callable[[np.random.Generator], tuple[Search, dict[str, Any]]]
    """Returns the same search for the catalogue and as the body of `POST /search`."""


def box_and_time(rng: np.random.Generator) -> tuple[Search, dict[str, Any]]:
    """Draw a box of one degree and 200 days."""
    west, south = float(rng.uniform(-179, 178)), float(rng.uniform(-60, 69))
    box = (west, south, west + 1, south + 1)
    start = np.datetime64("2020-01-01") + np.timedelta64(int(rng.integers(0, 1600)), "D")
    end = start + np.timedelta64(200, "D")
    one = int(start.astype("datetime64[us]").astype("int64"))
    two = int(end.astype("datetime64[us]").astype("int64"))
    interval = f"{start}T00:00:00Z/{end}T00:00:00Z"
    asked = {"collections": ["lai"], "bbox": list(box), "datetime": interval, "limit": 50}
    search = Search(collections=("lai",), bbox=box, start_us=one, end_us=two, limit=50)
    return search, asked


def quality_sorted(rng: np.random.Generator) -> tuple[Search, dict[str, Any]]:
    """Draw a bound of the mean LAI; the best first."""
    bound = round(float(rng.uniform(0, 3)), 3)
    expression = {"op": ">", "args": [{"property": "laiq:lai_mean"}, bound]}
    key = SortKey("laiq:valid_fraction", descending=True)
    asked = {
        "collections": ["lai"],
        "filter-lang": "cql2-json",
        "filter": expression,
        "sortby": [{"field": "properties.laiq:valid_fraction", "direction": "desc"}],
        "limit": 50,
    }
    return Search(collections=("lai",), filter=expression, sort=(key,), limit=50), asked


def same_sorted(rng: np.random.Generator) -> tuple[Search, dict[str, Any]]:
    """Draw a bound of the mean LAI; sorted by the same number."""
    search, asked = quality_sorted(rng)
    asked["sortby"] = [{"field": "properties.laiq:lai_mean", "direction": "desc"}]
    return replace(search, sort=(SortKey("laiq:lai_mean", descending=True),)), asked


def newest(rng: np.random.Generator) -> tuple[Search, dict[str, Any]]:
    """Ask for the newest items, as STAC Browser does when it opens a collection."""
    return Search(collections=("lai",), limit=50), {"collections": ["lai"], "limit": 50}


QUESTIONS = (
    Question("bbox + datetime", box_and_time),
    Question("CQL2 + sort", quality_sorted),
    Question("CQL2 + sort by the same", same_sorted),
    Question("newest", newest),
)


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


PORT = "18093"
OURS = ["-m", "lai_service.cli", "serve", "--port", PORT]
PLAIN = ["-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app", "--port", PORT]


@contextmanager
def serving(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Run a server in a process of its own."""
    server = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(600):
            try:
                requests.get(f"{address}/_mgmt/ping", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def load(catalogue: Catalogue, items: list[Document], batch: int) -> float:
    """Return the seconds that storing the items in batches takes."""
    catalogue.put_collection(fake_collection(), "insert")
    start = time.perf_counter()
    for first in range(0, len(items), batch):
        catalogue.put_items("lai", items[first : first + batch], "insert")
    return time.perf_counter() - start


def measure(
    settings: Settings, environment: dict[str, str], items: list[Document], repeat: int, batch: int
) -> Rows:
    """Return the rows of one of our catalogues."""
    catalogue = open_catalogue(settings)
    rows: Rows = {"bulk load, s": (load(catalogue, items, batch),)}
    for question in QUESTIONS:
        rng = np.random.default_rng(5)
        searches = [question.draw(rng)[0] for _ in range(repeat)]
        times = [milliseconds(lambda s=search: catalogue.search(s)) for search in searches]
        rows[f"{question.name}, in process"] = percentiles(times)
    rows["collection, in process"] = percentiles(
        [milliseconds(lambda: catalogue.collection("lai")) for _ in range(20)]
    )
    catalogue.close()
    with serving([sys.executable, *OURS], environment) as address, requests.Session() as session:
        rows |= ask(session, address, repeat)
        rows["bulk load by HTTP, s"] = (post(session, address, items, batch),)
    return rows


def ask(session: requests.Session, address: str, repeat: int) -> Rows:
    """Return the rows of searches over HTTP."""
    rows: Rows = {}

    def search(body: dict[str, Any]) -> None:
        session.post(f"{address}/search", json=body, timeout=60).raise_for_status()

    for question in QUESTIONS:
        rng = np.random.default_rng(5)
        first, *asked = [question.draw(rng)[1] for _ in range(repeat + 1)]
        search(first)
        rows[question.name] = percentiles([milliseconds(partial(search, body)) for body in asked])
    return rows


def plain(url: str, python: str, items: list[Document], repeat: int) -> Rows:
    """Return the rows of plain stac-fastapi-pgstac: loaded by pypgstac, nothing of ours in it."""
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods
    from pypgstac.migrate import Migrate

    with PgstacDB(dsn=url) as database:
        Migrate(database).run_migration()
        loader = Loader(database)
        loader.load_collections(iter([fake_collection()]), Methods.insert)  # type: ignore[arg-type]
        start = time.perf_counter()
        loader.load_items(iter(items), Methods.insert)  # type: ignore[arg-type]
        rows: Rows = {"bulk load, s": (time.perf_counter() - start,)}
    address = urlsplit(url)
    environment = {
        "PGHOST": address.hostname or "",
        "PGPORT": str(address.port or 5432),
        "PGUSER": address.username or "postgres",
        "PGPASSWORD": address.password or "none",
        "PGDATABASE": address.path.strip("/"),
    }
    with serving([python, *PLAIN], environment) as served, requests.Session() as session:
        return rows | ask(session, served, repeat)


def post(session: requests.Session, address: str, items: list[Document], batch: int) -> float:
    """Return the seconds that `POST /collections/posted/bulk_items` takes for the same items."""
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    collection = {**fake_collection(), "id": "posted"}
    session.post(f"{address}/collections", json=collection, timeout=60).raise_for_status()
    start = time.perf_counter()
    for first in range(0, len(items), batch):
        some = {item["id"]: {**item, "collection": "posted"} for item in items[first:][:batch]}
        answer = session.post(
            f"{address}/collections/posted/bulk_items", json={"items": some}, timeout=600
        )
        answer.raise_for_status()
    return time.perf_counter() - start


def percentiles(times: list[float]) -> tuple[float, float]:
    """Return median and 99th percentile."""
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def show(columns: dict[str, Rows]) -> None:
    """Print the table, a column for each server, with what was asked of ours."""
    print(f"{'':34}" + "".join(f"{kind:>17}" for kind in columns))
    for name in dict.fromkeys(name for rows in columns.values() for name in rows):
        cells = ["/".join(f"{v:.1f}" for v in rows.get(name, ())) for rows in columns.values()]
        bars = [f"{kind} {bar[name]}" for kind, bar in BARS.items() if name in bar]
        asked = f"   asked: {', '.join(bars)}" if bars else ""
        print(f"{name:34}" + "".join(f"{cell:>17}" for cell in cells) + asked)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--batch", type=int, default=5000, help="items a transaction")
    parser.add_argument("--postgres", help="postgresql:// address of an empty database")
    parser.add_argument("--plain", help="postgresql:// address of another one")
    parser.add_argument("--plain-python", default=sys.executable, help="has stac-fastapi-pgstac")
    parser.add_argument("--skip-sqlite", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(20201121)
    items = [fake_item(number, rng) for number in range(options.items)]
    print(f"{len(items)} items, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    columns: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, str | None] = {} if options.skip_sqlite else {"sqlite": None}
        if options.postgres:
            kinds["pgstac"] = options.postgres
        for kind, url in kinds.items():
            data = Path(folder) / kind
            environment = {"LAI_SERVICE_DATA": str(data), "LAI_SERVICE_TOKEN": TOKEN}
            if url:
                environment["LAI_SERVICE_DATABASE_URL"] = url
            settings = Settings(data=data, database_url=url)
            columns[kind] = measure(settings, environment, items, options.repeat, options.batch)
        if options.plain:
            columns["plain"] = plain(options.plain, options.plain_python, items, options.repeat)
    show(columns)
    print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
