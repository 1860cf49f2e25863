"""Small files appear whole or not at all, as rasters do (`lai_udf.atomic`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lai_stac.errors import OutputError
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.errors import OutputNotWritableError


def replace_file(path: Path, content: bytes) -> Path:
    """Put `content` at `path`; what was there before stays until the new file is whole.

    Raises:
        OutputError: the folder cannot be written; what was there before is still there.
    """
    try:
        with work_folder(path.parent) as work, disk_errors(path.parent):
            (work / path.name).write_bytes(content)
            move_finished({work / path.name: path})
    except OutputNotWritableError as error:
        raise OutputError(error.word()) from error
    return path


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a STAC document; raises as `replace_file`."""
    return replace_file(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
