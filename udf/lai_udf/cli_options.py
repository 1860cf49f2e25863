"""Options that several commands of `lai-udf` share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

PROGRAM = "lai-udf"
SOME_REFUSED = 3  # exit code where the work is done, but for what is named on stderr
PASSWORD_VARIABLE = "LAI_UDF_PASSWORD"
Model = Annotated[Path | None, typer.Option(help="Model bundle; default: ours.")]
Target = Annotated[Literal["sl2p", "field"], typer.Option(help="SL2P as in SNAP, or field LAI.")]
Samples = Annotated[int, typer.Option(min=0, help="Monte-Carlo draws; 0 = single pass.")]
Variables = Annotated[str, typer.Option(help="Of LAI, FAPAR, FCOVER, CCC, CWC; comma-separated.")]
Resolution = Annotated[int, typer.Option(help="Side of a pixel, m: 20 or 10.")]
Region = Annotated[
    Literal["known", "new"], typer.Option(help="Interval for known or for new regions.")
]
Level = Annotated[float, typer.Option(help="Level of the interval.")]
Calibration = Annotated[
    Path | None, typer.Option(help="File of own field points, made by `lai-udf calibrate`.")
]
Scale = Annotated[float | None, typer.Option(help="Reflectance per digital number.")]
Offset = Annotated[float | None, typer.Option(help="Reflectance at digital number 0.")]
DatedOffset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NUMBER or DATE=NUMBER",
        help="Reflectance at digital number 0; repeat with dates where it changes: "
        "2022-01-25=-0.1.",
    ),
]
Datetime = Annotated[
    str | None, typer.Option(help="Time of a scene that does not state it: 2021-06-24T10:30:31Z.")
]
From = Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")]
To = Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Day after the last one.")]
Collection = Annotated[str | None, typer.Option(help="Collection of the source.")]
JobOptions = Annotated[
    Path | None, typer.Option(help="`job_options.json` of `lai-udf pack`, for a back-end.")
]
User = Annotated[
    str | None, typer.Option(help=f"Basic authentication; password in {PASSWORD_VARIABLE}.")
]
