"""The local back-end in a browser: `@openeo/js-client`, and a page of `@openeo/vue-components`.

Both come from npm; Chromium opens the page. `WEB_CLIENTS_SHOTS=FOLDER` keeps a picture of it.
"""

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import rasterio

from end_to_end.conftest import Backend, DemoRun
from lai_demo.steps import COLLECTION
from lai_udf.process_graph import lai_from_collection

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = Path(__file__).with_name("web_clients.html")
PACKAGES = ("@openeo/js-client@2.12.0", "@openeo/vue-components@2.23.4", "axios@1", "geotiff@2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.browser,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page and the packages it loads."""
    folder = tmp_path_factory.mktemp("web")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed: {done.stderr[-300:]}")
    shutil.copy(PAGE, folder / "index.html")
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()


def test_a_job_runs_in_the_browser_and_shows_its_log_and_its_lai(
    address: str, backend: Backend, demo_run: DemoRun
) -> None:
    with rasterio.open(demo_run.job_raster) as dataset:
        west, south, east, north = dataset.bounds
        crs = dataset.crs.to_epsg()
    box = {"west": west, "south": south, "east": east, "north": north, "crs": crs}
    period = ["2020-06-01", "2020-07-01"]
    lai = lai_from_collection(
        backend.connection, spatial_extent=box, temporal_extent=period, collection=COLLECTION
    )
    archive = Path(backend.model).resolve().as_uri()
    order = {
        "url": backend.connection.root_url.partition("/openeo")[0],
        "user": "lai",
        "password": "secret words",
        "graph": lai.save_result("GTiff").flat_graph(),
        "options": {"udf-dependency-archives": [f"{archive}#lai_model"]},
    }
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.set_default_timeout(300_000)
        page.goto(address)
        found = page.evaluate("order => run(order)", order)
        assert found["status"] == "finished", found
        page.wait_for_function(
            "() => ['job', 'logs', 'item'].every(id =>"
            " document.querySelector(`#${id} > *`).shadowRoot?.textContent.trim().length > 50)"
        )
        shown = page.evaluate(
            "() => Object.fromEntries(['job', 'logs', 'item'].map(id =>"
            " [id, document.querySelector(`#${id} > *`).shadowRoot.textContent]))"
        )
        if folder := os.environ.get("WEB_CLIENTS_SHOTS"):
            page.screenshot(path=str(Path(folder) / "job.png"), full_page=True)
        browser.close()
    assert COLLECTION in found["collections"]
    messages = [entry["message"] for entry in found["logs"]]
    assert any(message.startswith("Finished") for message in messages)
    assert len(messages) == len(set(messages)), "no entry comes twice"
    assert "LAI in the browser" in shown["job"]
    assert "Finished" in shown["logs"]
    assert found["drawn"]["share"] > 0.3
    assert found["drawn"]["mean"] == pytest.approx(found["statistics"]["mean"], rel=1e-3)
    assert not faults
