"""Judge the scaling of a scene or series once, from a sample of all its pixels.

The rule itself is `lai_udf.predict.find_wrong_scaling`; here pixels are collected for it. Only
if the offset is not stated: known scaling is never doubted. Dates of one processing baseline are
judged together, for a single hazy date proves nothing; where the baseline is unknown, those before
and from 25 January 2022 on, when the offset came.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from rasterio.windows import Window

from lai_udf.predict import BANDS, LaiError, LaiInputError, find_wrong_scaling
from lai_udf.scenes.source import SceneSource

OFFSET_DAY = "2022-01-25"  # day from which ESA delivers products of baseline 04.00 and later

MIN_DATES = 8  # dates of a part of a series that is judged by itself; fewer may all be hazy

STRIP_ROWS = 512  # rows of a scene that are read at a time

SAMPLED_PX = 2**14  # pixels that one window or date adds, about

Sample = npt.NDArray[np.float32]
"""Pixels (10 or 11, n): reflectance of `BANDS` and, where there are any, scene classes."""


def sample_pixels(cube: xr.DataArray) -> Sample:
    """Return pixels of a cube of reflectance (bands, y, x), rows and columns skipped evenly."""
    labels = [str(label) for label in cube["bands"].values]
    step = thinning(cube.sizes["y"], cube.sizes["x"])
    values = cube.transpose("bands", "y", "x")[:, ::step, ::step].values
    wanted = [*BANDS, *(["SCL"] if "SCL" in labels else [])]
    sample: Sample = values[[labels.index(band) for band in wanted]].reshape(len(wanted), -1)
    return sample


def join(samples: Iterable[Sample]) -> Sample:
    """Return all pixels of several samples; without classes where one of them has none."""
    parts = list(samples)
    rows = min(len(part) for part in parts)
    return np.concatenate([part[:rows] for part in parts], axis=1)


def thinning(height: int, width: int) -> int:
    """Return how many rows and columns go on one that is sampled."""
    return int(np.ceil(np.sqrt(max(1, height * width / SAMPLED_PX))))


def judge(sources: Sequence[SceneSource], *, even_known: bool = False) -> dict[int, LaiError]:
    """Return the error of each scene, by its position, that cannot be read or is scaled wrongly.

    `even_known`: judge the scale, not the offset, where both are known, too: for scenes of which no
    pixel could be used.
    """
    samples: dict[tuple[str, bool, float], dict[int, Sample]] = defaultdict(dict)
    refused: dict[int, LaiError] = {}
    in_time = sorted(enumerate(sources), key=lambda one: one[1].metadata.datetime)
    for number, source in in_time:
        if source.scaling_is_known and not even_known:
            continue
        baseline = era(source.metadata.processing_baseline, source.metadata.datetime)
        grid, strips = source.grid, range(0, source.grid.height, STRIP_ROWS)
        try:
            sample = join(
                sample_pixels(
                    source.read(Window(0, start, grid.width, min(STRIP_ROWS, grid.height - start)))
                )
                for start in strips
            )
        except LaiError as error:
            refused[number] = error
        else:
            group = baseline, source.offset_is_known, source.scalings[0].scale
            samples[group][number] = sample
    for (_, known, scale), judged in samples.items():
        found = judge_in_time(judged, offset_is_known=known, scale=scale)
        refused |= {number: locate(wrong, sources[number].name) for number, wrong in found.items()}
    return refused


def judge_in_time(
    samples: Mapping[int, Sample], *, offset_is_known: bool = False, scale: float = 1.0
) -> dict[int, LaiInputError]:
    """Return the error of each date, by its number, of a series in the order of time.

    All dates together, then each half by itself, as long as it has enough dates: where the scaling
    changes within a series, all of them together look right.
    """
    numbers = list(samples)
    pixels = join(samples.values())
    classes = pixels[len(BANDS)] if len(pixels) > len(BANDS) else None
    wrong = find_wrong_scaling(
        pixels[: len(BANDS)], classes, offset_is_known=offset_is_known, scale=scale
    )
    if wrong is not None:
        return dict.fromkeys(numbers, wrong)
    half = len(numbers) // 2
    found: dict[int, LaiInputError] = {}
    for part in (numbers[:half], numbers[half:]) if half >= MIN_DATES else ():
        own = {number: samples[number] for number in part}
        found |= judge_in_time(own, offset_is_known=offset_is_known, scale=scale)
    return found


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
