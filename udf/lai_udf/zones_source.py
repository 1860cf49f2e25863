"""Shapely geometries as a source of exactextract, four times faster than through GeoJSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from exactextract.feature import Feature, FeatureSource
from shapely.geometry.base import BaseGeometry


class ShapelySource(FeatureSource):  # type: ignore[misc]  # exactextract is untyped
    """Features without attributes."""

    def __init__(self, shapes: Sequence[BaseGeometry]) -> None:
        super().__init__()
        self._shapes = shapes

    def count(self) -> int:
        """Return the number of features."""
        return len(self._shapes)

    def __iter__(self) -> Iterator["_ShapelyFeature"]:
        return (_ShapelyFeature(shape) for shape in self._shapes)

    def srs_wkt(self) -> None:
        """Return nothing: the shapes are on the grid already."""


class _ShapelyFeature(Feature):  # type: ignore[misc]
    def __init__(self, shape: BaseGeometry) -> None:
        Feature.__init__(self)
        self._wkb = shape.wkb
        self._values: dict[str, Any] = {}

    def geometry(self) -> bytes:
        return self._wkb

    def fields(self) -> list[str]:
        return list(self._values)

    def get(self, name: str) -> Any:  # noqa: ANN401
        return self._values[name]

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401
        self._values[name] = value
