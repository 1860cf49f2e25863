"""A user's own measurements (places, dates and LAI), and the field LAI to compare them with."""

import csv
import datetime as dt
import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from lai_udf.errors import OwnPointsError, RasterError
from lai_udf.identity import RunOptions
from lai_udf.results import LaiResult, find_results, require_one_scaling
from lai_udf.run import run_scenes
from lai_udf.scenes.read import open_scenes

COMPARED = ("LAI", "LAI_FLAGS")  # bands that scenes are run for
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "longitude": ("longitude", "lon", "x"),
    "latitude": ("latitude", "lat", "y"),
    "date": ("date", "datetime", "time"),
    "lai": ("lai",),
    "sd": ("lai_sd", "sd", "uncertainty", "lai_u"),
}
"""Names that a column may have; `sd` may be missing."""
HIGHEST_LAI = 15.0  # no canopy that was ever measured has more
DEFAULT_SD = 0.3  # of a measurement that states none, m2 m-2


@dataclass(frozen=True)
class Point:
    """A measurement of LAI."""

    row: int  # of the table, from 1
    longitude: float  # degrees east
    latitude: float  # degrees north
    day: float  # days since 1970; noon where only the date is known
    lai: float  # m2 m-2
    sd: float  # its standard deviation, m2 m-2


def read_points(path: Path) -> list[Point]:
    """Read a CSV (columns as in `COLUMNS`) or GeoParquet of own points.

    Raises:
        OwnPointsError: the file cannot be read, a column is missing, or a cell is no number, date
            or LAI; all faults are reported at once.
    """
    is_parquet = path.suffix.lower() in (".parquet", ".geoparquet")
    header, rows = _read_parquet(path) if is_parquet else _read_csv(path)
    columns = _find_columns(header, path)
    points, faults = [], []
    for number, row in enumerate(rows, start=1):
        if not any(str(cell).strip() for cell in row):  # as a spreadsheet leaves them
            continue
        try:
            if any(str(cell).strip() for cell in row[len(header) :]):
                raise ValueError("more cells than columns; write decimals with a point")
            cells = [*row, *[""] * (len(header) - len(row))]
            points.append(_read_point(number, {key: cells[i] for key, i in columns.items()}))
        except ValueError as error:
            faults.append(f"row {number}: {error}")
    if faults:
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise OwnPointsError(f"{path}: {'; '.join(faults[:5])}{more}")
    if not points:
        raise OwnPointsError(f"{path} holds no points")
    return points


def _find_columns(header: Sequence[str], path: Path) -> dict[str, int]:
    """Return the place of each column that is wanted and there."""
    names = [name.strip().lower() for name in header]
    found = {
        key: next(alias for alias in known if alias in names)
        for key, known in COLUMNS.items()
        if any(alias in names for alias in known)
    }
    if missing := [key for key in ("longitude", "latitude", "date", "lai") if key not in found]:
        raise OwnPointsError(
            f"{path} lacks a column for {', '.join(missing)}; it has {', '.join(names)}"
        )
    if twice := [name for name in found.values() if names.count(name) > 1]:
        raise OwnPointsError(f"{path} has several columns {', '.join(twice)}: keep one of them")
    return {key: names.index(name) for key, name in found.items()}


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of columns, and the rows that hold anything at all."""
    try:
        content = path.read_bytes()
        if b"\0" in content:
            raise ValueError("it is no text in UTF-8: give CSV or GeoParquet")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:  # of a spreadsheet on Windows; what is read here is ASCII
            text = content.decode("latin-1")
        file = io.StringIO(text, newline="")
        dialect = csv.Sniffer().sniff(file.readline(), delimiters=",;\t")
        file.seek(0)
        header, *rows = (row for row in csv.reader(file, dialect) if row)
    except (OSError, ValueError, csv.Error) as error:
        raise OwnPointsError(f"cannot read the points {path}: {error}") from error
    return header, rows


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    import geopandas

    try:
        frame = geopandas.read_parquet(path).to_crs(4326)
        longitude, latitude = frame.geometry.x, frame.geometry.y
    except (OSError, ValueError) as error:
        raise OwnPointsError(f"cannot read the points {path}: {error}") from error
    places = {*COLUMNS["longitude"], *COLUMNS["latitude"]}
    others = [name for name in frame if name.lower() not in places]
    table = frame[others].drop(columns=frame.geometry.name)
    table = table.assign(longitude=longitude, latitude=latitude)
    return list(table), list(table.itertuples(index=False, name=None))


def _read_point(number: int, cells: Mapping[str, Any]) -> Point:
    """Return a point; raise ValueError with what is wrong."""
    values = {key: _number(key, cells[key]) for key in ("longitude", "latitude", "lai")}
    for key, limit in (("longitude", 180.0), ("latitude", 90.0)):
        if abs(values[key]) > limit:
            raise ValueError(f"{key} {values[key]:g} is no degree")
    if not 0 <= values["lai"] <= HIGHEST_LAI:
        raise ValueError(f"LAI {values['lai']:g} is not between 0 and {HIGHEST_LAI:g}")
    sd = cells.get("sd")
    stated = sd is not None and str(sd).strip().lower() not in ("", "nan", "na")
    spread = _number("sd", sd) if stated else DEFAULT_SD
    if spread < 0:
        raise ValueError(f"the standard deviation {spread:g} is below 0")
    return Point(number, **values, day=_day(cells["date"]), sd=max(spread, 0.05))


def _number(key: str, cell: Any) -> float:  # noqa: ANN401  (a cell of a table)
    try:
        # A comma inside a cell is a decimal mark: it does not part cells there.
        value = float(cell.replace(",", ".") if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} {cell!r} is no number")
    return value


def _day(cell: Any) -> float:  # noqa: ANN401
    text = str(cell).strip()
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"date {text!r} is none; write 2018-06-21") from None
    if len(text) <= 10:
        moment += dt.timedelta(hours=12)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp() / 86_400


@contextmanager
def open_field_results(sources: Sequence[Path], model: Path | None) -> Iterator[list[LaiResult]]:
    """Give results of sources; scenes among them are run with `target="field"` first.

    Raises:
        ProductError: a source is neither.
        RasterError: a result cannot be read.
    """
    results: list[LaiResult] = []
    scenes: list[Path] = []
    for source in sources:
        try:
            results += find_results([source])
        except RasterError:
            scenes.append(source)
    with tempfile.TemporaryDirectory() as folder:
        require_one_scaling(results)
        if scenes:
            entries = chain.from_iterable(open_scenes(source) for source in scenes)
            run_scenes(
                entries, Path(folder), RunOptions(model=model, target="field", bands=COMPARED)
            )
            results += find_results([Path(folder)])
        yield results
