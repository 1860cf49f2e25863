"""Judge the scaling of a scene or series once, from a sample of all its pixels.

Only if the offset is not stated: known scaling is never doubted. Dates of one processing baseline
are judged together, for a single hazy date proves nothing; where the baseline is unknown, those
before and from 25 January 2022 on, when the offset came.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from rasterio.windows import Window

from lai_udf.errors import name_as_keyword
from lai_udf.predict import BANDS, MAX_REFLECTANCE, VISIBLE_BANDS, LaiError, LaiInputError
from lai_udf.scenes.cubes import Cube
from lai_udf.scenes.source import LOG, SceneSource

OFFSET_DAY = "2022-01-25"  # day from which ESA delivers products of baseline 04.00 and later
MIN_DATES = 8  # dates of a part of a series that is judged by itself; fewer may all be hazy
STRIP_ROWS = 512  # rows of a scene that are read at a time
CLEAR_SCENE_CLASSES = (2, 4, 5, 6, 7)
MIN_JUDGED_PX = 64  # fewer pixels, at the edge of a swath, prove nothing about the scaling
SAMPLED_PX = 2**14  # pixels that one window or date adds, about
Sample = npt.NDArray[np.float32]
"""Pixels (10 or 11, n): reflectance of `BANDS` and, where there are any, scene classes."""


def find_wrong_scaling(
    reflectance: npt.NDArray[Any],
    scene_class: npt.NDArray[Any] | None = None,
    *,
    offset_is_known: bool = False,
    scale: float = 1.0,
) -> LaiInputError | None:
    """Judge the scaling of a whole scene, or of all dates of one processing baseline together.

    To be asked once, never of a chunk: a single hazy date or window proves nothing.

    A forgotten offset of -1000 digital numbers shifts every band by +0.1 and LAI by -0.76. It
    shows as vegetation without a dark pixel: where a scene has leaves, some pixel is dark in the
    visible. Haze hides that too, but brightens blue before the short-wave infrared.

    Args:
        reflectance: (10, ...) in the order of `BANDS`, before anything implausible is taken out;
            NaN = no data.
        scene_class: SCL of the same pixels, if there is one: hidden pixels are left out.
        offset_is_known: by metadata or the caller; the offset is then not judged.
        scale: by which stored numbers were multiplied; what should be set instead follows from it.

    Returns:
        The error that names the parameter to set, or None.
    """
    pixels = reflectance.reshape(len(BANDS), -1)
    seen = np.isfinite(pixels).all(axis=0)
    if scene_class is not None:
        seen &= np.isin(scene_class.reshape(-1), CLEAR_SCENE_CLASSES)
    pixels = pixels[:, seen]
    if pixels.shape[1] < MIN_JUDGED_PX:
        return None
    spread = f"reflectance from {pixels.min():g} to {pixels.max():g}"
    typical = float(np.median(pixels[BANDS.index("B8A")]))
    name, percent = "reflectance_scale", 10 < typical <= 100
    if typical > MAX_REFLECTANCE:
        return LaiInputError(
            f"{spread} looks like {'percent' if percent else 'digital numbers'}",
            parameter=name,
            expected=f"{scale * (1e-2 if percent else 1e-4):g}",
        )
    if float(pixels.max()) < 2e-4:
        return LaiInputError(f"{spread}: the scale is applied twice", parameter=name, expected="1")
    if offset_is_known:
        return None
    if float(np.median(pixels.min(axis=0))) < -0.02:
        return LaiInputError(
            f"{spread}: the offset is applied twice", parameter="reflectance_offset", expected="0"
        )
    blue, red, near_infrared, short_wave = (
        pixels[BANDS.index(band)] for band in ("B02", "B04", "B08", "B12")
    )
    leaves = near_infrared - red > 0.25 * (near_infrared + red)  # NDVI; an offset lowers it
    visible = pixels[: len(VISIBLE_BANDS)].min(axis=0)
    if (
        leaves.mean() >= 0.05
        and float(np.quantile(visible, 0.01)) > 0.095
        and float(np.median((blue - short_wave)[leaves])) < -0.02
    ):
        return LaiInputError(
            f"{spread}, and no pixel is dark in the visible although there is vegetation: the "
            "offset of processing baseline 04.00 was forgotten",
            parameter="reflectance_offset",
            expected="-0.1 (-1000 in digital numbers), or to 0 if there is none",
        )
    return None


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
        group = baseline, source.offset_is_known, source.scalings[0].scale
        height, width = source.grid.shape
        strips = (
            Window(0, start, width, min(STRIP_ROWS, height - start))
            for start in range(0, height, STRIP_ROWS)
        )
        try:
            samples[group][number] = join(sample_pixels(source.read(strip)) for strip in strips)
        except LaiError as error:
            refused[number] = error
    for (_, offset_is_known, scale), judged in samples.items():
        wrong = judge_in_time(judged, offset_is_known=offset_is_known, scale=scale)
        refused |= {number: locate(error, sources[number].name) for number, error in wrong.items()}
    return refused


def judge_in_time(
    samples: Mapping[int, Sample], *, offset_is_known: bool = False, scale: float = 1.0
) -> dict[int, LaiInputError]:
    """Return the error of each date, by its number, of a series in the order of time.

    All dates together, then each half by itself, as long as it has enough dates: where the scaling
    changes within a series, all of them together look right.
    """
    how: dict[str, Any] = {"offset_is_known": offset_is_known, "scale": scale}
    numbers, pixels = list(samples), join(samples.values())
    classes = pixels[len(BANDS)] if len(pixels) > len(BANDS) else None
    error = find_wrong_scaling(pixels[: len(BANDS)], classes, **how)
    if error is not None:
        return dict.fromkeys(numbers, error)
    half = len(numbers) // 2
    wrong: dict[int, LaiInputError] = {}
    for part in (numbers[:half], numbers[half:]) if half >= MIN_DATES else ():
        wrong |= judge_in_time({number: samples[number] for number in part}, **how)
    return wrong


def group_dates(cube: Cube) -> list[list[int]]:
    """Return the dates that are judged together."""
    eras: dict[str, list[int]] = {}
    dates = range(cube.size) if cube.times is None else np.argsort(cube.times, kind="stable")
    for date in map(int, dates):
        time = "" if cube.times is None else str(cube.times[date])
        origin = cube.planes[BANDS[0]].scaling(date).found
        eras.setdefault(era(origin if "baseline" in origin else "", time), []).append(date)
    return list(eras.values())


def judge_dates(
    array: xr.DataArray, groups: list[list[int]], *, offset_is_known: bool, scale: float
) -> dict[int, LaiInputError]:
    """Return what is wrong with the scaling of dates of reflectance (t, bands, y, x), by group."""
    wrong: dict[int, LaiInputError] = {}
    for group in groups:
        samples = {date: sample_pixels(array.isel(t=date)) for date in group}
        wrong |= judge_in_time(samples, offset_is_known=offset_is_known, scale=scale)
    return wrong


def report_wrong(wrong: Mapping[int, LaiInputError], count: int) -> None:
    """Raise where every date is wrong, warn where some are."""
    for error in dict.fromkeys(wrong.values()):
        if len(wrong) == count:
            raise name_as_keyword(locate(error, "the cube"))
        dates = sum(other is error for other in wrong.values())
        LOG.warning("%d of %d dates have no LAI: %s", dates, count, name_as_keyword(error))


def era(baseline: str, datetime: str) -> str:
    """Return what scenes of one scaling have in common: the baseline, or the time before it."""
    return baseline or ("later" if datetime[:10] >= OFFSET_DAY else "earlier")


def locate(error: LaiInputError, where: str) -> LaiInputError:
    """Return the same error with the name of the scene in front of its problem."""
    problem = f"{where}: {error.problem}" if error.problem else ""
    fields = {name: getattr(error, name) for name in ("parameter", "value", "expected")}
    return LaiInputError(problem, **fields)
