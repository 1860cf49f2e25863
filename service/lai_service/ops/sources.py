"""What `lai-service publish` is given: items, COGs and results of jobs, wherever they lie below.

folder with job-results.json     results of an openEO job, also of openEO's job manager
folder with lai.tif, no item     COGs of `lai-udf run`
folder with one item, or its JSON
any other folder                 what lies in its folders
table of `lai-udf produce`       the folders of its finished jobs
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lai_service.errors import LaiServiceError
from lai_stac.job_results import RESULTS_FILE

Kind = Literal["results", "cogs", "directory"]


@dataclass(frozen=True)
class Source:
    """One folder to publish."""

    kind: Kind
    """Member of the body of `POST /publish`."""
    folder: Path
    """The folder."""


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Find what can be published, each folder once, in the order given.

    Raises:
        LaiServiceError: a path holds nothing to publish.
    """
    found: dict[Path, Source] = {}
    for path in paths:
        folder = path.parent if path.is_file() else path
        some = list(_below(folder.resolve()))
        if not some:
            raise LaiServiceError(
                f"{path} holds no STAC item, no lai.tif of lai-udf run and no {RESULTS_FILE}, nor "
                "do its folders; give a folder with one of them"
            )
        found |= {source.folder: source for source in some if source.folder not in found}
    return list(found.values())


def _below(folder: Path) -> Iterator[Source]:
    kind = _kind(folder)
    if kind is not None:
        yield Source(kind, folder)
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and not child.is_symlink():
            yield from _below(child)


def _kind(folder: Path) -> Kind | None:
    if (folder / RESULTS_FILE).is_file():
        return "results"
    if any(_is_item(path) for path in sorted(folder.glob("*.json"))):
        return "directory"
    return "cogs" if (folder / "lai.tif").is_file() else None


def _is_item(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return path.stem == path.parent.name  # the service says what is wrong with it
    return isinstance(document, dict) and document.get("type") == "Feature"


def folders_of_table(table: Path) -> list[Path]:
    """Return the folders of the finished jobs of `lai-udf produce`.

    Args:
        table: the table, or the folder that holds `jobs.parquet`.

    Raises:
        LaiServiceError: it cannot be read, or no job has finished.
    """
    import pandas  # takes half a second to import

    path = table / "jobs.parquet" if table.is_dir() else table
    try:
        read = pandas.read_csv if path.suffix.lower() == ".csv" else pandas.read_parquet
        rows = read(path)
        finished = rows[(rows["status"] == "finished") & rows["folder"].notna()]
    except (OSError, ValueError, KeyError) as error:
        raise LaiServiceError(f"{path} is no table of lai-udf produce: {error}") from error
    if finished.empty:
        raise LaiServiceError(f"no job of {path} has finished and left its results")
    return [path.parent / str(folder) for folder in finished["folder"]]
