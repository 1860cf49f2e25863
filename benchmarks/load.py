"""Load the service until it breaks: writers beside readers, then kills in the middle of publishing.

    python benchmarks/load.py                                            SQLite, 60 s, 50 kills
    python benchmarks/load.py --database postgresql://.../empty
    python benchmarks/load.py --seconds 2 --kills 3

The server is a process of its own. It is asked for, and counted, that no acknowledged item is lost,
no item is without its rasters, no answer is a server error, "database is locked" appears nowhere,
and after `lai-service repair` no file is without its item. The exit status is 1 where one of these
fails. Every other time a `repair` that runs beside the writers is killed, too.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import requests
from load_site import (
    TIMEOUT_S,
    Site,
    forked,
    free_port,
    repair,
    repair_again_and_again,
    serving,
    serving_fork,
    session,
    stored_files,
    stored_items,
)
from results import KEYS, flat_cog, footprint, item_of, write_result

SIZE = 32
OWN_ITEMS = 6
"""Items that one writer publishes again and again; one more, `shared`, belongs to all writers."""
SHARED = "shared"
GONE = 0
"""In place of a version: the item is deleted."""


@dataclass
class Ledger:
    """What was promised and what went wrong; shared by all threads."""

    promised: dict[str, int] = field(default_factory=dict)
    """Version of each item that the service last confirmed as stored."""
    pending: dict[str, int] = field(default_factory=dict)
    """Version that was sent and not answered; it may be stored or not."""
    latest: Counter[str] = field(default_factory=Counter)
    """Highest version of each item that was ever sent."""
    faults: list[str] = field(default_factory=list)
    """One sentence for every broken promise."""
    times_ms: dict[str, list[float]] = field(default_factory=dict)
    """Duration of each kind of request."""
    statuses: Counter[str] = field(default_factory=Counter)
    """How often each kind of request got each status."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, text: str) -> None:
        """Write down a broken promise."""
        with self.lock:
            self.faults.append(" ".join(text.split())[:3000])

    def next_version(self, item_id: str) -> int:
        """Return a version that was never sent, and note that it is."""
        with self.lock:
            self.latest[item_id] += 1
            self.pending[item_id] = self.latest[item_id]
            return self.latest[item_id]

    def settle(self, item_id: str, version: int) -> None:
        """Note that the service confirmed a version."""
        with self.lock:
            self.promised[item_id] = version
            self.pending.pop(item_id, None)


@dataclass(frozen=True)
class Client:
    """One user of the service."""

    site: Site
    ledger: Ledger
    http: requests.Session
    rng: random.Random
    name: str

    def ask(self, kind: str, method: str, path: str, allowed: set[int], **more: object) -> int:
        """Send a request; an answer that is not allowed is a fault. Returns the status."""
        started = time.perf_counter()
        address = path if path.startswith("http") else self.site.address + path
        answer = self.http.request(method, address, timeout=TIMEOUT_S, **more)  # type: ignore[arg-type]
        with self.ledger.lock:
            self.ledger.statuses[f"{kind} {answer.status_code}"] += 1
            times = self.ledger.times_ms.setdefault(kind, [])
            times.append((time.perf_counter() - started) * 1000)
        if answer.status_code not in allowed:
            self.ledger.fault(f"{kind} was answered {answer.status_code}: {answer.text}")
        return answer.status_code

    def publish(self, item_id: str) -> None:
        """Publish the next version of an item."""
        version = self.ledger.next_version(item_id)
        item = item_of(item_id, "2024-06-21T10:00:00Z", SIZE, version=version)
        rasters = {key: flat_cog(key, value_of(version)) for key in KEYS}
        folder = write_result(self.site.results / self.name / item_id, item, rasters)
        body = {"directory": str(folder)}
        if self.ask("publish", "POST", "/publish", {200, 201}, json=body) < 300:
            self.ledger.settle(item_id, version)

    def delete(self, item_id: str) -> None:
        """Delete an item of one's own."""
        self.ledger.pending[item_id] = GONE
        if self.ask("delete", "DELETE", item_path(item_id), {204, 404}) == 204:
            self.ledger.settle(item_id, GONE)

    def patch(self, item_id: str) -> None:
        """Change a property of an item, even if it is published meanwhile."""
        note = {"properties": {"note": self.rng.random()}}
        self.ask("patch", "PATCH", item_path(item_id), {204, 404}, json=note)

    def put_back(self, item_id: str) -> None:
        """Read an item and write it back; its rasters may be gone by then (422)."""
        found = self.http.get(self.site.address + item_path(item_id), timeout=TIMEOUT_S)
        if found.status_code == 200:
            self.ask("put", "PUT", item_path(item_id), {204, 404, 422}, json=found.json())

    def write(self) -> None:
        """Write something."""
        own = f"{self.name}_{self.rng.randrange(OWN_ITEMS)}"
        anyone = self.rng.choice([*self.ledger.latest] or [own])
        draw = self.rng.random()
        if draw < 0.1:
            self.publish(SHARED)
        elif draw < 0.2:
            self.patch(anyone)
        elif draw < 0.35:
            self.put_back(anyone)
        elif draw < 0.45:
            self.delete(own)
        else:
            self.publish(own)

    def read(self) -> None:
        """Read something."""
        if self.rng.random() < 0.3:
            self.read_files()
            return
        bbox, _ = footprint(SIZE)
        box = ",".join(map(str, bbox))
        point = f"lon={(bbox[0] + bbox[2]) / 2}&lat={(bbox[1] + bbox[3]) / 2}"
        kind, path = self.rng.choice(
            [
                ("search", f"/search?bbox={box}&limit=20"),
                ("filter", "/search?filter=version > 1&sortby=-version&limit=5"),
                ("collection", "/collections/lai"),
                ("aggregate", "/aggregate?aggregations=total_count"),
                ("timeseries", f"/timeseries?{point}"),
                ("health", "/_mgmt/health"),
            ]
        )
        self.ask(kind, "GET", path, {200})

    def read_files(self) -> None:
        """Read the rasters of an item; one that is gone must have been replaced meanwhile."""
        address = f"{self.site.address}/search?limit=50&fields=id,assets"
        found = self.http.get(address, timeout=TIMEOUT_S).json()["features"]
        item = self.rng.choice(found or [{"assets": {}}])
        for key, asset in item["assets"].items():
            if self.ask("file", "GET", asset["href"], {200, 404}) == 200:
                continue
            now = self.http.get(self.site.address + item_path(item["id"]), timeout=TIMEOUT_S)
            if now.ok and now.json()["assets"][key]["href"] == asset["href"]:
                self.ledger.fault(f"{item['id']} is stored and its {key} is not found")
            return


def item_path(item_id: str) -> str:
    """Return the path of an item."""
    return f"/collections/lai/items/{item_id}"


def value_of(version: int) -> int:
    """Return the stored value of every pixel of a version, so that files show their version."""
    return version % 7 + 1


def crowd(
    site: Site, ledger: Ledger, writers: int, readers: int, seed: int
) -> tuple[Callable[[], None], threading.Event]:
    """Send writers and readers off.

    Returns:
        A function that waits until all have stopped, and the event that makes them stop.
    """
    stop = threading.Event()

    def run(name: str, act: Callable[[Client], None], number: int) -> None:
        with session() as http:
            client = Client(site, ledger, http, random.Random(seed + number), name)
            while not stop.is_set():
                try:
                    act(client)
                except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                    if not stop.is_set():
                        ledger.fault(f"{name}: the server closed the connection")
                    return

    pool = ThreadPoolExecutor(writers + readers)
    for number in range(writers):
        pool.submit(run, f"w{number}", Client.write, number)
    for number in range(readers):
        pool.submit(run, f"r{number}", Client.read, writers + number)
    return pool.shutdown, stop


def check(site: Site, ledger: Ledger, when: str) -> set[str]:
    """Compare the catalogue with what was promised, and the files with the catalogue.

    Returns:
        Paths below the data root that items name.
    """
    items = stored_items(site)
    for item_id, latest in ledger.latest.items():
        version = items[item_id]["properties"]["version"] if item_id in items else GONE
        allowed = {ledger.promised.get(item_id, GONE), ledger.pending.get(item_id)}
        fine = 0 < version <= latest if item_id == SHARED else version in allowed
        if not fine and (item_id != SHARED or SHARED in ledger.promised):
            ledger.fault(f"{when}: {item_id} has version {version}, allowed are {allowed}")
        ledger.settle(item_id, version)
    named = set()
    for item in items.values():
        for key, asset in item["assets"].items():
            path = asset["href"].removeprefix(f"{site.address}/data/")
            named.add(path)
            file = site.data / path
            if not file.is_file():
                ledger.fault(f"{when}: {item['id']} is without its raster {path}")
            elif file.read_bytes() != flat_cog(key, value_of(item["properties"]["version"])):
                ledger.fault(f"{when}: {path} is not what {item['id']} states")
    return named


def load_for(site: Site, ledger: Ledger, seconds: float, writers: int, readers: int) -> None:
    """Run writers and readers side by side, then look at what they left."""
    with serving(site):
        with session() as http:
            Client(site, ledger, http, random.Random(0), "first").publish(SHARED)
        wait, stop = crowd(site, ledger, writers, readers, seed=1)
        time.sleep(seconds)
        stop.set()
        wait()
        check(site, ledger, "after the load")


def kill_often(site: Site, ledger: Ledger, kills: int, writers: int) -> int:
    """Kill server and upkeep while they work, again and again; return how many files were left."""
    rng = random.Random(7)
    left = 0
    for number in range(kills + 1):
        with serving_fork(site) as server:
            named = check(site, ledger, f"after kill {number}")
            if number % 10 == 0 or number == kills:
                left += len(stored_files(site) - named)
                outcome = repair(site)
                if outcome.startswith("FAILED"):
                    ledger.fault(f"repair failed: {outcome}")
                for path in stored_files(site) ^ check(site, ledger, "after repair"):
                    ledger.fault(f"after repair, kill {number}: {path} is without its item")
            if number == kills:
                return left
            upkeep = forked(site, repair_again_and_again) if number % 2 else nullcontext()
            with upkeep:
                wait, stop = crowd(site, ledger, writers, 0, seed=100 * number)
                time.sleep(rng.uniform(0.05, 1.5))
                stop.set()
                server.kill()
            server.join()
            wait()
    return left


def report(site: Site, ledger: Ledger) -> bool:
    """Print what happened; return whether every promise was kept."""
    for kind, times in sorted(ledger.times_ms.items()):
        times.sort()
        median, late = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{kind:12} {len(times):6} answers   p50/p99 {median:8.1f} /{late:8.1f} ms")
    print("statuses:   ", ", ".join(f"{key}: {n}" for key, n in sorted(ledger.statuses.items())))
    log = site.log.read_text(errors="replace")
    for words in ("database is locked", "Traceback"):
        if words in log:
            ledger.fault(f"the log holds {words!r}: {log[log.index(words) :][:3000]}")
    for fault in ledger.faults[:20]:
        print("FAULT:", fault)
    print(
        f"verdict: {'kept every promise' if not ledger.faults else f'{len(ledger.faults)} faults'}"
    )
    return not ledger.faults


def main() -> None:
    """Load, kill, repair, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=1, help="worker processes of the server")
    parser.add_argument("--database", help="postgresql:// address of an empty database")
    options = parser.parse_args()
    ledger = Ledger()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before")
    with tempfile.TemporaryDirectory(prefix="lai-load-") as folder:
        site = Site(Path(folder), options.database, options.processes, free_port())
        load_for(site, ledger, options.seconds, options.writers, options.readers)
        left = kill_often(site, ledger, options.kills, options.writers)
        print(f"{options.kills} kills left {left} files without an item, which repair removed")
        kept = report(site, ledger)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
