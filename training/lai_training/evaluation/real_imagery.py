"""Scores on real imagery, as chapters of the report: 10 m, pairs of dates, residual cloud."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lai_training.evaluation.dates import score_date_prediction, score_residual_cloud
from lai_training.evaluation.networks import Network
from lai_training.evaluation.ten_metres import (
    CUBIC,
    DETAIL,
    SNAP_10M,
    draw_ten_metres,
    score_native,
    score_wald,
)
from lai_training.reporting import Chapter, format_markdown, read_words
from lai_training.restore.scenes import read_folder, read_scenes
from lai_udf.predict import BANDS
from lai_udf.scenes.cubes import read_cube


def score_real_imagery(
    networks: Sequence[Network],
    *,
    scenes: Path | None = None,
    ten_metres: Path | None = None,
    series: Path | None = None,
) -> list[Chapter]:
    """Return a chapter for each kind of imagery that is given.

    Folders hold real scenes at 20 m and at 10 m; the series is a cube (t, bands, y, x) with SCL.
    Raises `EvaluationError` where scenes or series hold nothing to score.
    """
    tables, figures = {}, {}
    if scenes is not None:
        tables["wald"] = score_wald(read_scenes(scenes), networks)
    if ten_metres is not None:
        images = {
            path.stem: image.sel(bands=list(BANDS)).values
            for path, image in read_folder(ten_metres, resolution=10)
        }
        tables["ten_metres"], shown = score_native(images, networks)
        figures["ten_metres"] = {"ten_metres.png": partial(draw_ten_metres, shown)}
    if series is not None:
        cube = read_cube(series).load()
        tables["dates"] = score_date_prediction(cube, networks)
        tables["residual_cloud"] = score_residual_cloud(cube, networks)
    chapters = []
    for name, table in tables.items():
        title, words = read_words()[name].split("\n\n")
        pictures = figures.get(name, {})
        text = [
            words,
            format_markdown(table.round(4)),
            *(f"![{title}]({file})" for file in pictures),
        ]
        chapters.append(Chapter(f"## {title}", text, {name: table}, pictures))
    return chapters


def summarise(chapters: Sequence[Chapter], network: str) -> dict[str, Any]:
    """Return the scores of one network in the chapters, as a bundle records them.

    Returns:
        Of the chapters that there are: `wald_ratio` by variable, of this network, of regression of
        detail and of SNAP's 10 m network; `ten_metres_distance` of this network and of cubic
        interpolation, m2 m-2; `pairs_ratio`, and `pairs_rank` of LAI_SD and of LAI;
        `residual_cloud`: share caught and lost by flag 128 and by SL2P's flag 1. Numbers have four
        digits.
    """
    tables: dict[str, pd.DataFrame] = {k: v for each in chapters for k, v in each.tables.items()}
    worth: dict[str, Any] = {}
    methods = {"network": network, "regression": DETAIL, "snap_10m": SNAP_10M, "cubic": CUBIC}
    if "wald" in tables:
        ratio = tables["wald"].set_index(["method", "variable"])["ratio"].round(4)
        worth["wald_ratio"] = {
            key: ratio[name].to_dict() for key, name in methods.items() if key != "cubic"
        }
    if "ten_metres" in tables:
        distance = tables["ten_metres"].query("variable == 'LAI'").set_index("method")["distance"]
        worth["ten_metres_distance"] = {
            key: round(float(distance[methods[key]]), 4) for key in ("network", "cubic")
        }
    if "dates" in tables:
        pairs = tables["dates"].set_index("network").round(4)
        worth["pairs_ratio"] = float(pairs["ratio"][network])
        worth["pairs_rank"] = {key: float(pairs[f"{key}_rank"][network]) for key in ("sd", "lai")}
    if "residual_cloud" in tables:
        rules = tables["residual_cloud"].set_index("rule")[["caught", "lost"]].round(4)
        names = {"flag_128": f"flag 128 of {network}", "flag_1": "SL2P's flag 1"}
        worth["residual_cloud"] = {key: rules.loc[name].to_dict() for key, name in names.items()}
    return worth
