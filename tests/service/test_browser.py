"""STAC Browser over a running service, in headless Chromium: what a person sees.

Slow and networked: the browser is built from npm unless `LAI_SERVICE_BROWSER` names a built one.
`LAI_SCREENSHOTS=folder` keeps a picture of every page.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import requests
from fake_lai import ARGUMENTS, fake_layers, write_product
from service.fake_items import TOKEN

from lai_service import Settings
from lai_service.catalogue.databases import open_catalogue
from lai_service.ops.browser_build import build_browser
from lai_service.ops.export import export_catalogue
from lai_stac.files import write_thumbnail
from lai_stac.item import build_item, write_item

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    # rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

SEEN_ON_ITEM = (
    "LAI quality",
    "Mean LAI",
    "Median LAI",
    "m² m⁻²",
    "Valid pixels",
    "Predicted within GCOS threshold",
    "Method of uncertainty",
    "Conformal: calibrated on measurements",
    "Model version",
    "Checksum of the model",
    "Pixels within the limit",
    "Observed coverage by nominal level",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a built STAC Browser."""
    given = os.environ.get("LAI_SERVICE_BROWSER")
    return Path(given) if given else build_browser(tmp_path_factory.mktemp("npm") / "browser")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of a data root with two items of one place."""
    root = tmp_path_factory.mktemp("see")
    results = root / "results"
    for day in ("2024-06-21", "2024-07-01"):
        layers = fake_layers(np.random.default_rng(int(day[-2:])), side=96)
        grid = replace_side(96)
        work = write_product(results / "work", layers, grid)
        write_thumbnail(layers["LAI"], work / "thumbnail.png")
        arguments = {**ARGUMENTS, "datetime": f"{day}T10:36:29Z"}
        graph = {"lai": {"process_id": "run_udf", "arguments": {"udf": "<b>x</b>"}}}
        item = build_item(work, **arguments, platform="S2A", samples=8, process_graph=graph)
        write_item(item, work)
        work.rename(results / item.id)
    return Settings(data=root / "data", allowed_roots=(results,), token=TOKEN)


def replace_side(side: int) -> Any:
    from dataclasses import replace

    from fake_lai import UTM32

    return replace(UTM32, height=side, width=side)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def service(data: Settings, built: Path) -> Iterator[str]:
    """Serve by the command and publish both items; return the address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "lai_service.cli", "serve", "--port", str(port)]
    command += ["--data", str(data.data), "--allow", str(data.allowed_roots[0])]
    environment = {
        **os.environ,
        "LAI_SERVICE_TOKEN": TOKEN,
        "LAI_SERVICE_BROWSER": str(built),
    }
    with (data.allowed_roots[0].parent / "serve.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"{address}/_mgmt/ping")
        for folder in sorted(data.allowed_roots[0].iterdir()):
            answer = requests.post(
                f"{address}/publish",
                json={"directory": str(folder)},
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=300,
            )
            assert answer.status_code == 201, answer.text
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            requests.get(address, timeout=30)
            return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise TimeoutError(address)


class Page:
    """A tab of the browser, the addresses it asked for, and what went wrong in it."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.asked: list[tuple[str, int]] = []
        self.errors: list[str] = []
        tab.on("response", lambda answer: self.asked.append((answer.url, answer.status)))
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def see(self, address: str, *texts: str) -> str:
        """Open an address, wait until the texts stand in the page, return all its text."""
        self.tab.goto(address)
        for text in texts:
            self.tab.get_by_text(text).first.wait_for(timeout=120_000)
        return str(self.tab.inner_text("body"))

    def wait_for_answer(self, part: str) -> None:
        """Wait until an address with this part was answered."""
        for _ in range(300):
            if any(part in url and status in (200, 206) for url, status in self.asked):
                return
            self.tab.wait_for_timeout(200)
        raise AssertionError(f"nothing like {part} was asked for: {self.asked}")

    def keep(self, name: str) -> None:
        """Keep a picture where a folder for it is given."""
        folder = os.environ.get("LAI_SCREENSHOTS")
        if folder:
            self.tab.wait_for_timeout(2000)
            self.tab.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    # An address outside would only time out here; the map has no background then.
    tab = chromium.new_page(viewport={"width": 1400, "height": 1000})
    tab.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
    made = Page(tab)
    yield made
    tab.close()
    assert made.errors == []


def items_of(service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(f"{service}/search", timeout=10).json()["features"]
    return found


def test_collection_page_lists_items_by_day_with_thumbnails(page: Page, service: str) -> None:
    page.see(
        f"{service}/browser/#/collections/lai",
        "Leaf area index, 2024-06-21",
        "Leaf area index, 2024-07-01",
        "Lower bound of the 95 % prediction interval of LAI",
    )
    page.wait_for_answer("/thumbnail.png")
    page.keep("collection")


def test_item_page_names_our_fields_and_their_units(page: Page, service: str) -> None:
    item = items_of(service)[0]
    text = page.see(f"{service}/browser/#/collections/lai/items/{item['id']}", "Mean LAI")
    page.keep("item")
    assert [label for label in SEEN_ON_ITEM if label not in text] == []
    assert "laiq:" not in text
    mean = item["properties"]["laiq:lai_mean"]
    assert re.search(rf"Mean LAI\s+{mean}\s+m² m⁻²", text), text
    shown = [text.index(label) for label in ("Mean LAI", "Valid pixels", "Cloud", "Calibration")]
    assert shown == sorted(shown)  # LAI first, not in the order of the alphabet
    assert "openeo: run_udf" in text
    assert "<b>x</b>" not in page.tab.inner_text("body details")  # folded away


def test_units_of_a_raster_are_written_as_those_of_the_item(page: Page, service: str) -> None:
    item = items_of(service)[0]
    page.see(f"{service}/browser/#/collections/lai/items/{item['id']}", "Mean LAI")
    page.tab.get_by_text("Lower bound of the 95 % prediction interval of LAI").first.click()
    page.tab.get_by_text("Unit of Values").locator("visible=true").first.wait_for()
    page.keep("asset")
    cells = page.tab.locator("td:visible").all_inner_texts()
    assert "m² m⁻²" in cells
    assert "m2 m-2" not in cells


def test_map_draws_lai_by_our_tiles_with_a_legend(page: Page, service: str) -> None:
    item = items_of(service)[0]
    page.see(f"{service}/browser/#/collections/lai/items/{item['id']}", "LAI 0")
    page.wait_for_answer("/cog/tiles/WebMercatorQuad/")
    page.keep("map")
    tiles = [url for url, _ in page.asked if "/cog/tiles/" in url]
    assert all("colormap_name=lai&" in url and "lai.tif" in url for url in tiles)
    assert "LAI 0" in page.tab.inner_text(".ol-attribution")


def test_flags_are_drawn_in_their_own_colours(page: Page, service: str) -> None:
    item = items_of(service)[0]
    page.see(f"{service}/browser/#/collections/lai/items/{item['id']}", "LAI 0")
    page.tab.get_by_text("Quality flags of LAI (bits)").first.click()
    page.tab.get_by_role("button", name="Show on map").locator("visible=true").first.click()
    page.wait_for_answer("colormap_name=lai_flags")
    page.keep("flags")
    assert "cloud, shadow or snow within reach" in page.tab.inner_text(".ol-attribution")


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, for readers of other origins too, as any web server can give them."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def serve_folder() -> Iterator[Callable[[Path], str]]:
    servers = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_static_export_is_browsed_from_a_plain_web_server(
    page: Page, service: str, data: Settings, tmp_path: Path, serve_folder: Any
) -> None:
    catalogue = open_catalogue(data)
    export_catalogue(catalogue, data, tmp_path / "static")
    catalogue.close()
    address = serve_folder(tmp_path / "static")
    start = f"{service}/browser/#/external/{address}"
    page.see(f"{start}/catalog.json", "Leaf area index from Sentinel-2")
    page.see(f"{start}/lai/collection.json", "Leaf area index, 2024-07-01")
    page.keep("static_collection")
    name = items_of(service)[0]["id"]
    text = page.see(f"{start}/lai/{name}/{name}.json", "Mean LAI")
    page.keep("static_item")
    assert "Valid pixels" in text
    assert "LAI 0" not in text  # no legend where our tiles draw nothing


def test_browser_hosted_elsewhere_reads_the_service(
    page: Page, service: str, built: Path, tmp_path: Path, serve_folder: Any
) -> None:
    """The same browser from another origin, without our config: reads need CORS."""
    shutil.copytree(built, tmp_path / "host" / "browser")
    (tmp_path / "host" / "browser" / "config.js").write_text("window.STAC_BROWSER_CONFIG = {}")
    host = serve_folder(tmp_path / "host")
    item = items_of(service)[0]
    address = f"{host}/browser/#/external/{service}/collections/lai/items/{item['id']}"
    text = page.see(address, "Mean LAI")
    page.wait_for_answer("colormap_name=lai&")  # our colours, by the link `xyz` of the item
    page.keep("hosted_elsewhere")
    assert "Valid pixels" in text
    page.tab.get_by_text("Leaf area index").nth(1).wait_for()
