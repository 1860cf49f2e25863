"""Collections of a STAC API are searched, not walked."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

from backend.conftest import NORTH, STEP, WEST
from backend.smoke import run
from lai_backend import sources
from lai_backend.errors import SourceError
from lai_backend.extents import parse_spatial_extent, parse_temporal_extent

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/collections",
]


class Api:
    """A STAC API over the items of the tiny collection, that counts its requests."""

    def __init__(self, folder) -> None:
        self.asked: list[dict] = []
        self.paths: list[str] = []
        self.copies = 1
        items = [json.loads(path.read_text()) for path in sorted(folder.glob("TINY/*/*.json"))]
        for item, path in zip(items, sorted(folder.glob("TINY/*/*.json")), strict=True):
            for asset in item["assets"].values():
                asset["href"] = str(path.parent / asset["href"])
        self.items = items
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.paths.append(self.path)
                self.answer(api.content(self.path, self.headers["Host"]))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.asked.append(json.loads(body))
                api.paths.append(self.path)
                self.answer(api.found(api.asked[-1]))

            def answer(self, content: dict) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *arguments) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"

    def content(self, path: str, host: str) -> dict:
        root = f"http://{host}"
        if urlparse(path).path == "/search":
            query = {name: values[0] for name, values in parse_qs(urlparse(path).query).items()}
            return self.found(query)
        if path.startswith("/collections/TINY"):
            return {
                "type": "Collection",
                "stac_version": "1.1.0",
                "id": "TINY",
                "description": "",
                "license": "other",
                "extent": {
                    "spatial": {"bbox": [[-180, -90, 180, 90]]},
                    "temporal": {"interval": [[None, None]]},
                },
                "links": [
                    {"rel": "root", "href": root},
                    {"rel": "items", "href": f"{root}/collections/TINY/items"},
                ],
            }
        search = {"rel": "search", "href": f"{root}/search", "type": "application/geo+json"}
        links = [{**search, "method": method} for method in ("GET", "POST")]
        return {
            "type": "Catalog",
            "stac_version": "1.1.0",
            "id": "api",
            "description": "",
            "conformsTo": CONFORMS,
            "links": [{"rel": "root", "href": root}, {"rel": "self", "href": root}, *links],
        }

    def found(self, query: dict) -> dict:
        start, _, end = str(query.get("datetime", "../..")).partition("/")
        chosen = [
            item
            for item in self.items
            if (start in ("..", "") or item["properties"]["datetime"] >= start)
            and (end in ("..", "") or item["properties"]["datetime"] <= end)
        ]
        many = [{**item, "id": f"{item['id']}-{n}"} for n in range(self.copies) for item in chosen]
        return {"type": "FeatureCollection", "features": many, "links": []}


@pytest.fixture
def api(tiny) -> Iterator[Api]:
    api = Api(tiny.folder)
    thread = threading.Thread(target=api.server.serve_forever, daemon=True)
    thread.start()
    yield api
    api.server.shutdown()
    api.server.server_close()


BOX = {
    "west": WEST + 30 * STEP,
    "south": NORTH - 60 * STEP,
    "east": WEST + 60 * STEP,
    "north": NORTH - 30 * STEP,
    "crs": "EPSG:32633",
}


def test_load_stac_asks_the_search_for_what_lies_in_the_extents(api, tiny):
    arguments = {
        "url": f"{api.root}/collections/TINY",
        "spatial_extent": BOX,
        "temporal_extent": ["2024-06-05", "2024-07-01"],
        "bands": ["B04"],
    }
    graph = {"l": {"process_id": "load_stac", "arguments": arguments, "result": True}}
    found = run(graph, tiny.folder)
    np.testing.assert_array_equal(found[:, 0], tiny.reflectance[1:, 0, 30:60, 30:60])
    assert len(api.paths) <= 4
    assert not any("/items" in path for path in api.paths)


def test_a_collection_file_of_an_api_is_searched_by_load_collection(api, tiny, tmp_path):
    home = tmp_path / "API"
    home.mkdir()
    collection = api.content("/collections/TINY", api.root.removeprefix("http://"))
    bands = {"summaries": {"bands": [{"name": name} for name in ("B04", "B08", "SCL")]}}
    (home / "collection.json").write_text(json.dumps({**collection, **bands, "id": "TINY"}))
    from lai_backend.local import LocalConnection

    connection = LocalConnection(collections=[tmp_path], allow=[tiny.folder])
    described = connection.describe_collection("TINY")
    assert described["cube:dimensions"]["bands"]["values"] == ["B04", "B08", "SCL"]
    arguments = {"id": "TINY", "spatial_extent": BOX, "temporal_extent": None, "bands": ["B08"]}
    graph = {"l": {"process_id": "load_collection", "arguments": arguments, "result": True}}
    assert connection.execute(graph).sizes["t"] == 3


def test_too_many_items_are_refused_with_a_sentence(api, monkeypatch):
    monkeypatch.setattr(sources, "MAX_ITEMS", 5)
    api.copies = 3
    collection = api.content("/collections/TINY", api.root.removeprefix("http://"))
    span, region = parse_temporal_extent(None), parse_spatial_extent(BOX)
    with pytest.raises(SourceError):
        list(sources.search_items(collection, span, region))
