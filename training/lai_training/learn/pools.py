"""Pools of patches on disk: simulated on demand, or real ones that `lai-train prepare` made.

A pool is read through a memory map, shape (n, 10, y, x), reflectance, NaN = no data, so no data set
need fit in memory.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lai_training.datasets.pool import open_prepared
from lai_training.learn.config import PoolConfig, PreparedConfig
from lai_training.simulation.landscapes import simulate_patches
from lai_training.simulation.spectral_library import SpectralLibrary, shipped_library
from lai_udf.atomic import new_files
from lai_udf.predict import BANDS

Floats = NDArray[np.float32]
Constants = dict[str, Any]
"""Of eq. 1 of the paper, as in `model.json`: `mean` and `std`, (10,) reflectance, and `limit`, at
which normalised values are cut."""
Progress = Callable[[int, int], None]
"""Called with (patches done, all)."""
SIMULATED_TOGETHER = 64
"""Patches."""
NORMALISATION_LIMIT = 8.0
"""What lies beyond is no land."""

logger = logging.getLogger("lai_training")


@dataclass(frozen=True, eq=False)
class Pool:
    """Patches, and what is known of them."""

    reflectance: Floats
    """(n, 10, y, x), float16 or float32, mapped; NaN = no data."""
    cosines: Floats | None = None
    """(n, 3) of the angles, as `samples.build_batch` takes them; None = drawn anew."""
    lai: Floats | None = None
    """(n, y, x) labels from elsewhere, m2 m-2, NaN = none; None = SL2P's."""


def load_pool(
    config: PoolConfig | PreparedConfig,
    pools: Path,
    progress: Progress | None = None,
    *,
    cores: int = 1,
) -> Pool:
    """Open a pool of real patches, or of simulated ones; simulate those where not there yet.

    `pools` is the folder in which simulated pools are kept, `cores` the processes that simulate.

    Raises:
        PrepareError: the pool of real patches is missing or damaged.
        OutputNotWritableError: `pools` refuses.
    """
    if isinstance(config, PreparedConfig):
        real = open_prepared(Path(config.prepared), config.split)
        from_elsewhere = real.manifest.settings["labels"] is not None
        return Pool(real.reflectance, real.cosines, real.lai if from_elsewhere else None)
    path = pools / f"patches-{config.patches}x{config.size_px}-seed{config.seed}.npy"
    if not path.exists():
        logger.info("simulating %d patches of %d px", config.patches, config.size_px)
        make_pool(path, shipped_library("training"), config, progress=progress, cores=cores)
    return Pool(np.load(path, mmap_mode="r"))


def make_pool(
    path: Path,
    library: SpectralLibrary,
    config: PoolConfig,
    *,
    progress: Progress | None = None,
    cores: int = 1,
) -> None:
    """Simulate a pool of clean patches into a float16 `.npy`, a few at a time, atomically.

    Half precision costs 0.05 % of the reflectance, and the label is made of what is stored. The
    pool is the same on any number of cores.
    """
    shape = (config.patches, len(BANDS), config.size_px, config.size_px)
    starts = range(0, config.patches, SIMULATED_TOGETHER)
    with new_files(path.parent) as work:
        unfinished = work / path.name
        np.lib.format.open_memmap(unfinished, mode="w+", dtype="float16", shape=shape).flush()
        simulate = partial(_simulate, unfinished, library, config.seed)
        spawn = get_context("spawn")  # a fork would copy the threads of a backend
        several = cores > 1 and len(starts) > 1
        with ProcessPoolExecutor(cores, spawn) if several else nullcontext() as simulators:
            counts = simulators.map(simulate, starts) if simulators else map(simulate, starts)
            for done in accumulate(counts):
                if progress:
                    progress(done, config.patches)


def _simulate(path: Path, library: SpectralLibrary, seed: int, start: int) -> int:
    """Simulate some patches into their rows of a pool; return how many."""
    pool = np.load(path, mmap_mode="r+")
    rows = pool[start : start + SIMULATED_TOGETHER]
    rng = np.random.default_rng((seed, start))
    rows[...] = simulate_patches(len(rows), rows.shape[-1], rng, library, patches_per_scene=4)
    return len(rows)


def measure_normalisation(pool: Floats) -> Constants:
    """Return mean and standard deviation per band over every tenth patch of the pool."""
    some = np.asarray(pool[::10], dtype="float64")
    return name_constants(np.nanmean(some, axis=(0, 2, 3)), np.nanstd(some, axis=(0, 2, 3)))


def measure_range(pool: Floats) -> Constants:
    """Return `normalise_by_range` with every tenth patch of the pool taken for an image."""
    some = np.asarray(pool[::10], dtype="float32")
    low, high = np.nanpercentile(some, (2, 98), axis=(2, 3))
    return normalise_by_range(np.nanmin(low, axis=0), np.nanmax(high, axis=0))


def normalise_by_range(lowest: ArrayLike, highest: ArrayLike) -> Constants:
    """Return eq. 1 as the paper has it: `lowest` becomes 0, `highest` 1, (10,) reflectance each.

    They are the smallest 2nd and the largest 98th percentile of any image.
    """
    low, high = (np.asarray(limits, dtype="float32") for limits in (lowest, highest))
    return name_constants(low, high - low)


def name_constants(mean: ArrayLike, std: ArrayLike) -> Constants:
    """Return constants as `model.json` holds them."""
    rounded = [
        [round(float(value), 6) for value in np.asarray(values, dtype="float32")]
        for values in (mean, std)
    ]
    return {"mean": rounded[0], "std": rounded[1], "limit": NORMALISATION_LIMIT}
