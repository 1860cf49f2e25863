"""Errors of lai_stac, one family below `lai_udf.predict.LaiError`: one ``except`` is enough."""

from __future__ import annotations

from lai_udf.predict import LaiError


class LaiStacError(LaiError):
    """Base of every error that lai_stac raises on purpose."""


class InvalidItemError(LaiStacError):
    """A STAC object is not valid; ``field`` is the JSON path of the first fault."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownSchemaError(LaiStacError):
    """An extension is declared whose schema is not held locally."""


class RasterError(LaiStacError):
    """A raster is missing, unreadable, or does not follow the product contract."""


class DescriptionError(LaiStacError):
    """The description passed in is incomplete or contradicts itself."""


class OutputError(LaiStacError):
    """A file cannot be written; nothing is left half done."""
