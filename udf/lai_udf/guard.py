"""Judge the scaling of a scene or series once, from a sample of all its pixels.

The rule itself is `lai_udf.predict.find_wrong_scaling`; here pixels are collected for it. Only
if the offset is not stated: known scaling is never doubted. Dates of one processing baseline are
judged together, for a single hazy date proves nothing; where the baseline is unknown, those before
and from 25 January 2022 on, when the offset came.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import xarray as xr
from rasterio.windows import Window

from lai_udf.predict import BANDS, LaiError, LaiInputError, find_wrong_scaling, to_reflectance
from lai_udf.scenes.source import SceneSource

OFFSET_DAY = "2022-01-25"
"""Day from which ESA delivers products of baseline 04.00 and later."""

MIN_DATES = 8
"""Dates of a part of a series that is judged by itself; fewer may all be hazy."""

STRIP_ROWS = 512
"""Rows of a scene that are read at a time."""

SAMPLED_PX = 2**14
"""Pixels that one window or date adds, about; rows and columns are skipped evenly."""


class ScalingSample:
    """Pixels of a scene, or of all dates of one processing baseline."""

    def __init__(self) -> None:
        self._reflectance: list[np.ndarray] = []
        self._scene_class: list[np.ndarray] = []

    def add(
        self, cube: xr.DataArray, scale: float = 1.0, offset: float | None = None
    ) -> "ScalingSample":
        """Add pixels of a cube (bands, y, x) of stored values; returns itself."""
        labels = [str(label) for label in cube["bands"].values]
        step = thinning(cube.sizes["y"], cube.sizes["x"])
        sample = cube.transpose("bands", "y", "x")[:, ::step, ::step].values
        stored = sample[[labels.index(band) for band in BANDS]].reshape(len(BANDS), -1)
        reflectance = to_reflectance(stored, scale, offset)
        if stored.dtype.kind != "f" or scale != 1:
            reflectance[:, (stored == 0).any(axis=0)] = np.nan  # no data of digital numbers
        self._reflectance.append(reflectance)
        if "SCL" in labels:
            self._scene_class.append(sample[labels.index("SCL")].ravel())
        return self

    @classmethod
    def join(cls, samples: Iterable["ScalingSample"]) -> "ScalingSample":
        """Return all pixels of several samples."""
        joined = cls()
        for sample in samples:
            joined._reflectance += sample._reflectance
            joined._scene_class += sample._scene_class
        return joined

    def verdict(self, *, offset_is_known: bool) -> LaiInputError | None:
        """Return what is wrong with the scaling of all pixels together, or None."""
        if not self._reflectance:
            return None
        with_classes = len(self._scene_class) == len(self._reflectance)
        return find_wrong_scaling(
            np.concatenate(self._reflectance, axis=1),
            np.concatenate(self._scene_class) if with_classes else None,
            offset_is_known=offset_is_known,
        )


def thinning(height: int, width: int) -> int:
    """Return how many rows and columns go on one that is sampled."""
    return int(np.ceil(np.sqrt(max(1, height * width / SAMPLED_PX))))


def judge(sources: Sequence[SceneSource], *, even_known: bool = False) -> dict[int, LaiError]:
    """Return the error of each scene, by its position, that cannot be read or is scaled wrongly.

    Args:
        sources: the scenes.
        even_known: judge the scale, not the offset, where both are known, too: for scenes of which
            no pixel could be used.
    """
    samples: dict[tuple[str, bool], dict[int, ScalingSample]] = defaultdict(dict)
    refused: dict[int, LaiError] = {}
    for number, source in enumerate(sources):
        if source.scaling_is_known and not even_known:
            continue
        baseline = era(source.metadata.processing_baseline, source.metadata.datetime)
        group = baseline, source.offset_is_known
        sample = ScalingSample()
        try:
            for start in range(0, source.grid.height, STRIP_ROWS):
                rows = min(STRIP_ROWS, source.grid.height - start)
                sample.add(source.read(Window(0, start, source.grid.width, rows)))
        except LaiError as error:
            refused[number] = error
        else:
            samples[group][number] = sample
    for (_, known), judged in samples.items():
        in_time = dict(sorted(judged.items(), key=lambda one: sources[one[0]].metadata.datetime))
        for number, wrong in judge_in_time(in_time, offset_is_known=known).items():
            refused[number] = locate(wrong, sources[number].name)
    return refused


def judge_in_time(
    samples: Mapping[int, ScalingSample], *, offset_is_known: bool = False
) -> dict[int, LaiInputError]:
    """Return the error of each date, by its number, of a series in the order of time.

    All dates together, then each half by itself, as long as it has enough dates: where the scaling
    changes within a series, all of them together look right.
    """
    numbers = list(samples)
    joined = ScalingSample.join(samples.values())
    wrong = joined.verdict(offset_is_known=offset_is_known)
    if wrong is not None:
        return dict.fromkeys(numbers, wrong)
    half = len(numbers) // 2
    if half < MIN_DATES:
        return {}
    wrong_of: dict[int, LaiInputError] = {}
    for part in (numbers[:half], numbers[half:]):
        own = {number: samples[number] for number in part}
        wrong_of |= judge_in_time(own, offset_is_known=offset_is_known)
    return wrong_of


def era(baseline: str, datetime: str) -> str:
    """Return what scenes of one scaling have in common: the baseline, or the time before it."""
    return baseline or ("later" if datetime[:10] >= OFFSET_DAY else "earlier")


def locate(error: LaiInputError, where: str) -> LaiInputError:
    """Return the same error with the name of the scene in front of its problem."""
    return LaiInputError(
        f"{where}: {error.problem}" if error.problem else "",
        parameter=error.parameter,
        value=error.value,
        expected=error.expected,
    )
