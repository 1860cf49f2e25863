"""Scores of networks on scenes: the numbers behind tables 4 to 6 and the scatter plots.

Every scene is looked at in three cases; each has SL2P of the noise-free scene as reference,
at the angles of the case. `SL2P` as an estimate is SL2P of what the network was given too: the
reference itself without noise, and what the noise does to a pixel-wise method with it.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from lai_training.evaluation.networks import SL2P, TEACHER, Network, predict_sl2p
from lai_training.evaluation.scenes import Scene
from lai_training.scores.emulation import add_band_noise, drop_angles
from lai_training.scores.metrics import coverage, half_width_of_mean, mean_width, score

Array = NDArray[np.float32]

SAMPLES = 30
"""Monte-Carlo draws, as in the paper."""
INTERVAL = ("LAI_LOWER", "LAI_UPPER")


@dataclass(frozen=True)
class Case:
    """What is given to networks and SL2P."""

    key: str
    title: str
    angles: bool
    """Angle bands are given."""
    noise: float = 0.0
    """Level of band noise, 1 = as measured on real dates."""


CLEAN = Case("clean", "angles given", angles=True)
NOMINAL = Case("nominal", "angles not given", angles=False)
NOISY = Case("noisy", "band noise as measured on real dates, angles given", angles=True, noise=1.0)
CASES = (CLEAN, NOMINAL, NOISY)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Scored pixels of one scene in one case, flat arrays of one length."""

    scene: Scene
    case: Case
    reference: Array
    """SL2P of the noise-free scene, m2 m-2."""
    estimates: dict[str, Array]
    """Network name, or `SL2P`, -> LAI, m2 m-2."""
    intervals: dict[str, tuple[Array, Array]]
    """Calibrated networks only -> lower and upper bound of LAI, m2 m-2."""
    seconds: dict[str, float]
    """Processor time of one pass over the whole image, which other work does not lengthen."""

    @property
    def true_lai(self) -> Array | None:
        """What was there, m2 m-2; None for real scenes."""
        return None if self.scene.true_lai is None else self.scene.true_lai[self.scene.scored]


def prepare(scene: Scene, case: Case) -> tuple[xr.DataArray, xr.DataArray]:
    """Return (noise-free image, image as given) of a scene in a case."""
    clean = scene.image if case.angles else drop_angles(scene.image)
    given = add_band_noise(clean, case.noise, scene.seed) if case.noise else clean
    return clean, given


def run_case(scene: Scene, case: Case, networks: Sequence[Network]) -> Pixels:
    """Run all networks and SL2P over a scene."""
    clean, given = prepare(scene, case)
    estimates: dict[str, Array] = {}
    intervals: dict[str, tuple[Array, Array]] = {}
    seconds: dict[str, float] = {}
    for network in (*networks, TEACHER):
        network.warm_up()
        start = time.process_time()
        bands = network.predict(given, ("LAI", *INTERVAL))
        seconds[network.name] = time.process_time() - start
        estimates[network.name], lower, upper = (band[scene.scored] for band in bands.values())
        if network.calibrated:
            intervals[network.name] = (lower, upper)
    return Pixels(scene, case, predict_sl2p(clean)[scene.scored], estimates, intervals, seconds)


def run_cases(scenes: Iterable[Scene], networks: Sequence[Network]) -> list[Pixels]:
    """Run every case of every scene."""
    return [run_case(scene, case, networks) for scene in scenes for case in CASES]


def tabulate_scores(results: Sequence[Pixels]) -> pd.DataFrame:
    """Score every network per kind of scene and case, over all pixels and per image.

    Returns:
        Columns kind, case, against (`SL2P` or `true LAI`), image (`all` or a name), network, the
        fields of `metrics.Scores`, coverage and mean_width of the calibrated 95 % interval (of
        true LAI only), seconds and pixels_timed of the pass.
    """
    rows = []
    groups: dict[tuple[str, str, str], list[Pixels]] = {}
    for result in results:
        for image in ("all", result.scene.name):
            key = (result.scene.kind, result.case.key, image)
            groups.setdefault(key, []).append(result)
    for (kind, case, image), members in groups.items():
        where = {"kind": kind, "case": case, "image": image}
        for name in members[0].estimates:
            for against in ("SL2P", "true LAI"):
                if against == "SL2P" or members[0].true_lai is not None:
                    rows.append({**where, "network": name, **_score(members, name, against)})
    return pd.DataFrame(rows)


def _score(members: Sequence[Pixels], name: str, against: str) -> dict[str, Any]:
    estimate = np.concatenate([member.estimates[name] for member in members])
    truths = [m.reference if against == "SL2P" else m.true_lai for m in members]
    reference = np.concatenate([truth for truth in truths if truth is not None])
    row: dict[str, Any] = {"against": against, **asdict(score(reference, estimate))}
    row |= {"coverage": math.nan, "mean_width": math.nan}
    if against == "true LAI" and name in members[0].intervals:
        lower, upper = (
            np.concatenate([member.intervals[name][side] for member in members]) for side in (0, 1)
        )
        row |= {"coverage": coverage(reference, lower, upper)}
        row |= {"mean_width": mean_width(lower, upper)}
    row["seconds"] = sum(member.seconds[name] for member in members)
    row["pixels_timed"] = sum(member.scene.scored.size for member in members)
    return row


def tabulate_spread(scenes: Sequence[Scene], networks: Sequence[Network]) -> pd.DataFrame:
    """Measure the Monte-Carlo spread of each network on each scene.

    Returns:
        Columns kind, image, network, n, sd (mean over the pixels of the standard deviation of 30
        draws), ci (mean half width of the 95 % interval of their mean, t = 2.045), one_pass_sd
        (mean of what the network itself states in one pass; NaN where it cannot),
        one_pass_correlation (r with that of the draws), seconds_draws.
    """
    rows = []
    for scene in scenes:
        for network in networks:
            start = time.process_time()
            drawn = network.predict(scene.image, ("LAI_SD",), samples=SAMPLES)["LAI_SD"]
            seconds = time.process_time() - start
            drawn = drawn[scene.scored]
            stated = network.predict(scene.image, ("LAI_SD",))["LAI_SD"][scene.scored]
            row: dict[str, Any] = {"kind": scene.kind, "image": scene.name}
            row["network"] = network.name
            row |= {"n": drawn.size, "sd": float(drawn.mean()), "seconds_draws": seconds}
            row |= {"ci": float(half_width_of_mean(drawn, SAMPLES).mean())}
            row |= {"one_pass_sd": float(stated.mean())}
            rows.append({**row, "one_pass_correlation": score(drawn, stated).correlation})
    return pd.DataFrame(rows)


def tabulate_borders(results: Sequence[Pixels]) -> pd.DataFrame:
    """Score at borders (see `Scene.near_border`) and away from them, against noise-free SL2P.

    Returns:
        Columns kind, case, where (`border`, `inside`), network, n, rmse, ratio (of the RMSE to
        that of SL2P given the same input; NaN where SL2P is the reference itself).
    """
    rows = []
    known = [result for result in results if result.scene.near_border is not None]
    for kind, case in dict.fromkeys((result.scene.kind, result.case) for result in known):
        members = [r for r in known if r.case is case and r.scene.kind == kind]
        border = np.concatenate([_near(member) for member in members])
        reference = np.concatenate([member.reference for member in members])
        for where, chosen in (("border", border), ("inside", ~border)):
            scores = {
                name: score(
                    reference[chosen],
                    np.concatenate([member.estimates[name] for member in members])[chosen],
                )
                for name in members[0].estimates
            }
            base = scores[SL2P].rmse
            for name, own in scores.items():
                row = {"kind": kind, "case": case.key, "where": where, "network": name}
                ratio = own.rmse / base if base > 0 else math.nan
                rows.append({**row, "n": own.n, "rmse": own.rmse, "ratio": ratio})
    return pd.DataFrame(rows)


def _near(result: Pixels) -> NDArray[np.bool_]:
    near = result.scene.near_border
    if near is None:
        raise ValueError(f"{result.scene.name} has no parcels")
    return near[result.scene.scored]
