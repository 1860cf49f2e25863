"""Divide a pool of real patches, and open it, as `lai-train fit` and analyses read it.

Input: the folder that `lai-train prepare` wrote, a part per product. Output: the patches of a split
as arrays whose rows are read from disk when they are asked for, so that no pool need fit in memory.
The split of a patch follows from its names, the same whatever else is in the pool.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lai_training.datasets.config import SPLITS, SplitRule
from lai_training.datasets.manifest import (
    ARRAYS,
    MANIFEST,
    Leakage,
    Manifest,
    ProductRecord,
    read_manifest,
)
from lai_training.errors import PrepareError

Corners = NDArray[np.int32]


def assign_splits(
    rule: SplitRule,
    *,
    tile: str,
    date: str,
    product_id: str,
    corners: Corners,
    prescribed: str | None = None,
) -> NDArray[np.str_]:
    """Return the split of each patch of a product, (n,), by a hash of its names.

    The name of the product matters for the rule `patch` only, with its corners, (n, 2) row and
    column; `prescribed` is the split of all patches, whatever the rule.
    """
    if prescribed is not None:
        return np.full(len(corners), prescribed)
    if rule.by == "patch":
        names = [f"{product_id}:{row}:{column}" for row, column in corners]
    else:
        together = {"tile_date": f"{tile}:{date}", "tile": tile, "date": date}
        names = [together[rule.by]] * len(corners)
    drawn = np.array([_draw(f"{rule.seed}:{name}") for name in names])
    limits = [rule.validation_share, rule.validation_share + rule.test_share]
    names_of_splits = np.array([SPLITS[1], SPLITS[2], SPLITS[0]])
    return np.asarray(names_of_splits[np.searchsorted(limits, drawn, side="right")])


def _draw(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def measure_leakage(
    places: Sequence[tuple[str, Mapping[str, Corners]]], patch_px: int, note: str
) -> Leakage:
    """Measure how much of the land of validation and test was trained on.

    `places` hold for each product its tile and grid as one name, and its corners by split;
    `patch_px` is the side of a patch, so that neighbours are known.
    """
    trained = [set(map(tuple, splits.get("train", ()))) for _, splits in places]
    trained_places = {
        (name, *corner) for (name, _), here in zip(places, trained, strict=True) for corner in here
    }
    held_out = touching = same_place = 0
    steps = [(r * patch_px, c * patch_px) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]
    for (name, splits), here in zip(places, trained, strict=True):
        for row, column in (corner for split in SPLITS[1:] for corner in splits.get(split, ())):
            held_out += 1
            touching += not here.isdisjoint((row + r, column + c) for r, c in steps)
            same_place += (name, row, column) in trained_places
    shares = [round(count / max(held_out, 1), 4) for count in (touching, same_place)]
    return Leakage(touching=shares[0], same_place=shares[1], note=note)


Array = NDArray[Any]


class Rows:
    """Rows of several arrays as one, read when they are asked for."""

    def __init__(self, arrays: Sequence[Array], rows: Sequence[NDArray[np.intp]]) -> None:
        """Take of each array some rows."""
        self._arrays = arrays
        self._places = [(n, row) for n, some in enumerate(rows) for row in some]
        self.shape = (len(self._places), *arrays[0].shape[1:])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: Any) -> Array:  # noqa: ANN401  (what NumPy takes: one row, or some)
        first, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(first, int | np.integer):
            number, row = self._places[first]
            return np.asarray(self._arrays[number][(row, *rest)])
        some = np.arange(len(self))[first]
        return np.stack([self[(row, *rest)] for row in some])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:  # noqa: ANN401
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True, eq=False)
class PreparedPool:
    """One split of a prepared pool; rows of all arrays are the same patches."""

    reflectance: Any
    """(n, 10, y, x) float16 reflectance, NaN where masked or without data; `Rows`."""
    lai: Any
    """(n, y, x) float16 label, unclipped; NaN where the reflectance is; `Rows`."""
    flags: Any
    """(n, y, x) SNAP's flag bits of the label; `Rows`."""
    cosines: NDArray[np.float32]
    """(n, 3): cosine of view zenith, sun zenith, relative azimuth."""
    corners: NDArray[np.int32]
    """(n, 2) row and column of the patch in its product."""
    manifest: Manifest
    """What is known of it."""


def open_prepared(folder: Path, split: str) -> PreparedPool:
    """Open a split (`train`, `validation`, `test`) of what `lai-train prepare` wrote.

    Raises `PrepareError` where the folder holds no finished pool, the split is empty, or files are
    damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise PrepareError(
            f"{folder} holds no {MANIFEST}: make the pool with lai-train prepare CONFIG {folder}"
        )
    products = [product for product in manifest.products if split in product.patches]
    if not products:
        filled = {
            name: record.patches for name, record in manifest.splits.items() if record.patches
        }
        raise PrepareError(
            f"{folder} has no patches in the split {split} (patches: {filled}): prepare more "
            "products, or set validation_share, test_share or by in split of its config"
        )
    rule = SplitRule.model_validate(manifest.settings["split"])
    opened = [{name: open_array(folder, each, name) for name in ARRAYS} for each in products]
    splits = [
        divide(each, rule, part["corners"]) for each, part in zip(products, opened, strict=True)
    ]
    rows = [np.flatnonzero(names == split) for names in splits]
    arrays = {name: Rows([part[name] for part in opened], rows) for name in ARRAYS}
    cosines, corners = (np.array(arrays.pop(name)) for name in ("cosines", "corners"))
    return PreparedPool(**arrays, cosines=cosines, corners=corners, manifest=manifest)


def divide(product: ProductRecord, rule: SplitRule, corners: Array) -> NDArray[np.str_]:
    """Return the split of each patch of a product, which follows from its names, (n,)."""
    return assign_splits(
        rule,
        tile=product.tile,
        date=product.date,
        product_id=product.product_id,
        corners=corners,
        prescribed=next(iter(product.patches)) if len(product.patches) == 1 else None,
    )


def open_array(folder: Path, product: ProductRecord, name: str) -> Array:
    """Map an array of a product; raise `PrepareError` where the file does not fit its record."""
    path = folder / product.folder / f"{name}.npy"
    try:
        array: Array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise PrepareError(f"{path} is missing or damaged ({error}): prepare it anew") from error
    if len(array) != (count := sum(product.patches.values())):
        raise PrepareError(
            f"{path} holds {len(array)} patches, the manifest states {count}: prepare anew"
        )
    return array
