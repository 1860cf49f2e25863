"""Robustness: what noise, missing angles, a wrong offset and near clouds do to LAI.

The reference is always SL2P of the noise-free, cloudless scene with its angles. Beside the RMSE
stands the share of true LAI inside the calibrated 95 % interval, for calibrated networks.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from lai_training.evaluation.figures import DPI
from lai_training.evaluation.networks import SL2P, Network, predict_sl2p
from lai_training.evaluation.scores import Scene, add_band_noise, simulate_one
from lai_training.metrics import coverage, score
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.guard import find_wrong_scaling
from lai_udf.predict import ANGLES, BANDS, MASKED_SCENE_CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float32 = NDArray[np.float32]

NOISE_LEVELS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
OFFSETS = (-0.1, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05, 0.1)
"""Added to all bands, unit of reflectance; 0.1 is the offset of baseline 04.00 forgotten."""
WITHHELD: dict[str, tuple[str, ...]] = {
    "none": (),
    "sun zenith": ("sunZenithAngles",),
    "view zenith": ("viewZenithMean",),
    "azimuths": ("sunAzimuthAngles", "viewAzimuthMean"),
    "all": ANGLES,
}
DISTANCES_PX = (1, 2, 3, 4, 6, 8, 12, 16, 24)
"""Upper ends of the bins of distance to the nearest masked pixel; beyond them is one more bin."""
CLOUD_COVER = 0.12
INTERVAL = ("LAI_LOWER", "LAI_UPPER")
_LOOKS = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "-."),
    ("#009E73", "^", ":"),
    ("#CC79A7", "D", (0, (5, 1))),
    ("#E69F00", "v", (0, (3, 1, 1, 1))),
)  # colours of Okabe and Ito, distinct for colour-blind readers


class Teacher(Network):
    """SL2P as a column of its own: its LAI of the same input, without interval or draws."""

    def predict(
        self, scene: xr.DataArray, bands: Sequence[str] = ("LAI",), **options: int
    ) -> dict[str, Float32]:
        """Return SL2P's LAI, and NaN for all other bands."""
        lai = predict_sl2p(scene)
        return dict.fromkeys(bands, np.full_like(lai, np.nan)) | {"LAI": lai}


TEACHER = Teacher(SL2P, Path(), {"reach_px": 0, "calibration": {}})


def vary_noise(scenes: Sequence[Scene], networks: Sequence[Network]) -> pd.DataFrame:
    """Score at several levels of band noise.

    Returns:
        Columns x (level; 1 = as measured), network, n, rmse, bias, rmse_truth and coverage (of
        true LAI).
    """
    return _score_steps(
        scenes, networks, NOISE_LEVELS, lambda s, level: add_band_noise(s.image, level, s.seed)
    )


def withhold_angles(scenes: Sequence[Scene], networks: Sequence[Network]) -> pd.DataFrame:
    """Score with angle bands withheld, against SL2P with all of them.

    Returns:
        Columns as in `vary_noise`; x names what is withheld.
    """

    def withhold(scene: Scene, title: str) -> xr.DataArray:
        return scene.image.sel(bands=~scene.image["bands"].isin(WITHHELD[title]))

    return _score_steps(scenes, networks, WITHHELD, withhold)


def shift_offset(scenes: Sequence[Scene], networks: Sequence[Network]) -> pd.DataFrame:
    """Score with an offset left in the reflectance.

    Returns:
        Columns as in `vary_noise`, and `refused`: share of the scenes that the guard of whole
        scenes refuses; `reason`: the first sentence of its refusal, or nothing.
    """

    def shift(scene: Scene, offset: float) -> xr.DataArray:
        image = scene.image.copy()
        image.loc[{"bands": list(BANDS)}] = image.sel(bands=list(BANDS)) + np.float32(offset)
        return image

    guard = {}
    for offset in OFFSETS:
        found = [
            find_wrong_scaling(shift(scene, offset).sel(bands=list(BANDS)).values)
            for scene in scenes
        ]
        reasons = [str(wrong) for wrong in found if wrong]
        reason = reasons[0] if reasons else ""
        guard[offset] = {"refused": len(reasons) / len(found), "reason": reason}
    table = _score_steps(scenes, networks, OFFSETS, shift)
    return table.join(pd.DataFrame(guard).T.infer_objects(), on="x")


def _score_steps(
    scenes: Sequence[Scene],
    networks: Sequence[Network],
    steps: Iterable[Any],
    change: Callable[[Scene, Any], xr.DataArray],
) -> pd.DataFrame:
    """Score at every step x of what is changed in the images."""
    rows = []
    for x in steps:
        given = [(scene, change(scene, x)) for scene in scenes]
        rows += [{"x": x, **row} for row in _score(given, networks)]
    return pd.DataFrame(rows)


def approach_clouds(
    library: SpectralLibrary,
    networks: Sequence[Network],
    *,
    scenes: int,
    size_px: int,
    seed: int,
) -> pd.DataFrame:
    """Score by distance to the nearest pixel that the scene classification masks.

    Twice: `clouds`, the scene as seen, with thin cloud beyond the mask; and `holes`, the same mask
    over land without clouds, where all that is missing is neighbours. Columns are view, x (upper
    end of the bin, px; inf: beyond), network, n, rmse, bias.
    """
    parts: dict[tuple[str, str], list[Float32]] = {}
    references, distances = [], []
    for number in range(scenes):
        land, scene = (
            simulate_one(number, size_px, library, seed=seed + 1, cloud_cover=cover)
            for cover in (0.0, CLOUD_COVER)
        )
        cloudless = scene.image.copy()
        cloudless.loc[{"bands": list(BANDS)}] = land.image.sel(bands=list(BANDS))
        masked = np.isin(scene.image.sel(bands="SCL").values, MASKED_SCENE_CLASSES)
        chosen = land.scored & ~masked
        # Chessboard distance: the reach of a network is a square.
        distances.append(ndimage.distance_transform_cdt(~masked, "chessboard")[chosen])
        references.append(predict_sl2p(cloudless)[chosen])
        for view, image in (("clouds", scene.image), ("holes", cloudless)):
            for network in (*networks, TEACHER):
                lai = network.predict(image)["LAI"][chosen]
                parts.setdefault((view, network.name), []).append(lai)
    reference, distance = np.concatenate(references), np.concatenate(distances)
    rows = []
    nearer = 0.0
    for upper in (*DISTANCES_PX, np.inf):
        bin_ = (distance > nearer) & (distance <= upper)
        nearer = upper
        for (view, name), estimates in parts.items():
            found = score(reference[bin_], np.concatenate(estimates)[bin_])
            row = {"view": view, "x": upper, "network": name}
            rows.append({**row, "n": found.n, "rmse": found.rmse, "bias": found.bias})
    return pd.DataFrame(rows)


def _score(
    given: Sequence[tuple[Scene, xr.DataArray]], networks: Sequence[Network]
) -> list[dict[str, Any]]:
    """Score networks and SL2P on images that were tampered with."""
    reference = np.concatenate([predict_sl2p(scene.image)[scene.scored] for scene, _ in given])
    truth = np.concatenate(
        [scene.true_lai[scene.scored] for scene, _ in given if scene.true_lai is not None]
    )
    rows = []
    for network in (*networks, TEACHER):
        parts = [
            [band[scene.scored] for band in network.predict(image, ("LAI", *INTERVAL)).values()]
            for scene, image in given
        ]
        lai, lower, upper = (np.concatenate(values) for values in zip(*parts, strict=True))
        covered = coverage(truth, lower, upper) if network.contract["calibration"] else np.nan
        found, beside = score(reference, lai), score(truth, lai).rmse
        row = {"network": network.name, "n": found.n, "rmse": found.rmse, "bias": found.bias}
        rows.append({**row, "rmse_truth": beside, "coverage": covered})
    return rows


def draw_curves(
    noise: pd.DataFrame, offset: pd.DataFrame, clouds: pd.DataFrame, path: Path
) -> None:
    """Draw RMSE against noise, offset and distance to masked pixels, and coverage under noise."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    _lines(axes[0, 0], noise, "rmse")
    axes[0, 0].set_xlabel("level of band noise (1 = as measured)")
    calibrated = noise.dropna(subset="coverage")
    _lines(axes[0, 1], calibrated, "coverage", names=noise["network"])
    axes[0, 1].axhline(0.95, color="0.6", linewidth=0.8)
    axes[0, 1].set(xlabel="level of band noise", ylabel="true LAI inside the 95 % interval")
    axes[0, 1].set_ylim(min(0.8, calibrated["coverage"].min() - 0.02), 1.0)
    axes[0, 1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes[0, 1].set_yticks([0.8, 0.85, 0.9, 0.95, 1.0])
    _lines(axes[1, 0], offset, "rmse")
    axes[1, 0].set_xticks([-0.1, -0.05, 0, 0.05, 0.1])
    axes[1, 0].set_xlabel("offset left in the reflectance; shaded: the guard refuses the scene")
    _shade_refused(axes[1, 0], offset)
    _draw_clouds(axes[1, 1], clouds)
    for axis in (axes[0, 0], axes[1, 0], axes[1, 1]):
        axis.set_ylabel("RMSE against noise-free SL2P (m² m⁻²)")
    for axis in axes.ravel():
        axis.grid(color="0.9")
    axes[0, 0].legend(fontsize="small")
    axes[1, 1].legend(fontsize="x-small", ncols=2)
    figure.savefig(path, dpi=DPI)


def _lines(
    axis: "Axes", table: pd.DataFrame, column: str, names: Iterable[str] | None = None
) -> None:
    looks = look_of(table["network"] if names is None else names)
    for name, own in table.groupby("network", sort=False):
        axis.plot(own["x"], own[column], label=name, markersize=4, **looks[str(name)])
    if table.empty:
        axis.text(0.5, 0.5, "no calibrated network", transform=axis.transAxes, ha="center")


def _shade_refused(axis: "Axes", offset: pd.DataFrame) -> None:
    """Shade from each refused offset half-way to its neighbours."""
    steps = offset.drop_duplicates("x").sort_values("x")
    x = steps["x"].to_numpy("float64")
    middle = (x[1:] + x[:-1]) / 2
    lows, highs = [x[0], *middle], [*middle, x[-1]]
    for low, high, refused in zip(lows, highs, steps["refused"], strict=True):
        if refused:
            axis.axvspan(low, high, color="0.5", alpha=0.3 * refused, linewidth=0)


def _draw_clouds(axis: "Axes", clouds: pd.DataFrame) -> None:
    looks = look_of(list(clouds["network"]))
    places = {x: place for place, x in enumerate(sorted(clouds["x"].unique()))}
    for (view, name), own in clouds.groupby(["view", "network"], sort=False):
        if view == "holes" and name == SL2P:
            continue  # the reference itself
        look = looks[str(name)] | ({"markerfacecolor": "white"} if view == "holes" else {})
        look |= {"alpha": 0.6} if view == "holes" else {}
        axis.plot(own["x"].map(places), own["rmse"], label=f"{name}, {view}", markersize=4, **look)
    labels = [f"{x:g}" if np.isfinite(x) else "more" for x in places]
    axis.set_xticks(range(len(places)), labels)
    axis.set_xlabel("distance to the nearest masked pixel, up to (px of 20 m)")
    axis.set_ylim(bottom=0)


def look_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return how each network is drawn, by its place among the networks."""
    looks: dict[str, dict[str, Any]] = {}
    networks = [name for name in dict.fromkeys(names) if name != SL2P]
    for name, (colour, marker, style) in zip(networks, itertools.cycle(_LOOKS), strict=False):
        looks[name] = {"color": colour, "marker": marker, "linestyle": style}
    looks[SL2P] = {"color": "black", "marker": "x", "linestyle": "--"}
    return looks
