"""Measure the time series of a parcel: five years of one tile, 365 items, 10 hectares.

    python benchmarks/timeseries.py [--items 365] [--size 1024] [--block 256] [--repeat 10]

The rasters lie on this machine, the server is a process of its own, the client runs beside it.
Every series is compared with `exactextract` applied to the same files.
"""

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import requests
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from load_site import Site, free_port, serving
from numpy.typing import NDArray
from rasterio.warp import transform_geom
from results import CRS, KEYS, ORIGIN, PIXEL_M, cog, item_of
from shapely.geometry import Polygon, mapping

from lai_service import Settings
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.new_collection import collection_for
from lai_udf.cog import BLOCK_PX
from lai_udf.predict import UNUSABLE_FLAGS

AREA_M2 = 100_000.0
DIGEST = "d" * 16
"""Folder of the files of an item."""
DIFFERENT = 8
"""Items share this many sets of rasters."""
NO_DATA = -32768


def layers(number: int, size: int) -> dict[str, NDArray[np.int16]]:
    """Return the stored bands of one date: LAI of fields, clouds, a border without data."""
    rng = np.random.default_rng(number)
    fields = rng.integers(200, 6000, (size // 16 + 1, size // 16 + 1))
    lai = np.kron(fields, np.ones((16, 16), int))[:size, :size] + rng.integers(
        -150, 150, (size,) * 2
    )
    flags = np.where(
        np.kron(rng.random(fields.shape), np.ones((16, 16)))[:size, :size] < 0.2, 32, 0
    )
    nodata = np.zeros((size, size), bool)
    nodata[:, : size // 10] = True
    flags[nodata] = 64
    bands = {
        "lai": lai,
        "lai_sd": lai // 10,
        "lai_lower": lai - 900,
        "lai_upper": lai + 1100,
    }
    stored = {key: np.where(nodata, NO_DATA, band).astype(np.int16) for key, band in bands.items()}
    return {**stored, "lai_flags": flags.astype(np.int16)}


def fill(site: Site, items: int, size: int, block_px: int = BLOCK_PX) -> None:
    """Lay rasters and items into the data root, past the checks of publishing."""
    catalogue = open_catalogue(Settings(data=site.data))
    documents = []
    for number in range(items):
        when = datetime(2019, 1, 3, 10, 36, 31, tzinfo=UTC) + timedelta(days=5 * number)
        item = item_of(f"lai_{number:04d}", when.isoformat(), size)
        folder = site.data / "lai" / item["id"] / DIGEST
        folder.mkdir(parents=True)
        first = site.data / "lai" / f"lai_{number % DIFFERENT:04d}" / DIGEST
        bands = layers(number, size) if number < DIFFERENT else {}
        for key in KEYS:
            if number < DIFFERENT:
                (folder / f"{key}.tif").write_bytes(cog(bands[key], key, block_px))
            else:
                os.link(first / f"{key}.tif", folder / f"{key}.tif")
            item["assets"][key]["href"] = f"lai/{item['id']}/{DIGEST}/{key}.tif"
        documents.append({**item, "collection": "lai"})
    catalogue.put_collection(collection_for("lai", documents[:1]), "insert")
    catalogue.put_items("lai", documents, "insert")
    catalogue.close()


def parcel(rng: np.random.Generator, size: int) -> Polygon:
    """Draw an irregular field of 10 hectares, in metres of the raster's CRS."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(0.7, 1.3, 9)
    shape = Polygon(np.column_stack([radii * np.cos(angles), radii * np.sin(angles)]))
    scale = float(np.sqrt(AREA_M2 / shape.area))
    centre = np.array(ORIGIN) + rng.uniform(0.3, 0.7, 2) * size * PIXEL_M * np.array([1, -1])
    return Polygon(np.array(shape.exterior.coords) * scale + centre)


def expected(files: Path, field: Polygon) -> dict[str, float | None]:
    """Return the means that exactextract finds in the whole rasters of one item."""
    bands, grid = {}, None
    for key in KEYS:
        with rasterio.open(files / f"{key}.tif") as raster:
            grid = raster.bounds
            values = raster.read(1).astype(float)
        bands[key] = values if key == "lai_flags" else np.where(values == NO_DATA, np.nan, values)
    assert grid is not None
    bad = ((bands["lai_flags"].astype(int) & UNUSABLE_FLAGS) != 0) | np.isnan(bands["lai"])
    feature = {"type": "Feature", "geometry": mapping(field), "properties": {}}
    means: dict[str, float | None] = {}
    for key in ("lai", "lai_lower", "lai_upper", "lai_sd"):
        usable = np.where(bad, np.nan, bands[key])
        source = NumPyRasterSource(usable, *grid, nodata=np.nan)
        (found,) = exact_extract(source, feature, ["mean", "count"])
        empty = found["properties"]["count"] == 0
        means[key] = None if empty else found["properties"]["mean"] * 0.001
    return means


def largest_difference(site: Site, field: Polygon, observations: list[dict]) -> float:  # type: ignore[type-arg]
    """Return how far the answers are from exactextract, m2 m-2."""
    direct = [
        expected(site.data / "lai" / f"lai_{number:04d}" / DIGEST, field)
        for number in range(DIFFERENT)
    ]
    names = {"lai": "lai", "lower": "lai_lower", "upper": "lai_upper", "sd": "lai_sd"}
    worst = 0.0
    for seen in observations:
        for short, key in names.items():
            want = direct[int(seen["item"][-4:]) % DIFFERENT][key]
            if (want is None) != (seen[short] is None):
                raise SystemExit(f"{seen['item']} {short}: {seen[short]}, exactextract {want}")
            if want is not None:
                worst = max(worst, abs(seen[short] - want))
    return worst


def processor_seconds(process: int) -> float:
    """Return how long a process has kept processors busy (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=365)
    parser.add_argument("--size", type=int, default=1024, help="pixels of 20 m along an edge")
    parser.add_argument("--block", type=int, default=BLOCK_PX, help="edge of the rasters' tiles")
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory(prefix="lai-timeseries-") as folder:
        site = Site(Path(folder), port=free_port())
        fill(site, options.items, options.size, options.block)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        with serving(site) as server, requests.Session() as http:
            ask = partial(http.post, f"{site.address}/timeseries", timeout=300)
            times, busy, again, worst = [], [], [], 0.0
            for _ in range(options.repeat + 1):
                field = parcel(rng, options.size)
                body = {"geometry": transform_geom(CRS, "EPSG:4326", mapping(field))}
                body["min_valid_fraction"] = 0
                started, before = time.perf_counter(), processor_seconds(server.pid)
                answer = ask(json=body)
                times.append(time.perf_counter() - started)
                busy.append(processor_seconds(server.pid) - before)
                answer.raise_for_status()
                started = time.perf_counter()
                if ask(json=body).json() != answer.json():
                    raise SystemExit("the same question had another answer")
                again.append(time.perf_counter() - started)
                observations = answer.json()["observations"]
                if len(observations) != options.items:
                    raise SystemExit(f"{len(observations)} dates, {options.items} were stored")
                back = transform_geom("EPSG:4326", CRS, body["geometry"])
                field = Polygon(back["coordinates"][0])
                worst = max(worst, largest_difference(site, field, observations))
        warm = np.array(times[1:])
        print(f"first {times[0]:.2f} s, warm p50 {np.median(warm):.2f} s, worst {warm.max():.2f} s")
        print(f"processor seconds of the server p50 {np.median(busy):.2f}, most {max(busy):.2f}")
        print(f"the same parcel again p50 {np.median(again):.2f} s, worst {max(again):.2f} s")
        print(f"{options.items} dates, {options.repeat + 1} parcels of 10 ha; bar 1 s warm")
        print(f"largest difference from exactextract {worst:.1e} m2 m-2")


if __name__ == "__main__":
    main()
