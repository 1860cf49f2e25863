"""What real imagery says, as chapters of the report: Wald's protocol, pairs of dates, cloud.

Comes in: opened bundles, and a folder of scenes or a series cube. Goes out: Markdown and a CSV per
table beside `report.md`.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lai_training.evaluation.dates import score_foretelling, score_residual_cloud
from lai_training.evaluation.networks import Network
from lai_training.evaluation.ten_metres import score_wald
from lai_training.restore.scenes import read_scenes
from lai_training.scores.markdown import format_markdown
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.scenes.cubes import read_cube

WALD = (
    "Wald's protocol: B02 B03 B04 B08 of real scenes at 20 m are kept, the six others averaged to "
    "40 m; wanted is what SL2P says of the untouched scene. `ratio`: RMSE relative to that of "
    "cubically interpolated bands. Scenes that a network was fitted on flatter it: fit with places "
    "left out to compare."
)
PAIRS = (
    "Pairs of clear dates at most five days apart: RMSE of the estimate of one date against SL2P "
    "of the other, slow change taken out, relative to SL2P's own."
)
CLOUD = (
    "Residual cloud, from one date alone: pixels whose LAI falls short of its clear neighbours in "
    "time by more than 0.5 (`bad`), and what is lost of those that do not (`good`)."
)


def add_real_imagery(
    report: Path, networks: Sequence[Network], *, scenes: Path | None, series: Path | None
) -> Path:
    """Append the chapters to a report and write their tables beside it.

    Args:
        report: `report.md`.
        networks: bundles.
        scenes: folder of real scenes at 20 m; None: no chapter on 10 m.
        series: cube (t, bands, y, x) with SCL; None: no chapters on dates.

    Raises:
        EvaluationError: scenes or series hold nothing to score.
        OutputNotWritableError: the folder or disk refuses.
    """
    tables: dict[str, tuple[str, str, pd.DataFrame]] = {}
    if scenes is not None:
        table = score_wald(read_scenes(scenes), networks)
        tables["wald"] = ("Ten metres from real scenes", WALD, table)
    if series is not None:
        cube = read_cube(series).load()
        tables["dates"] = ("Real pairs of dates", PAIRS, score_foretelling(cube, networks))
        tables["residual_cloud"] = ("Residual cloud", CLOUD, score_residual_cloud(cube, networks))
    text = report.read_text(encoding="utf-8")
    with work_folder(report.parent) as work, disk_errors(report.parent):
        for name, (title, words, table) in tables.items():
            table.to_csv(work / f"{name}.csv", index=False, float_format="%.6g")
            text += f"\n## {title}\n\n{words}\n\n{format_markdown(table.round(3))}\n"
        (work / report.name).write_text(text, encoding="utf-8")
        names = [*(f"{name}.csv" for name in tables), report.name]
        move_finished({work / name: report.parent / name for name in names})
    return report
