"""Errors of lai_udf: one family, each states what is wrong, where, and what to do.

The root is `lai_udf.predict.LaiError`. `predict.py` ships alone; its own `LaiInputError` and, for
bundles, `LaiModelError` have the same root. What a caller can set is in the fields of the root:
`parameter`, `value`, `expected`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lai_udf.predict import LaiError


class LaiUdfError(LaiError):
    """Base of every error that lai_udf raises on purpose."""


KEYWORDS = {"reflectance_scale": "scale", "reflectance_offset": "offset"}
"""Parameters of scenes that `lai_udf.estimate` and `lai_udf.smooth` call otherwise."""


def name_as_keyword(error: LaiError) -> LaiError:
    """Return an error with the names that parameters of `lai_udf.estimate` have."""
    for one in (error, *getattr(error, "errors", ())):
        one.parameter = KEYWORDS.get(one.parameter, one.parameter)
    return error


class ProductError(LaiUdfError):
    """An input scene cannot be used."""


class SeveralFaultsError(ProductError):
    """More than one thing is wrong with a scene; all are reported at once."""

    def __init__(self, errors: Sequence[LaiError]) -> None:
        super().__init__(" / ".join(error.problem for error in errors))
        self.errors = tuple(errors)

    def word(self, name: Callable[[str], str] = str) -> str:
        """Return a sentence for each fault, on one line."""
        return " / ".join(error.word(name) for error in self.errors)


class OwnPointsError(LaiUdfError):
    """Own field points that cannot be used."""


class Faults:
    """Collects what is wrong with a scene, to report it at once."""

    def __init__(self) -> None:
        self.errors: list[ProductError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a `ProductError` of the block for later."""
        try:
            yield
        except ProductError as error:
            self.errors.append(error)

    def settle(self) -> None:
        """Raise what was collected, if anything was."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise SeveralFaultsError(self.errors)


class UnreadableProductError(ProductError):
    """A file of the scene is missing, truncated, of a foreign kind, or cannot be fetched."""


class MetadataError(ProductError):
    """Product metadata are missing, broken or contradict each other."""


class MissingBandError(ProductError):
    """The scene lacks an input band."""


class UndeclaredScaleError(ProductError):
    """Integer data whose reflectance scale or offset is declared nowhere, or implausibly."""


class GridError(ProductError):
    """Wrong CRS, wrong pixel size, grids that do not fit each other, or an empty extent."""


class EmptySceneError(ProductError):
    """No pixel of the scene holds data in every band."""


class RasterError(LaiUdfError):
    """A raster cannot be written or read back."""


class EncodingError(RasterError):
    """Values that the encoding on disk cannot hold."""


class OutputNotWritableError(RasterError):
    """The target folder, file or disk refuses what is to be written."""


class PolygonFileError(LaiUdfError):
    """A file of polygons cannot be read, or names them wrongly."""


class GeometryError(LaiUdfError):
    """A geometry that cannot be averaged over: empty, without area, not finite."""


class IdentityError(LaiUdfError):
    """A result cannot be named, or its folder holds another one."""


class LaiGraphError(LaiUdfError):
    """A process graph that no back-end would treat well: window, overlap, settings."""


class ContractError(LaiUdfError):
    """A UDF or a cube that `lai-udf check` cannot read or judge."""


class PackError(LaiUdfError):
    """An archive for a back-end cannot be made: no network, no installer, foreign bundle."""


class ProductionError(LaiUdfError):
    """Jobs of many areas cannot be planned or run: another manager, another table, no back-end."""
