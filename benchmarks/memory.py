"""Measure the memory of the service under a mixed load, and how long it keeps others waiting.

    python benchmarks/memory.py [--minutes 10] [--items 60] [--size 1024]

Tiles, previews, parcels of all sizes and publishing go on at once over the loopback; beside them
`/_mgmt/ping` is asked every 50 ms. Printed are the resident memory of the server after every
minute, its rise after the first two, and the longest wait of a ping; then what the largest requests
do that anybody may send.
"""

import argparse
import json
import math
import random
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import requests
from load_site import TIMEOUT_S, Site, free_port, serving, session
from rasterio.warp import transform_geom
from results import CRS, KEYS, ORIGIN, PIXEL_M, cog, item_of
from shapely.geometry import Point, mapping
from timeseries import fill, layers


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
            url = f"lai/lai_{rng.randrange(items):04d}/{'d' * 16}/{key}.tif"
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
    """Ask whether the service is alive, and note how long it takes to say so."""
    with requests.Session() as http:
        while not stop.is_set():
            started = time.perf_counter()
            http.get(f"{site.address}/_mgmt/ping", timeout=TIMEOUT_S)
            waits.append(time.perf_counter() - started)
            time.sleep(0.05)


def largest_requests(site: Site) -> dict[str, int]:
    """Send the worst that a stranger can think of; return the statuses."""
    angles = np.linspace(0, 2 * math.pi, 400_001)
    ring = [[10 + 5 * math.cos(a), 47 + 5 * math.sin(a)] for a in angles]
    polygon = {"type": "Polygon", "coordinates": [[*ring[:-1], ring[0]]]}
    middle = {"type": "Polygon", "coordinates": [[*ring[::50], ring[0]]]}
    deep = '{"op":"not","args":[' * 100_000 + "true" + "]}" * 100_000
    url = f"lai/lai_0000/{'d' * 16}/lai.tif"
    pictures = f"{site.address}/cog/preview.png?url={url}"
    asked = {
        "400,000 vertices": ("POST", f"{site.address}/search", json.dumps({"intersects": polygon})),
        "8,000 vertices": ("POST", f"{site.address}/search", json.dumps({"intersects": middle})),
        "8,000 vertices, series": (
            "POST",
            f"{site.address}/timeseries",
            json.dumps({"geometry": middle}),
        ),
        "nested 100,000 deep": ("POST", f"{site.address}/search", '{"filter":' + deep + "}"),
        "page of 10,000": ("GET", f"{site.address}/search?limit=10000", None),
        "picture of 100,000 px": ("GET", f"{pictures}&max_size=100000", None),
        "1000 bands": ("GET", pictures + "&bidx=1" * 1000, None),
    }
    statuses = {}
    for name, (method, address, body) in asked.items():
        headers = {"Content-Type": "application/json"}
        answer = requests.request(method, address, data=body, headers=headers, timeout=TIMEOUT_S)
        statuses[name] = answer.status_code
    return statuses


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
        stop, waits = threading.Event(), list[float]()
        with serving(site) as server:
            print(f"idle {resident_mb(server.pid):.0f} MB", flush=True)
            threads = [
                threading.Thread(
                    target=read_for_ever, args=(site, options.size, options.items, seed, stop)
                )
                for seed in range(4)
            ]
            threads.append(
                threading.Thread(target=publish_for_ever, args=(site, options.size, stop))
            )
            threads.append(threading.Thread(target=ping_for_ever, args=(site, waits, stop)))
            for thread in threads:
                thread.start()
            sizes = []
            for minute in range(math.ceil(options.minutes)):
                time.sleep(min(60.0, (options.minutes - minute) * 60))
                sizes.append(resident_mb(server.pid))
                print(
                    f"{minute + 1:3d} min {sizes[-1]:.0f} MB, ping {max(waits):.2f} s", flush=True
                )
            longest = max(waits)
            waits.clear()
            statuses = largest_requests(site)
            stop.set()
            for thread in threads:
                thread.join()
            if len(sizes) > 2:
                print(f"rise after two minutes {max(sizes[2:]) / sizes[1] - 1:+.1%}")
            print(f"longest ping: load {longest:.2f} s, largest requests {max(waits):.2f} s")
            print(f"answers to the largest requests {statuses}; alive: {server.poll() is None}")


if __name__ == "__main__":
    main()
