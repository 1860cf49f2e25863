"""Results that are no cubes: numbers, texts, lists -> one JSON file."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from lai_backend.errors import ResultError
from lai_backend.files import Json, write_json

FILE_NAME = "result.json"
JSON_TYPE = "application/json"


def write_value(value: object, folder: Path, *, truth: bool = False) -> list[dict[str, Any]]:
    """Write a value as JSON and describe the file.

    Args:
        value: scalar, array or nesting of them; NaN, infinity and NaT become null.
        folder: where the file goes; made if absent.
        truth: the value is true, false or null, which openeo-processes-dask writes as 1, 0, NaN.

    Returns:
        One dictionary: `name`, `type`.

    Raises:
        ResultError: the value has no JSON form, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        plain = to_json(value)
        if truth and isinstance(plain, int | float):
            plain = bool(plain)
        write_json(folder / FILE_NAME, plain)
    except OSError as error:
        raise ResultError(f"Cannot write the result to {folder}: {error}.") from error
    return [{"name": FILE_NAME, "type": JSON_TYPE}]


def to_json(value: object) -> Json:
    """Return the JSON form of a value.

    Raises:
        ResultError: it has none.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else f"{np.datetime_as_string(value, unit='s')}Z"
    if isinstance(value, np.generic):
        return to_json(value.item())
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return to_json(list(array) if array.ndim else array[()])
    raise ResultError(f"A result of type {type(value).__name__} cannot be written.")
