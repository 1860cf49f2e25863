"""Two simulators of fields in time, on the dates and under the clouds of a real series.

`prosail`: spectra of PROSAIL canopies of each field. `mixed`: a soil and a canopy of the real
series, mixed by the gap fraction. LAI of a spectrum is SL2P's, as in the product, so that noise and
clouds reach LAI the way they do in reality. Noise is that of real clear pixels: small, and common
to neighbouring bands.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.spectra.prosail import draw_canopy_parameters, simulate_reflectance
from lai_training.sl2p import predict_bands

Floats = NDArray[np.float64]
Kind = Literal["crop", "harvest", "grass"]
Simulator = Literal["prosail", "mixed"]

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
EVIDENCE = ("B02", "B04", "B8A", "B11")
LAI_GRID = np.array([0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8.0])
MAX_LAI = 8.0  # beyond, SL2P extrapolates: such fields are drawn again
MIN_OUTLIER = 0.5  # a cloud that changes LAI by less is no outlier


@dataclass(frozen=True)
class RealSeries:
    """A real series: what the simulators borrow from it."""

    days: Floats
    """(t,) days since 1970."""
    reflectance: NDArray[np.float32]
    """(t, 10, y, x)."""
    classes: NDArray[np.int64]
    """(t, y, x) SCL."""

    def take(self, dates: NDArray[Any]) -> "RealSeries":
        """Return some of the dates."""
        return RealSeries(*(getattr(self, field.name)[dates] for field in fields(self)))


@dataclass(frozen=True)
class Fields:
    """Simulated fields, n of them."""

    days: Floats
    """(t,) of the acquisitions."""
    bands: dict[str, Floats]
    """What goes into `lai_udf.series`, (t, n) each."""
    daily: Floats
    """True LAI (SL2P's, without noise) of each day from the first acquisition on, (days, n)."""
    again: Floats
    """LAI of one more clear acquisition on each of those days, (days, n)."""
    falls: list[list[float]]
    """Days of cuts and harvests of each field."""
    touched: NDArray[np.bool_]
    """(t, n): cloud was mixed in."""
    outlier: NDArray[np.bool_]
    """(t, n): and changed LAI by more than `MIN_OUTLIER`."""
    usable: NDArray[np.bool_]
    """(t, n): by the scene classes."""

    @property
    def truth(self) -> Floats:
        """True LAI of the acquisitions, (t, n)."""
        truth: Floats = self.daily[(self.days - self.days[0]).astype(int)]
        return truth


def draw_courses(
    kind: Kind, count: int, days: Floats, rng: np.random.Generator
) -> tuple[Floats, list[list[float]]]:
    """Draw canopy LAI by day (days, n) and the days of cuts or harvest of each field."""
    season = (days - 17_532) % 365.25  # 17,532: 1 January 2018
    courses, falls = np.empty((len(days), count)), []
    for number in range(count):
        course, moments = (_grass if kind == "grass" else _crop)(season, kind, rng)
        courses[:, number] = course
        falls.append([float(days[moment]) for moment in moments])
    return courses, falls


def _logistic(x: Any) -> Any:  # noqa: ANN401 - number or array
    return 1 / (1 + np.exp(-x))


def _grass(season: Floats, _kind: Kind, rng: np.random.Generator) -> tuple[Floats, list[int]]:
    top, stubble = rng.uniform(2.2, 4.8), rng.uniform(0.5, 1.1)
    uncut = 0.8 + (top - 0.8) * _logistic((season - 85) / 12) * _logistic((300 - season) / 15)
    cuts, cut = [], rng.uniform(118, 150)
    while cut < 285:
        cuts.append(cut)
        cut += rng.uniform(30, 60)
    rate, course = rng.uniform(0.10, 0.20), uncut.copy()
    for day, moment in enumerate(season):
        past = [each for each in cuts if moment >= each]
        if past:
            first = _logistic(-18 * rate)
            grown = (_logistic(rate * (moment - past[-1] - 18)) - first) / (1 - first)
            course[day] = stubble + (max(uncut[day], stubble) - stubble) * np.clip(grown, 0, 1)
    return course, _crossings(season, cuts)


def _crop(season: Floats, kind: Kind, rng: np.random.Generator) -> tuple[Floats, list[int]]:
    winter = rng.random() < 0.5
    base, top = rng.uniform(0.1, 0.6), rng.uniform(2.5, 6.5)
    up = rng.uniform(85, 115) if winter else rng.uniform(135, 165)
    down = rng.uniform(175, 200) if winter else rng.uniform(230, 265)
    rise, fall = rng.uniform(7, 13), rng.uniform(4, 11)
    course = base + (top - base) * _logistic((season - up) / rise) * _logistic(
        (down - season) / fall
    )
    if winter:
        course = np.maximum(course, base + rng.uniform(0.3, 1) * ((season < up) | (season > 300)))
    if kind != "harvest":
        return course, []
    harvest, stubble = down + rng.uniform(-8, 6), rng.uniform(0.1, 0.4)
    bare = (season >= harvest) & (season < harvest + 60)
    return np.where(bare, np.minimum(course, stubble), course), _crossings(season, [harvest])


def _crossings(season: Floats, moments: list[float]) -> list[int]:
    before, after = season[:-1, None], season[1:, None]
    crossed = ((before < np.array(moments)) & (after >= np.array(moments))).any(axis=1)
    return [int(day) + 1 for day in np.flatnonzero(crossed)]


def tabulate_prosail(count: int, rng: np.random.Generator) -> Floats:
    """Return spectra (n, LAI, 10) of canopies that differ from field to field, over their soil."""
    size = len(LAI_GRID)
    drawn = draw_canopy_parameters(count, rng)
    repeated = drawn.take(np.repeat(np.arange(count), size))
    values = {field.name: getattr(repeated, field.name) for field in fields(repeated)}
    values["lai"] = np.tile(LAI_GRID, count)
    values["brown_pigment"] = np.zeros(count * size)
    values["soil_brightness"] = np.repeat(rng.uniform(0.6, 1.4, count), size)
    soil, one = np.repeat(rng.integers(0, 7, count), size), np.ones(count * size)
    spectra = simulate_reflectance(type(drawn)(**values), 45 * one, 5 * one, 90 * one, soil)
    return spectra.reshape(count, size, len(BANDS)).astype("float64")


def tabulate_mixed(count: int, rng: np.random.Generator, real: RealSeries, lai: Floats) -> Floats:
    """Return spectra (n, LAI, 10): a real soil seen through the gaps of a real canopy."""
    clear = np.isin(real.classes, (4, 5)) & (real.reflectance[:, 0] < 0.09)
    clear &= (np.isin(real.classes, (4, 5)).mean(axis=(1, 2)) > 0.8)[:, None, None]
    red, infrared = real.reflectance[:, 2], real.reflectance[:, 7]
    ndvi = (infrared - red) / (infrared + red)
    canopies = np.argwhere(clear & (ndvi > 0.88) & (lai > 3))
    soils = np.argwhere(clear & (ndvi < 0.3) & (infrared > 0.12))
    cover = 1 - np.exp(-0.55 * LAI_GRID)[:, None]
    gain = np.array([0, 0, 0, 0.3, 1, 1, 1, 1, 0.2, 0])  # dense canopies still brighten
    spectra = np.empty((count, len(LAI_GRID), len(BANDS)))
    for number in range(count):
        canopy, soil = (
            real.reflectance[t, :, y, x]
            for t, y, x in (each[rng.integers(len(each))] for each in (canopies, soils))
        )
        dense = 1 + 0.04 * np.maximum(LAI_GRID - 4, 0)[:, None] * gain
        spectra[number] = ((1 - cover) * soil + cover * canopy) * dense
    return spectra


def estimate(spectra: Floats) -> tuple[Floats, NDArray[np.uint8]]:
    """Return SL2P's LAI and flags of spectra (t, 10, n) at nominal angles."""
    values, flags = predict_bands({band: spectra[:, i] for i, band in enumerate(BANDS)})
    return values.astype("float64"), flags


def add_noise(spectra: Floats, rng: np.random.Generator) -> Floats:
    """Add the noise of clear pixels: visible additive, the others relative, mostly common."""
    noisy, (dates, _, count) = spectra.copy(), spectra.shape

    def draw(sd: float, bands: int) -> Floats:
        return rng.normal(0, sd, (dates, bands, count))

    noisy[:, :3] += draw(0.004, 1) + draw(0.001, 3)
    noisy[:, 3:8] *= 1 + draw(0.015, 1) + draw(0.006, 5)
    noisy[:, 8:] *= 1 + draw(0.012, 1) + draw(0.006, 2)
    return noisy


def add_clouds(
    spectra: Floats, touched: NDArray[np.bool_], real: RealSeries, rng: np.random.Generator
) -> Floats:
    """Mix real clouds (nine in ten) or a shadow into single dates of single fields."""
    bright = np.isin(real.classes, (8, 9, 10)) & (real.reflectance[:, 0] > 0.08)
    clouds = np.argwhere(bright & (real.reflectance.min(axis=1) > 0))
    shade = np.array([0.55, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.95, 1, 1])
    cloudy = spectra.copy()
    for date, number in np.argwhere(touched):
        if rng.random() < 0.1:
            cloudy[date, :, number] *= 1 - rng.uniform(0.18, 0.6) * shade
            continue
        t, y, x = clouds[rng.integers(len(clouds))]
        share = rng.uniform(0.08, 0.7)
        cloud = real.reflectance[t, :, y, x]
        cloudy[date, :, number] = (1 - share) * cloudy[date, :, number] + share * cloud
    return cloudy


def simulate(
    kind: Kind,
    count: int,
    seed: int,
    simulator: Simulator,
    real: RealSeries,
    real_lai: Floats,
    cloudy_share: float = 0.1,
) -> Fields:
    """Simulate fields on the dates of a real series.

    Args:
        kind: crop without an abrupt fall, crop harvested green, or mown grass.
        count: fields.
        seed: of everything drawn.
        simulator: see the top.
        real: dates, scene classes and clouds.
        real_lai: (t, y, x), of `real`.
        cloudy_share: of the usable dates that get a cloud that the scene classes missed.
    """
    drawn = _draw(kind, 2 * count, seed, simulator, real, real_lai, cloudy_share)
    kept = np.flatnonzero(drawn.daily.max(axis=0) < MAX_LAI)[:count]
    return Fields(
        days=drawn.days,
        bands={name: band[:, kept] for name, band in drawn.bands.items()},
        daily=drawn.daily[:, kept],
        again=drawn.again[:, kept],
        falls=[drawn.falls[number] for number in kept],
        touched=drawn.touched[:, kept],
        outlier=drawn.outlier[:, kept],
        usable=drawn.usable[:, kept],
    )


def _draw(
    kind: Kind,
    count: int,
    seed: int,
    simulator: Simulator,
    real: RealSeries,
    real_lai: Floats,
    cloudy_share: float,
) -> Fields:
    rng = np.random.default_rng(seed)
    days = np.arange(real.days[0], real.days[-1] + 1)
    courses, falls = draw_courses(kind, count, days, rng)
    table = (
        tabulate_prosail(count, rng)
        if simulator == "prosail"
        else tabulate_mixed(count, rng, real, real_lai)
    )
    spectra = np.empty((len(days), len(BANDS), count))
    for number in range(count):
        for band in range(len(BANDS)):
            column = np.interp(courses[:, number], LAI_GRID, table[number, :, band])
            spectra[:, band, number] = column
    daily, _ = estimate(spectra)
    clean = add_noise(spectra[(real.days - real.days[0]).astype(int)], rng)
    side = real.classes.shape[1:]
    rows, columns = rng.integers(0, side[0], count), rng.integers(0, side[1], count)
    classes = real.classes[:, rows, columns]
    usable = np.isin(classes, (4, 5))
    touched = usable & (rng.random(usable.shape) < cloudy_share)
    again, _ = estimate(add_noise(spectra, rng))
    observed = add_clouds(clean, touched, real, rng)
    lai, flags = estimate(observed)
    bands = {name: observed[:, BANDS.index(name)] for name in EVIDENCE}
    bands |= {"LAI": np.where(usable, lai, np.nan), "LAI_FLAGS": (flags & 31).astype(float)}
    return Fields(
        days=real.days,
        bands=bands | {"SCL": classes.astype(float)},
        daily=daily,
        again=again,
        falls=falls,
        touched=touched,
        outlier=touched & (np.abs(lai - estimate(clean)[0]) > MIN_OUTLIER),
        usable=usable,
    )
