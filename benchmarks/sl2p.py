"""How long SL2P takes for one Sentinel-2 tile, and how much memory beside its inputs.

Run it with `python benchmarks/sl2p.py [SIDE]`; `make bench` does. Compute only: reading, resampling
and writing a tile are not in it. For comparison, Albughdadi et al. 2020 give 15 minutes for SNAP,
reading and writing included. One thread does the work.
"""

import sys
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np

from lai_training.sl2p.processor import predict_bands
from lai_training.sl2p.tables import load_network
from lai_udf.predict import ANGLES

TILE_PX = 5490
"""Side of a Sentinel-2 tile at 20 m."""


@dataclass(frozen=True)
class Timing:
    """What one case took."""

    case: str
    """What was computed."""
    seconds: float
    """Best of the repeats."""
    extra_gb: float
    """Peak of what one run allocates, results (0.15 GB a tile) included, GB."""


def measure(side: int = TILE_PX, repeats: int = 3, seed: int = 0) -> list[Timing]:
    """Time LAI with flags on random reflectance: nominal angles, then angle rasters.

    Args:
        side: rows and columns of the scene.
        repeats: runs per case; the best counts.
        seed: of the random inputs.
    """
    rng = np.random.default_rng(seed)
    names = load_network().inputs[:-3]
    limits = dict.fromkeys(names, (0.02, 0.3)) | dict.fromkeys(ANGLES, (5.0, 60.0))
    scene = {}
    for name, (low, high) in limits.items():
        band = rng.random((side, side), dtype=np.float32)
        band *= high - low  # in place: a tile of inputs is 1.4 GB
        band += low
        scene[name] = band
    predict_bands({name: scene[name][:8, :8] for name in names})  # tables are read once
    cases = {"LAI and flags, nominal angles": names, "LAI and flags, angle rasters": tuple(scene)}
    return [
        _time(case, {name: scene[name] for name in used}, repeats) for case, used in cases.items()
    ]


def _time(case: str, bands: dict[str, np.ndarray], repeats: int) -> Timing:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        predict_bands(bands)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()  # NumPy reports its arrays to it; not during the timing, it slows
    predict_bands(bands)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Timing(case, min(seconds), peak / 1e9)


def main() -> None:
    """Print the timings as a Markdown table."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else TILE_PX
    print(f"| SL2P 2_1, {side} x {side} px | seconds | GB above inputs |")
    print("| --- | --- | --- |")
    for timing in measure(side):
        print(f"| {timing.case} | {timing.seconds:.2f} | {timing.extra_gb:.2f} |")


if __name__ == "__main__":
    main()
