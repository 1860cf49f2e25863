"""Is this a valid STAC document? Answered by `lai_stac` with local schemas: nothing is fetched."""

from typing import Literal

from lai_service.catalogue.port import Document
from lai_service.errors import InvalidItemError
from lai_stac import validation
from lai_stac.errors import LaiStacError

__all__ = ["Strictness", "validate_collection", "validate_item"]

Strictness = Literal["refuse", "skip"]
"""What to do about an extension without a local schema: published items use known ones only."""


def validate_item(document: Document, unknown: Strictness = "skip") -> None:
    """Check an item against the core, our extension and the others it declares.

    Raises:
        InvalidItemError: naming the first field that breaks a rule.
    """
    try:
        validation.validate_item(_as_current(document), unknown=unknown)
    except LaiStacError as error:
        raise InvalidItemError(_short(error)) from error


def validate_collection(document: Document, unknown: Strictness = "skip") -> None:
    """Check a collection in the same way.

    Raises:
        InvalidItemError: naming the first field that breaks a rule.
    """
    try:
        validation.validate_collection(_as_current(document), unknown=unknown)
    except LaiStacError as error:
        raise InvalidItemError(_short(error)) from error


def _as_current(document: Document) -> Document:
    """Let a STAC 1.0 document be checked as 1.1, which admits what 1.0 admits."""
    if str(document.get("stac_version", "")).startswith("1.0."):
        return {**document, "stac_version": "1.1.0"}
    return document


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 500 else text[:497] + "..."
