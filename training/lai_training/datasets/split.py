"""Which patches are for training, which for validation and test; and how much leaks between them.

Input: names of products and corners of patches. Output: a split per patch, the same for the
same product whatever else is in the pool.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lai_training.datasets.config import SPLITS, SplitRule
from lai_training.datasets.manifest import Leakage

Corners = NDArray[np.int32]
NOTES = {
    "patch": "Random patches, as in the paper (section 4.3): validation and test patches lie "
    "among training patches of the same scene, so their scores are those of interpolation.",
    "tile_date": "Scenes are whole; the same place may be in training at another date.",
    "date": "Days are whole; the same place may be in training on another day.",
    "tile": "Tiles are whole. Neighbouring tiles overlap by 10 km.",
}


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
    trained_places = {
        (name, *corner) for name, splits in places for corner in _list(splits, "train")
    }
    held_out = touching = same_place = 0
    steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    for name, splits in places:
        trained_here = set(_list(splits, "train"))
        for split in SPLITS[1:]:
            for row, column in _list(splits, split):
                around = {(row + r * patch_px, column + c * patch_px) for r, c in steps}
                held_out += 1
                touching += not around.isdisjoint(trained_here)
                same_place += (name, row, column) in trained_places
    share = 1 / max(held_out, 1)
    return Leakage(
        touching=round(touching * share, 4), same_place=round(same_place * share, 4), note=note
    )


def _list(splits: Mapping[str, Corners], split: str) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in splits.get(split, ())]
