"""Merge patches (RFC 7396) and JSON patches (RFC 6902) of stored documents."""

from typing import Any

import jsonpatch

from lai_service.catalogue.port import Document
from lai_service.errors import PatchError

__all__ = ["patched"]


def patched(document: Document, patch: dict[str, Any] | list[Any]) -> Document:
    """Apply a patch.

    Args:
        document: not changed.
        patch: an object is a merge patch, a list is a JSON patch.

    Raises:
        PatchError: an operation is malformed, or the patch does not fit.
    """
    if isinstance(patch, dict):
        return _merged(document, patch)
    for operation in patch:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise PatchError(f"a JSON patch is a list of operations with a path, not {operation!r}")
    try:
        result = jsonpatch.apply_patch(document, patch)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise PatchError(f"the patch cannot be applied: {error}") from error
    if not isinstance(result, dict):
        raise PatchError("the patch does not leave a document")
    return result


def _merged(old: Document, patch: Document) -> Document:
    """Apply a merge patch (RFC 7396): null removes, objects merge, all else replaces."""
    merged = dict(old)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            inner = merged.get(key)
            merged[key] = _merged(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[key] = value
    return merged
