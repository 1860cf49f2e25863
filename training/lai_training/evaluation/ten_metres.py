"""Score a 10 m network on real scenes, beside interpolation, regression and SNAP.

Input: bundles with a network for 10 m, and real scenes. Of scenes at 20 m, by Wald's protocol,
B02 B03 B04 B08 are kept, the six others averaged to 40 m; the reference is SL2P of the untouched
scene. Scenes at 10 m have no reference; their 10 m LAI, averaged, is compared with SL2P at 20 m,
and drawn. Output: tables of errors per method and variable, relative to those of
cubically interpolated bands.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_training.evaluation.figures import DPI, LAI_AXIS, TRUE_COLOUR
from lai_training.evaluation.networks import Network
from lai_training.restore.degradation import degrade
from lai_training.restore.scenes import Scene, find_valid_vegetation, leave_border
from lai_training.sl2p.tables import VARIABLES, list_networks, load_network
from lai_udf.picture import LAI_RANGE, colour_table
from lai_udf.predict import BANDS, COARSE_ROWS, FINE_ROWS, apply_datacube, split_blocks

Float32 = NDArray[np.float32]
Method = Callable[[Float32], dict[str, NDArray[np.floating[Any]]]]
"""From an image with coarse bands, (10, y, x), to variables by name, (y, x) each."""
Errors = dict[tuple[str, str], list[NDArray[np.floating[Any]]]]
"""By method and variable, a part per scene."""

CUBIC = "SL2P of cubically interpolated bands"
DETAIL = "SL2P of bands with detail by regression"
SNAP_10M = "SNAP's 10 m network (3_0, three bands)"
CELL_PX, BORDER_PX = 8, 8
"""Scenes are trimmed to multiples of one and scored the other off their border."""
MOST_PX, FEWEST_PX = 3000, 100
"""Scored pixels of a scene; scenes with fewer are left out."""
SHOWN_SCENES = 5
"""Scenes at 10 m in the picture."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A scene at 10 m to look at."""

    name: str
    image: Float32
    """(10, y, x) reflectance."""
    lai: dict[str, NDArray[np.floating[Any]]]
    """By method, (y, x) at its resolution, m2 m-2."""


def interpolate(degraded: Float32) -> Float32:
    """Return (10, y, x) whose 20 m bands are interpolated by cubic splines."""
    image = degraded.copy()
    for row, coarse in zip(COARSE_ROWS, degraded[COARSE_ROWS, ::2, ::2], strict=True):
        image[row] = ndimage.zoom(coarse, 2, order=3, grid_mode=True, mode="nearest")
    return image


def inject_detail(degraded: Float32) -> Float32:
    """Return (10, y, x) whose 20 m bands get the detail of the 10 m bands by regression.

    Of the bands at 40 m on the 10 m bands at 40 m, one regression per scene; what the 10 m bands
    have beyond their own mean then goes into the 20 m bands.
    """
    image = interpolate(degraded)
    fine = split_blocks(degraded[FINE_ROWS], 2).mean(axis=0)
    coarse = degraded[COARSE_ROWS, ::2, ::2]
    whole = np.isfinite(fine).all(axis=0) & np.isfinite(coarse).all(axis=0)
    design = np.column_stack([np.ones(int(whole.sum())), fine[:, whole].T])
    slopes = np.linalg.lstsq(design, coarse[:, whole].T, rcond=None)[0][1:]
    smooth = degraded.copy()
    smooth[FINE_ROWS] = np.stack(
        [ndimage.zoom(band, 2, order=3, grid_mode=True, mode="nearest") for band in fine]
    )
    detail = degraded[FINE_ROWS] - smooth[FINE_ROWS]
    image[COARSE_ROWS] += np.tensordot(slopes.T, detail, 1).astype("float32")
    return image


def read_by_sl2p(
    image: Float32, network: str = "2_1", sensor: str = "S2A"
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return the variables of a set of SL2P for (10, y, x) at nominal angles, clipped, by name."""
    bands = dict(zip(BANDS, image, strict=True))
    return {
        name: sl2p.predict_bands(bands, variable=name, network=network, sensor=sensor)[0]
        for name in VARIABLES
        if (network, sensor, name) in list_networks()
    }


def run_at_10m(network: Network) -> Method:
    """Return a bundle's network for 10 m as a method."""

    def predict(degraded: Float32) -> dict[str, NDArray[np.floating[Any]]]:
        cube = xr.DataArray(degraded, dims=("bands", "y", "x"), coords={"bands": list(BANDS)})
        context = {"model": str(network.bundle), "resolution": 10, "reflectance_offset": 0.0}
        context |= {"variables": list(VARIABLES), "bands": list(VARIABLES)}
        return dict(zip(VARIABLES, apply_datacube(cube, context).values, strict=True))

    return predict


def score_wald(
    scenes: Iterable[Scene],
    networks: Sequence[Network],
    *,
    further: Mapping[str, Method] | None = None,
) -> pd.DataFrame:
    """Score methods on scenes at 20 m by Wald's protocol.

    Bundles without a network for 10 m are left out; `further` are methods by name.

    Returns:
        A row per method and variable: `method`, `variable`, `unit`, `n`, `rmse`, `distance`,
        `bias` and `ratio`, RMSE relative to that of `CUBIC`.

    Raises:
        EvaluationError: no scene has enough clear vegetation.
    """
    methods = list_methods(networks) | dict(further or {})
    errors: Errors = {}
    for scene in scenes:
        chosen = _choose(scene)
        if chosen is not None:
            image, pixels = chosen
            truth, degraded = read_by_sl2p(image), degrade(image)
            for name, method in methods.items():
                for variable, estimate in method(degraded).items():
                    error = (estimate - truth[variable]).ravel()[pixels]
                    errors.setdefault((name, variable), []).append(error)
    if not errors:
        raise EvaluationError(f"no scene has {FEWEST_PX} px of clear vegetation off its border")
    return _tabulate(errors)


def score_native(
    scenes: Mapping[str, Float32], networks: Sequence[Network]
) -> tuple[pd.DataFrame, list[Shown]]:
    """Average 10 m maps to 20 m and hold them against SL2P of the 20 m bands.

    SL2P is not linear: the mean of its LAI differs from the LAI of the mean by 0.016 on average
    (real chips), so no method comes nearer than about that. Scenes are (10, y, x) at 10 m by name,
    the 20 m bands repeated in their blocks.

    Returns a table as that of `score_wald`, and the scenes of most varied LAI to draw; raises
    `EvaluationError` where no scene has enough clear vegetation.
    """
    methods = list_methods(networks)
    errors: Errors = {}
    shown: list[Shown] = []
    for name, image in scenes.items():
        coarse = split_blocks(image, 2).mean(axis=0)
        scored = leave_border(find_valid_vegetation(coarse), BORDER_PX)
        if scored.sum() < FEWEST_PX or not np.isfinite(image).all():
            continue
        truth = read_by_sl2p(coarse)
        maps = {title: method(image) for title, method in methods.items()}
        for title, values in maps.items():
            for variable, estimate in values.items():
                mean = split_blocks(estimate, 2).mean(axis=0)
                errors.setdefault((title, variable), []).append((mean - truth[variable])[scored])
        kept = {
            title: estimate["LAI"]
            for title, estimate in maps.items()
            if title not in (DETAIL, SNAP_10M)
        }
        shown.append(Shown(name, image, {"SL2P at 20 m": truth["LAI"]} | kept))
    if not errors:
        raise EvaluationError(f"no scene at 10 m has {FEWEST_PX} px of clear vegetation")
    shown.sort(key=lambda each: -float(np.nanstd(each.lai["SL2P at 20 m"])))
    return _tabulate(errors), shown[:SHOWN_SCENES]


def list_methods(networks: Sequence[Network]) -> dict[str, Method]:
    """Return what there is for 10 m: interpolation, regression, SNAP, and bundles that can."""
    methods: dict[str, Method] = {
        CUBIC: lambda image: read_by_sl2p(interpolate(image)),
        DETAIL: lambda image: read_by_sl2p(inject_detail(image)),
        SNAP_10M: lambda image: read_by_sl2p(image, "3_0", "S2A_10m"),
    }
    return methods | {each.name: run_at_10m(each) for each in networks if "bodies" in each.contract}


def _tabulate(errors: Errors) -> pd.DataFrame:
    rows = []
    for (name, variable), parts in errors.items():
        error = np.concatenate(parts)
        row: dict[str, Any] = {"method": name, "variable": variable}
        row |= {"unit": load_network(variable, "2_1").unit, "n": error.size}
        row["rmse"] = float(np.sqrt(np.nanmean(error**2)))
        row |= {"distance": float(np.nanmean(np.abs(error))), "bias": float(np.nanmean(error))}
        rows.append(row)
    table = pd.DataFrame(rows)
    cubic = table[table["method"] == CUBIC].set_index("variable")["rmse"]
    return table.assign(ratio=table["rmse"] / table["variable"].map(cubic))


def _choose(scene: Scene) -> tuple[Float32, NDArray[np.int64]] | None:
    """Return a trimmed image and the flat numbers of its scored pixels, None where too few."""
    height, width = (px // CELL_PX * CELL_PX for px in scene.reflectance.shape[1:])
    image = scene.reflectance[:, :height, :width]
    scored = leave_border(scene.scored[:height, :width], BORDER_PX)
    if scored.sum() < FEWEST_PX or not np.isfinite(image).all():
        return None
    return image, np.flatnonzero(scored)[:: max(1, int(scored.sum()) // MOST_PX)]


def draw_ten_metres(scenes: Sequence[Shown], path: Path) -> None:
    """Draw scenes at 10 m: true colour, LAI at 20 m, and of each method at 10 m."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    titles = list(scenes[0].lai)
    size = (2.9 * (len(titles) + 1) + 0.8, 3.0 * len(scenes) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(scenes), len(titles) + 1, squeeze=False)
    low, high = LAI_RANGE
    for line, scene in zip(axes, scenes, strict=True):
        colour = np.moveaxis(scene.image[[BANDS.index(band) for band in TRUE_COLOUR]], 0, -1)
        bright = np.percentile(colour, 99)
        line[0].imshow(np.clip(colour / bright, 0, 1) ** 0.7, interpolation="nearest")
        line[0].set_ylabel(scene.name[-24:], fontsize="x-small")
        for axis, title in zip(line[1:], titles, strict=True):
            drawn = axis.imshow(
                scene.lai[title],
                cmap=ListedColormap(colour_table() / 255),
                vmin=low,
                vmax=high,
                interpolation="nearest",
            )
    for axis, title in zip(axes[0], ("true colour, 10 m", *titles), strict=True):
        axis.set_title(title, fontsize="small")
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, label=LAI_AXIS, shrink=0.5)
    figure.savefig(path, dpi=DPI)
