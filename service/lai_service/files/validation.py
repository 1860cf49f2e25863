"""Is this a valid STAC document? Answered by `lai_stac` with local schemas: nothing is fetched."""

from typing import Literal

from lai_service.catalogue.port import Document
from lai_service.errors import InvalidItemError
from lai_stac import validation
from lai_stac.errors import LaiStacError

__all__ = ["validate_document"]


def validate_document(
    document: Document, kind: Literal["item", "collection"], unknown: Literal["refuse", "skip"]
) -> None:
    """Check a document against the core, our extension and the others it declares.

    Args:
        document: STAC 1.1, or 1.0, which is checked as 1.1: that admits what 1.0 admits.
        kind: what it has to be.
        unknown: what to do about an extension without a local schema.

    Raises:
        InvalidItemError: naming the first field that breaks a rule.
    """
    if str(document.get("stac_version", "")).startswith("1.0."):
        document = {**document, "stac_version": "1.1.0"}
    check = validation.validate_item if kind == "item" else validation.validate_collection
    try:
        check(document, unknown=unknown)
    except LaiStacError as error:
        text = " ".join(str(error).split())
        raise InvalidItemError(text if len(text) <= 500 else f"{text[:497]}...") from error
