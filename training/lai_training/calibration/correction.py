"""The correction of SL2P towards field measurements: a Gaussian process in a small network.

Input: `Measurements`. Output: the `correction` block of `model.json`, which
`lai_udf.predict.work_out_change` evaluates; here it is only fitted.

A Gaussian process over the roots of six bands and the sun's zenith explains measured minus SL2P.
Its likelihood models that rows of a site-date share a part of their error and that sources have
noise of their own: GROUNDED EO's grows with LAI, so its points decide over sparse vegetation, where
they agree, and hardly over forests. The kernel is short and its mean is 0: far from all field data
SL2P stays as it is, which is what helps in regions never seen. Numbers were chosen by leaving
site-dates and countries out; neighbours of them do as well (a plateau, not a peak).

The process needs all its points at every pixel, so a layer of tanh units is fitted to its mean over
the measured spectra, their surroundings and mixtures: 32 units, 0.2 s a tile.

Sources: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, ch. 2; the shared
error: Pinheiro and Bates 2000, Mixed-Effects Models in S and S-PLUS, ch. 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize

from lai_training.calibration.measurements import GROUNDED, PAIRS, WHEAT, Floats, Measurements
from lai_udf.predict import BANDS

CORRECTION_BANDS = tuple(band for band in BANDS if band not in ("B02", "B06", "B07", "B08"))
SUN_WEIGHT = 0.8
"""Of the sun's zenith in the distance of two spectra, beside bands of weight 1."""
CONSTANT_VARIANCE = 0.01
"""Of a constant that all residuals share, m4 m-4 of LAI; small: far away SL2P stays."""
L2 = 1e-5
"""Penalty of the squared weights of the network, per unit."""
JITTERS = (0.05, 0.1, 0.2)
"""Of the spectra that the network is fitted to beside the measured ones, standard deviations."""
MIXTURES = 1000
STEPS = 400


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a measurement around what a spectrum can determine."""

    floor: float
    """At 0, unit of the variable."""
    slope: float = 0.0
    """Its growth with SL2P's value."""
    shared: float = 0.0
    """Of the part that the rows of a group share."""


@dataclass(frozen=True)
class Recipe:
    """How the correction of a variable is fitted."""

    amplitude: float
    """Standard deviation of the correction before it saw data, unit of the variable."""
    limit: float
    """The correction never exceeds this."""
    noise: Mapping[str, Noise] = field(default_factory=dict)
    """By source."""
    length: float = 0.926
    """Of the kernel, in standard deviations of a band."""
    units: int = 32
    shrinkage: float = 1.0
    """Of the correction; for LAI 0.85: costs 0.003 of RMSE, gives back a quarter of what rows of
    true LAI below 1 lose."""


RECIPES = {
    "LAI": Recipe(
        amplitude=0.9,
        limit=1.5,
        shrinkage=0.85,
        noise={
            PAIRS: Noise(0.6, 0.1, shared=0.65),
            WHEAT: Noise(0.9, 0.15, shared=0.65),
            GROUNDED: Noise(0.27, 0.72),
        },
    ),
    "FAPAR": Recipe(amplitude=0.2, limit=0.4, noise={GROUNDED: Noise(0.08)}, length=1.5, units=16),
    "FCOVER": Recipe(
        amplitude=0.3, limit=0.4, noise={WHEAT: Noise(0.15, shared=0.1)}, length=2.5, units=16
    ),
}


def fit_correction(measurements: Measurements, recipe: Recipe, *, sun: bool) -> dict[str, Any]:
    """Fit the correction of a variable, as `model.json` holds it.

    It is fitted on rows inside the definition domain, as only they are corrected. `sun`: whether
    the sun's zenith is an input; else SL2P at nominal angles is corrected.
    """
    inside = measurements.take(~measurements.outside)
    inputs = gather_inputs(inside, sun=sun)
    deciding = inputs[inside.deciding]
    centre, spread = deciding.mean(axis=0), deciding.std(axis=0)
    factor = np.append(np.ones(len(CORRECTION_BANDS)), [SUN_WEIGHT] * sun)
    factor = factor / np.where(spread > 1e-6, spread, 1.0)  # all angles may be nominal
    features = (inputs - centre) * factor
    process = fit_process(features, inside, recipe, sun=sun)
    rng = np.random.default_rng(0)  # of spectra to fit the network to, and of its first weights
    spectra, weights = draw_surroundings(features, rng)
    hidden, output, constant = fit_units(spectra, process(spectra), weights, recipe.units, rng)
    on_inputs = hidden[:, :-1] * factor
    bias = hidden[:, -1] - on_inputs @ centre
    return {
        "bands": list(CORRECTION_BANDS),
        "hidden": round_all(np.column_stack([on_inputs, bias])),
        "output": round_all(recipe.shrinkage * output),
        "constant": round(recipe.shrinkage * constant, 6),
        "limit": recipe.limit,
    }


def round_all(values: Floats) -> list[Any]:
    """Return numbers with six digits, as lists: more would be noise in `model.json`."""
    round_one = np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])
    return list(round_one(values).tolist())


def gather_inputs(measurements: Measurements, *, sun: bool) -> Floats:
    """Return what the correction reads, (n, 6 or 7): roots of bands, the sun's cosine."""
    columns = [BANDS.index(band) for band in CORRECTION_BANDS]
    roots = np.sqrt(np.maximum(measurements.reflectance[:, columns], 0))
    return np.column_stack([roots, measurements.cosines[:, 1]]) if sun else roots


def fit_process(
    features: Floats, measurements: Measurements, recipe: Recipe, *, sun: bool
) -> Callable[[Floats], Floats]:
    """Return the posterior mean of the Gaussian process as a function of features (m, k)."""
    value = measurements.estimate(sun=sun)
    constant = CONSTANT_VARIANCE * (recipe.amplitude / RECIPES["LAI"].amplitude) ** 2
    covariance = recipe.amplitude**2 * _kernel(features, features, recipe.length) + constant
    shared = np.zeros(value.size)
    for source, noise in recipe.noise.items():
        rows = measurements.source == source
        shared[rows] = noise.shared
        covariance[rows, rows] += noise.floor**2 + (noise.slope * value[rows]) ** 2
    group = measurements.group
    covariance += (group[:, None] == group) * np.outer(shared, shared)
    weights = np.linalg.solve(covariance, measurements.measured - value)

    def mean(others: Floats) -> Floats:
        from_data = recipe.amplitude**2 * _kernel(others, features, recipe.length) @ weights
        return np.asarray(from_data + constant * weights.sum())

    return mean


def _kernel(first: Floats, second: Floats, length: float) -> Floats:
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.asarray(np.exp(-0.5 * np.maximum(squared, 0) / length**2))


def draw_surroundings(features: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return spectra to fit the network to, (m, k), and their weights (m,)."""
    first, second = rng.integers(0, len(features), (2, MIXTURES))
    share = rng.random((MIXTURES, 1))
    parts = [
        (features, 3.0),
        *((features + sd * rng.standard_normal(features.shape), 1.0) for sd in JITTERS),
        (features[first] * share + features[second] * (1 - share), 0.5),
    ]
    weights = np.concatenate([np.full(len(part), weight) for part, weight in parts])
    return np.concatenate([part for part, _ in parts]), weights / weights.sum()


def fit_units(
    features: Floats, wanted: Floats, weights: Floats, units: int, rng: np.random.Generator
) -> tuple[Floats, Floats, float]:
    """Fit a layer of tanh units: hidden (units, k + 1), output (units,), constant."""
    inputs = np.column_stack([features, np.ones(len(features))])
    size = inputs.shape[1]
    slopes = 1.5 / np.sqrt(size - 1) * rng.standard_normal((units, size - 1))
    middles = features[rng.integers(0, len(features), units)]
    start = np.column_stack([slopes, -(slopes * middles).sum(axis=1)])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        hidden = parameters[: units * size].reshape(units, size)
        output, constant = parameters[units * size : -1], parameters[-1]
        level = np.tanh(inputs @ hidden.T)
        error = level @ output + constant - wanted
        weighted = weights * error
        back = np.outer(weighted, output) * (1 - level * level)
        gradient = np.concatenate([(back.T @ inputs).ravel(), level.T @ weighted, [weighted.sum()]])
        gradient[:-1] += L2 / units * parameters[:-1]
        penalty = L2 / (2 * units) * parameters[:-1] @ parameters[:-1]
        return float(weighted @ error / 2 + penalty), gradient

    first = np.concatenate([start.ravel(), np.zeros(units), [float(weights @ wanted)]])
    options = {"maxiter": STEPS, "maxcor": 20}
    optimum = minimize(loss, first, jac=True, method="L-BFGS-B", options=options).x
    hidden = optimum[: units * size].reshape(units, size)
    return hidden, optimum[units * size : -1], float(optimum[-1])
