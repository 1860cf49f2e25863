"""Measure the memory of the service under a mixed load, and how long it keeps others waiting.

    python benchmarks/memory.py [--minutes 10] [--items 60] [--size 1024]

Tiles, previews, parcels of all sizes and publishing go on at once over the loopback; beside them
`/_mgmt/ping` is asked every 20 ms. Printed are the resident memory of the server after every
minute, its rise after the first two, and the longest wait of a ping; then, without that load, the
longest wait beside each of the largest requests that anybody may send.
"""

import argparse
import json
import math
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import requests
from load_site import TIMEOUT_S, Site, free_port, serving, session
from rasterio.warp import transform_geom
from results import CRS, KEYS, ORIGIN, PIXEL_M, cog, item_of
from shapely.geometry import Point, mapping
from timeseries import DIGEST, fill, layers

BIG = "big.tif"
"""Noise of 2048 x 2048 pixels beside the first item."""


def resident_mb(process: int) -> float:
    """Return the resident memory of a process (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def circle(rng: random.Random, size: int, vertices: int = 64) -> dict[str, object]:
    """Draw a parcel of 20 m to 4 km across, as GeoJSON in degrees."""
    radius = 10 * 200 ** rng.random()
    x = ORIGIN[0] + rng.uniform(0.1, 0.9) * size * PIXEL_M
    y = ORIGIN[1] - rng.uniform(0.1, 0.9) * size * PIXEL_M
    shape = Point(x, y).buffer(radius, quad_segs=vertices // 4)
    return dict(transform_geom(CRS, "EPSG:4326", mapping(shape)))


def read_for_ever(site: Site, size: int, items: int, seed: int, stop: threading.Event) -> None:
    """Ask for pictures and series until stopped."""
    rng = random.Random(seed)
    with session() as http:
        while not stop.is_set():
            key = rng.choice(KEYS)
            url = f"lai/lai_{rng.randrange(items):04d}/{DIGEST}/{key}.tif"
            kind = rng.choice(["preview", "tile", "series", "search"])
            if kind == "preview":
                picture = {"url": url, "max_size": rng.choice([256, 1024, 2048]), "rescale": "0,6"}
                http.get(f"{site.address}/cog/preview.png", params=picture, timeout=TIMEOUT_S)
            elif kind == "tile":
                tile = f"12/{2160 + rng.randrange(4)}/{1430 + rng.randrange(4)}"
                address = f"{site.address}/cog/tiles/WebMercatorQuad/{tile}.png"
                http.get(address, params={"url": url, "rescale": "0,6000"}, timeout=TIMEOUT_S)
            elif kind == "series":
                body = {"geometry": circle(rng, size)}
                http.post(f"{site.address}/timeseries", json=body, timeout=TIMEOUT_S)
            else:
                http.get(f"{site.address}/search?limit=100", timeout=TIMEOUT_S)


def publish_for_ever(site: Site, size: int, stop: threading.Event) -> None:
    """Publish one item again and again, in two versions."""
    folders = []
    for version in range(2):
        folder = site.results / f"version-{version}" / "own"
        folder.mkdir(parents=True)
        bands = layers(version, size)
        for key in KEYS:
            (folder / f"{key}.tif").write_bytes(cog(bands[key], key))
        item = item_of("own", "2030-06-21T10:00:00Z", size)
        for key in KEYS:
            item["assets"][key]["href"] = f"./{key}.tif"
        (folder / "own.json").write_text(json.dumps(item))
        folders.append(folder)
    with session() as http:
        number = 0
        while not stop.is_set():
            body = {"directory": str(folders[number % 2]), "collection": "lai"}
            http.post(f"{site.address}/publish", json=body, timeout=TIMEOUT_S).raise_for_status()
            number += 1


def ping_for_ever(site: Site, waits: list[float], stop: threading.Event) -> None:
    """Ping the service, and note how long its answer takes."""
    with requests.Session() as http:
        while not stop.is_set():
            started = time.perf_counter()
            http.get(f"{site.address}/_mgmt/ping", timeout=TIMEOUT_S)
            waits.append(time.perf_counter() - started)
            time.sleep(0.02)


Asked = tuple[str, str, str | None]
"""Method, path and body of a request."""


def largest_requests(size: int) -> dict[str, list[Asked]]:
    """Return the worst that a stranger can think of, some of it several times at once."""
    angles = np.linspace(0, 2 * math.pi, 400_001)
    ring = [[10 + 5 * math.cos(a), 47 + 5 * math.sin(a)] for a in angles]
    polygon = {"type": "Polygon", "coordinates": [[*ring[:-1], ring[0]]]}
    middle = {"type": "Polygon", "coordinates": [[*ring[::50], ring[0]]]}
    x, y = ORIGIN[0] + size / 2 * PIXEL_M, ORIGIN[1] - size / 2 * PIXEL_M
    radius = min(480, size // 2 - 10) * PIXEL_M
    parcel = transform_geom(CRS, "EPSG:4326", mapping(Point(x, y).buffer(radius, quad_segs=2400)))
    deep = '{"op":"not","args":[' * 100_000 + "true" + "]}" * 100_000
    picture = f"/cog/preview.{{}}?url=lai/lai_0000/{DIGEST}/{BIG}&rescale=0,6000&colormap_name=lai"
    large: dict[str, list[Asked]] = {
        "400,000 vertices": [("POST", "/search", json.dumps({"intersects": polygon}))],
        "8,000 vertices": [("POST", "/search", json.dumps({"intersects": middle}))],
        "8,000 vertices, series": [("POST", "/timeseries", json.dumps({"geometry": middle}))],
        "parcel of 9.6 km": [("POST", "/timeseries", json.dumps({"geometry": parcel}))],
        "nested 100,000 deep": [("POST", "/search", '{"filter":' + deep + "}")],
        "page of 10,000": [("GET", "/search?limit=10000", None)],
        "1000 bands": [("GET", picture.format("png") + "&bidx=1" * 1000, None)],
    }
    for kind in ("png", "jpg", "webp", "tif"):
        large[f"four {kind} of 2048 px"] = [
            ("GET", picture.format(kind) + "&max_size=2048", None)
        ] * 4
    large["four jp2 of 512 px"] = [("GET", picture.format("jp2") + "&max_size=512", None)] * 4
    return large


def wait_beside(site: Site, requested: list[Asked]) -> tuple[set[int], float]:
    """Send requests at once; return their statuses and the longest wait of a ping meanwhile."""
    waits, stop = list[float](), threading.Event()
    pings = threading.Thread(target=ping_for_ever, args=(site, waits, stop))
    pings.start()

    def send(asked: Asked) -> int:
        method, path, body = asked
        headers = {"Content-Type": "application/json"}
        return requests.request(
            method, site.address + path, data=body, headers=headers, timeout=600
        ).status_code

    with ThreadPoolExecutor(len(requested)) as senders:
        statuses = set(senders.map(send, requested))
    stop.set()
    pings.join()
    return statuses, max(waits)


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--size", type=int, default=1024, help="pixels of 20 m along an edge")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lai-memory-") as folder:
        site = Site(Path(folder), port=free_port())
        fill(site, options.items, options.size)
        noise = layers(0, 2048)["lai"]
        (site.data / "lai" / "lai_0000" / DIGEST / BIG).write_bytes(cog(noise, "lai"))
        stop, waits = threading.Event(), list[float]()
        with serving(site) as server:
            print(f"idle {resident_mb(server.pid):.0f} MB", flush=True)
            readers = [
                threading.Thread(
                    target=read_for_ever, args=(site, options.size, options.items, seed, stop)
                )
                for seed in range(4)
            ]
            writer = threading.Thread(target=publish_for_ever, args=(site, options.size, stop))
            pings = threading.Thread(target=ping_for_ever, args=(site, waits, stop))
            threads = [*readers, writer, pings]
            for thread in threads:
                thread.start()
            sizes = []
            for minute in range(math.ceil(options.minutes)):
                time.sleep(min(60.0, (options.minutes - minute) * 60))
                sizes.append(resident_mb(server.pid))
                print(
                    f"{minute + 1:3d} min {sizes[-1]:.0f} MB, ping {max(waits):.2f} s", flush=True
                )
            stop.set()
            for thread in threads:
                thread.join()
            if len(sizes) > 2:
                print(f"rise after two minutes {max(sizes[2:]) / sizes[1] - 1:+.1%}")
            print(f"longest ping under the load {max(waits):.2f} s")
            for name, requested in largest_requests(options.size).items():
                statuses, wait = wait_beside(site, requested)
                print(f"longest ping beside {name}: {wait:.2f} s, answered {statuses}", flush=True)
            print(f"alive: {server.poll() is None}")


if __name__ == "__main__":
    main()
