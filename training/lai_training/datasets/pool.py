"""Open a pool of real patches, as `lai-train fit` and analyses read it.

Input: the folder that `lai-train prepare` wrote. Output: arrays mapped from disk, so that no
pool need fit in memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lai_training.datasets.manifest import ARRAYS, MANIFEST, Manifest, read_manifest
from lai_training.errors import PrepareError

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PreparedPool:
    """One split of a prepared pool; rows of all arrays are the same patches."""

    reflectance: Floats
    """(n, 10, y, x) float16 reflectance, NaN where masked or without data."""
    lai: Floats
    """(n, y, x) float16 label, unclipped; NaN where the reflectance is."""
    flags: NDArray[np.uint8]
    """(n, y, x) SNAP's flag bits of the label."""
    cosines: Floats
    """(n, 3) float32: cosine of view zenith, sun zenith, relative azimuth."""
    corners: NDArray[np.int32]
    """(n, 2) row and column of the patch in its product."""
    manifest: Manifest
    """What is known of it."""


def open_prepared(folder: Path, split: str) -> PreparedPool:
    """Open a split of a prepared pool.

    Args:
        folder: what `lai-train prepare` wrote.
        split: `train`, `validation` or `test`.

    Raises:
        PrepareError: the folder holds no finished pool, the split is empty, or files are damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise PrepareError(
            f"{folder} holds no {MANIFEST}: make the pool with lai-train prepare CONFIG {folder}"
        )
    record = manifest.splits.get(split)
    if record is None or record.patches == 0:
        filled = {name: found.patches for name, found in manifest.splits.items() if found.patches}
        raise PrepareError(
            f"{folder} has no patches in the split {split} (patches: {filled}): prepare more "
            "products, or set validation_share, test_share or by in split of its config"
        )
    return PreparedPool(
        **{name: open_array(folder, manifest, split, name) for name in ARRAYS}, manifest=manifest
    )


def open_array(folder: Path, manifest: Manifest, split: str, name: str) -> NDArray[Any]:
    """Map one array of a split; raise `PrepareError` where the file does not fit the manifest."""
    record = manifest.splits[split]
    path = folder / record.folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise PrepareError(f"{path} is missing or damaged ({error}): prepare it anew") from error
    if len(array) != record.patches:
        raise PrepareError(
            f"{path} holds {len(array)} patches, the manifest says {record.patches}: prepare anew"
        )
    return array
