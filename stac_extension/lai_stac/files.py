"""Files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from lai_stac.errors import OutputError


def replace_file(path: Path, content: bytes) -> Path:
    """Put `content` at `path` through a synced temporary file beside it; readable by all.

    Raises:
        OutputError: the folder cannot be written; what was there before is still there.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".part", dir=path.parent
        )
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise OutputError(
            f"cannot write {path} ({error.strerror}): choose a folder that can be written"
        ) from error
    return path
