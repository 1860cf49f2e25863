"""Limits of scores by drawing whole groups of rows with replacement."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def score_draws(
    score: Callable[[Rows], Mapping[str, float]], draws: Iterable[Rows]
) -> dict[str, tuple[float, float]]:
    """Return the 2.5 and 97.5 percentile of each score over draws of rows.

    Args:
        score: scores by name of some rows; NaN where a draw has none.
        draws: numbers of the rows, a row as often as it is drawn.
    """
    scores = [score(rows) for rows in draws]
    limits = {}
    for name in scores[0]:
        values = [one[name] for one in scores]
        if np.isfinite(values).any():
            low, high = np.nanpercentile(values, [2.5, 97.5])
            limits[name] = (float(low), float(high))
    return limits
