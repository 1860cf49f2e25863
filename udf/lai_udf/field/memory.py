"""What a run was made of: where nothing has changed since, there is nothing to do.

Light to import, so that asking again costs next to nothing. Only for files of this machine: what a
catalogue holds is known to it alone.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = ".lai-field.json"


class Memory:
    """The last run into a folder."""

    def __init__(self, directory: Path, asked: Sequence[Any], inputs: Sequence[Path]) -> None:
        """Take down the folder of results, the options of a run, and the files it reads."""
        self._path = directory / FILE
        self._local = all(path.exists() for path in inputs)
        facts = [asked, version("sentinel2-lai"), *(sorted(_states(path)) for path in inputs)]
        self._digest = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()

    def recall(self) -> list[Path] | None:
        """Return the files of the last run where it was the same and they are all there."""
        if not self._local:
            return None
        try:
            known = json.loads(self._path.read_text())
            files = [Path(name) for name in known["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if known.get("digest") != self._digest or not all(path.is_file() for path in files):
            return None
        return files

    def keep(self, files: Sequence[Path]) -> None:
        """Take down that a run is complete."""
        partial = self._path.with_name(f"{FILE}.partial")
        partial.write_text(json.dumps({"digest": self._digest, "files": list(map(str, files))}))
        os.replace(partial, self._path)


def _states(path: Path) -> Iterator[list[Any]]:
    """Yield name, size and time of a file, or of all files below a folder."""
    inside = path.rglob("*") if path.is_dir() else [path]
    for file in inside:
        if file.is_file():
            status = file.stat()
            yield [str(file), status.st_size, status.st_mtime_ns]
