"""The table of speeds of prediction: this project beside SL2P and a naively called Keras model.

`python benchmarks/predict.py [--size 5490] [--model BUNDLE] [--only TEXT]`; `make bench` runs it.
Scenes are made on the fly. Every piece of work runs in a process of its own, with as many threads
as `--threads` states (two). Rows are ratios inside this run; on a machine with other work only
those are meaningful. At full size about ten minutes on two idle cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from predict_bundles import write_untrained
from predict_scenes import write_item, write_scene
from tqdm import tqdm

from lai_udf.bundle import default_bundle_path

TILE_PX = 5490
HERE = Path(__file__).parent
Facts = dict[str, float | str]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    bar: str
    measured: str


@dataclass
class Bench:
    """What the pieces of work need to know."""

    size: int
    threads: int
    model: str
    folder: Path
    paper: str = ""
    done: dict[str, Facts] = field(default_factory=dict)

    def work(self, name: str, *arguments: object, threads: int = 0) -> Facts:
        """Run a piece of work in its own process, once; return its report."""
        key = " ".join(map(str, (name, *arguments)))
        if key not in self.done:
            quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
            many = {"OMP_NUM_THREADS": str(threads or self.threads)}
            command = [sys.executable, str(HERE / "predict_work.py"), name, *map(str, arguments)]
            ended = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | quiet | many, check=False
            )
            if ended.returncode:
                raise SystemExit(f"{key} failed:\n{ended.stderr[-3000:]}")
            self.done[key] = json.loads(ended.stdout.splitlines()[-1])
        return self.done[key]

    def seconds(self, name: str, *arguments: object, threads: int = 0) -> float:
        """Return the seconds that a piece of work takes."""
        return float(self.work(name, *arguments, threads=threads)["seconds"])


def tile(bench: Bench) -> Iterator[Row]:
    """Time one scene in memory, in three ways."""
    name = f"{bench.size} x {bench.size} px in memory"
    ours = bench.work("predict_memory", bench.model, bench.size)
    share = (bench.size / TILE_PX) ** 2
    bar = f"{8 * share:.2g} s, {1000 * share:.0f} MB above the inputs"
    yield Row(f"{name}, all five bands", bar, f"{ours['seconds']:.2f} s, {ours['extra_mb']:.0f} MB")
    yield Row(
        "SL2P, vectorised, LAI and flags", "", f"{bench.seconds('sl2p_memory', bench.size):.2f} s"
    )
    naive = bench.seconds("keras_naive", "paper", bench.size)
    yield Row(
        "the paper's network in Keras, 128 x 128 patches", "", f"{naive:.1f} s (from 60 patches)"
    )


def samples(bench: Bench) -> Iterator[Row]:
    """Compare thirty draws with a single pass."""
    for name, bundle, side in (
        ("default", bench.model, bench.size // 2),
        ("paper", bench.paper, bench.size // 8),
    ):
        one = bench.seconds("predict_memory", bundle, side, 0, 2)
        many = bench.seconds("predict_memory", bundle, side, 30, 1)
        yield Row(f"30 samples, {name} network", "18 passes", f"{many / one:.1f} passes")


def files(bench: Bench) -> Iterator[Row]:
    """Compare files in and COGs out with the compute alone."""
    item = write_item(bench.folder / "item", bench.size)
    compute = bench.seconds("predict_memory", bench.model, bench.size)
    whole = bench.seconds("files_to_cogs", bench.model, item, bench.folder / "cogs")
    yield Row("ten band files to COGs", "4 x compute", f"{whole / compute:.2f} x ({whole:.1f} s)")
    sl2p = bench.seconds("sl2p_files", item, bench.folder / "sl2p.tif")
    yield Row("SL2P over the same files", "", f"{sl2p / compute:.2f} x ({sl2p:.1f} s)")


def growth(bench: Bench) -> Iterator[Row]:
    """Compare time per pixel and memory of scenes of 1, 4, 16 and 64 million pixels.

    Start-up is separated from growth: time = start + rate * pixels, fitted to relative errors, in
    CPU time: other work on the machine slows the longest run most.
    """
    largest = 8192 * bench.size // TILE_PX // 64 * 64
    sides = [largest // 8, largest // 4, largest // 2, largest]
    megapixels = np.array(sides) ** 2 / 1e6
    seconds, memory = np.empty(4), np.empty(4)
    for number, side in enumerate(sides):
        scene = write_scene(bench.folder / f"{side}.tif", side)
        runs = [
            bench.work("files_to_cogs", bench.model, scene, bench.folder / "grown", repeat)
            for repeat in range(3 if side < largest else 2)
        ]
        scene.unlink()
        seconds[number] = min(float(run["cpu_seconds"]) for run in runs)
        memory[number] = max(float(run["peak_mb"]) for run in runs)
        rate = seconds[number] / megapixels[number]
        name = f"{side} x {side} px, files to COGs"
        yield Row(name, "", f"{rate:.3f} us/px of CPU, {memory[number]:.0f} MB")
    terms = np.stack([np.ones(4), megapixels], axis=1)
    start, rate = np.linalg.lstsq(terms / seconds[:, None], np.ones(4), rcond=None)[0]
    off = np.abs(terms @ [start, rate] / seconds - 1).max()
    line = f"{start:.2f} s + {rate:.3f} us/px, {off:.0%} off at most"
    yield Row("  a line through the four", "10 %", line)
    yield Row("  memory from first to last", "20 %", f"{memory[-1] / memory[0] - 1:+.0%}")


def job(bench: Bench) -> Iterator[Row]:
    """Compare a batch job of the local back-end with the command."""
    item = write_item(bench.folder / "half", bench.size // 2)
    facts = bench.work("batch_job", bench.model, item, bench.folder / "backend")
    ratio = float(facts["seconds"]) / float(facts["command_seconds"])
    yield Row("batch job against lai-udf run", "1.3 x", f"{ratio:.2f} x ({facts['seconds']:.1f} s)")


def workers(bench: Bench) -> Iterator[Row]:
    """Compare two Dask workers of one thread with one."""
    one, two = (bench.work("dask_workers", bench.model, bench.size, n, threads=1) for n in (1, 2))
    same = "identical" if one["sums"] == two["sums"] else "DIFFERENT"
    ratio = float(one["seconds"]) / float(two["seconds"])
    yield Row("two Dask workers against one", "1.7 x, identical", f"{ratio:.2f} x, {same}")


def runtimes(bench: Bench) -> Iterator[Row]:
    """Compare runtimes on one block of the paper's network, one thread."""
    facts = bench.work("runtimes", bench.paper, threads=1)
    for name, value in facts.items():
        yield Row(f"one block, {name}", "", str(value))


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    part.__name__: part for part in (tile, samples, files, growth, job, workers, runtimes)
}


def main() -> None:
    """Run the parts and print the table, Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=TILE_PX, help="side of the scene, px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default=str(default_bundle_path()), help="model bundle")
    parser.add_argument("--paper", default="", help="bundle of the paper's network; else untrained")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.size, asked.threads, asked.model, Path(folder), asked.paper)
        if "samples" in asked.only and not bench.paper:
            bench.paper = str(write_untrained("paper", Path(folder) / "paper.zip"))
        print("| work | bar | measured |\n| --- | --- | --- |", flush=True)
        for name in tqdm(asked.only, unit="part", disable=None):
            for row in PARTS[name](bench):
                tqdm.write(f"| {row.work} | {row.bar} | {row.measured} |")


if __name__ == "__main__":
    main()
