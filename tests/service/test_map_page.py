"""The map page over 200 items, in headless Chromium: what a person sees and reads.

Slow. `LAI_SCREENSHOTS=folder` keeps pictures.
"""

import itertools
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import requests
import uvicorn
from fake_lai import ARGUMENTS, UTM32, write_product
from fastapi.testclient import TestClient
from rasterio.warp import transform_geom
from service.fake_items import TOKEN

from lai_service import Settings, create_app
from lai_stac.item import build_item, write_item

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

SIDE = 64
ITEMS = 200
FIRST_DAY = datetime(2022, 2, 1, 10, 36, 29, tzinfo=UTC)
EVERY = timedelta(days=5)


def season(number: int) -> dict[str, np.ndarray]:
    """Return the layers of a date: fields that grow and are cut; clouds on every seventh date."""
    rng = np.random.default_rng(number)
    day = (FIRST_DAY + number * EVERY).timetuple().tm_yday
    peak = np.kron(np.random.default_rng(1).uniform(1, 6, (8, 8)), np.ones((8, 8)))
    lai = peak * np.exp(-(((day - 170) / 55) ** 2)) + 0.05 * rng.standard_normal((SIDE, SIDE)) + 0.2
    lai = np.clip(lai, 0, 8).astype("float32")
    flags = np.zeros((SIDE, SIDE), "float32")
    if number % 29 == 14:
        lai *= np.float32(0.3)  # thin cloud that the flags do not know
    if number % 7 == 3:
        lai[:, : SIDE - 8], flags[:, : SIDE - 8] = np.nan, 32
    return {
        "LAI": lai,
        "LAI_SD": lai * np.float32(0.05),
        "LAI_LOWER": np.maximum(lai - np.float32(0.6), 0),
        "LAI_UPPER": lai + np.float32(0.7),
        "LAI_FLAGS": flags,
    }


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve 200 published items; yield the address."""
    root = tmp_path_factory.mktemp("map")
    (root / "results").mkdir()
    settings = Settings(data=root / "data", allowed_roots=(root / "results",), token=TOKEN)
    app = create_app(settings)
    client = TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"})
    grid = replace(UTM32, height=SIDE, width=SIDE)
    for number in range(ITEMS):
        work = write_product(root / "results" / "work", season(number), grid)
        when = FIRST_DAY + number * EVERY
        arguments = {**ARGUMENTS, "datetime": when.strftime("%Y-%m-%dT%H:%M:%SZ")}
        item = build_item(work, **arguments, platform="S2A")
        write_item(item, work)
        folder = work.rename(root / "results" / item.id)
        answer = client.post("/publish", json={"directory": str(folder)})
        assert answer.status_code == 201, answer.text
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """Open the map page without any other network."""
    with playwright.sync_playwright() as play:
        options = [
            "--no-sandbox",
            "--use-gl=angle",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
        ]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=options)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.faults = []
        tab.outside = []
        tab.on("pageerror", lambda error: tab.faults.append(str(error)))
        tab.on(
            "request",
            lambda asked: (
                asked.url.startswith((address, "blob:", "data:")) or tab.outside.append(asked.url)
            ),
        )
        tab.goto(f"{address}/map/")
        tab.wait_for_selector("body[data-ready]", timeout=60_000)
        yield tab
        browser.close()


def keep(page: Any, name: str) -> None:
    folder = os.environ.get("LAI_SCREENSHOTS")
    if folder:
        page.evaluate(
            "new Promise(done => { laiMap.once('idle', done); laiMap.triggerRepaint(); })"
        )
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def slide(page: Any, number: int) -> None:
    page.evaluate(
        "number => { const slider = document.getElementById('slider'); slider.value = number;"
        " slider.dispatchEvent(new Event('input')); }",
        number,
    )


def read_means(page: Any) -> list[float]:
    """Read LAI from the corners of the drawn path."""
    paths = page.eval_on_selector_all(
        "#chart path.mean", "all => all.map(p => p.getAttribute('d'))"
    )
    scale = page.eval_on_selector("#chart svg", "svg => ({...svg.dataset})")
    bottom, top, high = (float(scale[key]) for key in ("bottom", "top", "topLai"))
    corners = re.findall(r"[ML][\d.]+ ([\d.]+)", "".join(paths))
    return [(bottom - float(y)) / (bottom - top) * high for y in corners]


def draw_parcel(page: Any) -> dict[str, Any]:
    """Draw a rectangle by clicks; return its geometry, as the address holds it."""
    box = page.locator("#map").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.click("#draw")
    for x, y in ((-60, -50), (60, -50), (60, 50), (-60, 50)):
        page.mouse.click(middle[0] + x, middle[1] + y)
        page.wait_for_timeout(350)  # slower than a double click
    page.keyboard.press("Enter")
    page.wait_for_selector("#chart path.mean", timeout=60_000)
    return page.evaluate("JSON.parse(new URLSearchParams(location.hash.slice(1)).get('geometry'))")


def test_opens_on_the_latest_date_without_any_other_host(page: Any) -> None:
    keep(page, "1_opened")
    assert page.faults == []
    assert page.outside == []
    last = FIRST_DAY + (ITEMS - 1) * EVERY
    assert page.text_content("#date") == f"{last:%Y-%m-%d}"


def test_the_slider_goes_through_what_exists(page: Any) -> None:
    slide(page, 28)
    assert page.text_content("#date") == f"{FIRST_DAY + 28 * EVERY:%Y-%m-%d}"
    keep(page, "2_summer")


def test_the_curve_of_a_drawn_parcel_is_that_of_the_files(page: Any, address: str) -> None:
    geometry = draw_parcel(page)
    asked = {"geometry": geometry, "smooth": 5}
    answer = requests.post(f"{address}/timeseries", json=asked, timeout=60).json()
    kept = [one for one in answer["observations"] if not one["rejected"]]
    means = [one["lai"] for one in kept if one["lai"] is not None]
    keep(page, "3_curve")
    assert len(means) > 150
    np.testing.assert_allclose(read_means(page), means, atol=0.001)


def test_means_of_the_curve_are_those_of_the_pixels(page: Any) -> None:
    geometry = page.evaluate(
        "JSON.parse(new URLSearchParams(location.hash.slice(1)).get('geometry'))"
    )
    ring = transform_geom("EPSG:4326", "EPSG:32632", geometry)["coordinates"][0]
    west, east = min(x for x, _ in ring), max(x for x, _ in ring)
    south, north = min(y for _, y in ring), max(y for _, y in ring)
    left, top = UTM32.transform.c, UTM32.transform.f
    columns = slice(int((west - left) // 20), int((east - left) // 20) + 1)
    rows = slice(int((top - north) // 20), int((top - south) // 20) + 1)
    nearly = np.nanmean(season(0)["LAI"][rows, columns])
    assert abs(read_means(page)[0] - nearly) < 0.05


def test_rejected_dates_are_hollow_and_the_curve_goes_through_clouds(page: Any) -> None:
    hollow = "circle[fill='#fff']"
    titles = page.eval_on_selector_all(f"#chart {hollow} title", "all => all.map(t => t.innerHTML)")
    rejected = [title for title in titles if "rejected" in title]
    assert len(titles) > len(rejected) > 0
    assert page.eval_on_selector_all("#chart path.smoothed", "all => all.length") == 1
    assert "rejected" in page.text_content("#message")


def test_several_parcels_have_a_curve_each(page: Any, tmp_path: Path) -> None:
    whole = page.evaluate("JSON.parse(new URLSearchParams(location.hash.slice(1)).get('geometry'))")
    (west, south), (east, north) = whole["coordinates"][0][0], whole["coordinates"][0][2]
    middle, other = (west + east) / 2, []
    for name, ends in (("left", (west, middle)), ("right", (middle, east))):
        ring = [[x, y] for x, y in zip(ends * 2, (south, south, north, north), strict=True)]
        ring = [ring[0], ring[1], ring[3], ring[2], ring[0]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        other.append({"type": "Feature", "id": name, "properties": {}, "geometry": shape})
    (tmp_path / "two.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": other})
    )
    page.set_input_files("#upload", tmp_path / "two.geojson")
    page.wait_for_function("document.querySelectorAll('#chart path.smoothed').length === 2")
    keep(page, "6_parcels")
    assert {"left", "right"} <= set(page.locator("#chart text").all_text_contents())
    (tmp_path / "one.geojson").write_text(json.dumps(whole))
    page.set_input_files("#upload", tmp_path / "one.geojson")
    page.wait_for_function("document.querySelectorAll('#chart path.smoothed').length === 1")


def test_names_of_parcels_lie_beside_each_other_on_a_phone_too(page: Any, tmp_path: Path) -> None:
    whole = page.evaluate("JSON.parse(new URLSearchParams(location.hash.slice(1)).get('geometry'))")
    named = [
        {"type": "Feature", "id": f"a parcel with a name, {n}", "properties": {}, "geometry": whole}
        for n in range(3)
    ]
    (tmp_path / "named.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": named})
    )
    page.set_viewport_size({"width": 400, "height": 800})
    page.set_input_files("#upload", tmp_path / "named.geojson")
    page.wait_for_function("document.querySelectorAll('#chart path.smoothed').length === 3")
    boxes = page.eval_on_selector_all(
        "#chart text.name",
        "all => all.map(t => t.getBoundingClientRect())"
        ".map(box => [box.left, box.right, box.top, box.height])",
    )
    keep(page, "7_phone")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert all(height > 10 and right <= 400 for _, right, _, height in boxes)
    rows = sorted((round(top), left, right) for left, right, top, _ in boxes)
    for one, other in itertools.pairwise(rows):
        assert one[0] < other[0] or one[2] <= other[1]


def test_drawn_parcels_add_up_until_they_are_cleared(page: Any) -> None:
    page.click("#clear")
    assert page.locator("#chart svg").count() == 0
    first = draw_parcel(page)
    both = draw_parcel(page)
    page.wait_for_function("document.querySelectorAll('#chart path.smoothed').length === 2")
    assert [first["type"], both["type"], len(both["features"])] == [
        "Polygon",
        "FeatureCollection",
        2,
    ]
    page.click("#clear")
    assert "geometry" not in page.url
    draw_parcel(page)


def test_a_shared_address_opens_where_its_parcel_lies(page: Any, address: str) -> None:
    other = page.context.browser.new_page()
    other.goto(page.url)
    other.wait_for_selector("body[data-ready]", timeout=60_000)
    west, east = other.evaluate("[laiMap.getBounds().getWest(), laiMap.getBounds().getEast()]")
    geometry = json.loads(parse_qs(urlsplit(other.url).fragment)["geometry"][0])
    other.close()
    xs = [x for x, _ in geometry["coordinates"][0]]
    assert west < min(xs) < max(xs) < east
    assert east - west < 20 * (max(xs) - min(xs))


def test_the_first_paint_comes_within_two_seconds(page: Any, address: str) -> None:
    other = page.context.browser.new_page()
    other.goto(f"{address}/map/")
    other.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    milliseconds = other.evaluate(paint)
    other.close()
    print(f"first paint after {milliseconds:.0f} ms")
    assert milliseconds < 2000


def test_years_can_be_overlaid(page: Any) -> None:
    page.check("#overlay")
    assert page.eval_on_selector_all("#chart path.mean", "all => all.length") >= 3
    keep(page, "4_years")
    page.uncheck("#overlay")


def test_a_month_is_a_mosaic(page: Any) -> None:
    page.select_option("#unit", "month")
    assert re.fullmatch(r"\d{4}-\d{2}", page.text_content("#date"))
    slide(page, 4)
    keep(page, "5_month")


def test_the_address_brings_back_what_was_seen(page: Any) -> None:
    shared, date = page.url, page.text_content("#date")
    other = page.context.browser.new_page()
    other.goto(shared)
    other.wait_for_selector("#chart path.mean", timeout=60_000)
    assert other.text_content("#date") == date
    other.close()


def test_csv_holds_every_observation(page: Any) -> None:
    with page.expect_download() as download:
        page.click("#csv")
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].split(",")[:3] == ["place", "datetime", "lai"]
    assert len(lines) == ITEMS + 1


def test_a_date_by_itself_has_its_day_and_a_bar(page: Any) -> None:
    texts, bars = page.evaluate(
        """async () => {
          const { drawChart } = await import(new URL('chart.js', location.href).href);
          const day = { datetime: '2024-06-13T10:00:00Z', lai: 2, lower: 1, upper: 3 };
          const svg = drawChart([{ name: '', observations: [{ ...day, valid_fraction: 1 }] }]);
          const texts = [...svg.querySelectorAll('text')].map(one => one.textContent);
          return [texts, svg.querySelectorAll("line[stroke-width='4']").length];
        }"""
    )
    assert "2024-06-13" in texts
    assert bars == 1


def test_a_file_that_is_no_geojson_is_reported(page: Any, tmp_path: Path) -> None:
    (tmp_path / "text.geojson").write_text("no JSON")
    page.set_input_files("#upload", tmp_path / "text.geojson")
    page.wait_for_selector("#message.fault")
    assert page.faults == []
