"""The places of a request: one GeoJSON geometry, a Feature, or a FeatureCollection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from lai_service.errors import BadRequestError
from lai_udf.errors import LaiUdfError
from lai_udf.zones import repair

MAX_PLACES = 1000  # most features of a FeatureCollection


@dataclass(frozen=True)
class Place:
    """A point or parcel."""

    id: str  # the feature's `id`, its property `id` or `name`, or its number
    geometry: BaseGeometry  # valid, degrees, unrolled where it crosses ±180°


def read_places(geojson: Mapping[str, Any]) -> list[Place]:
    """Read the places of a request.

    Raises:
        BadRequestError: no point or polygon in degrees among them, or too many.
    """
    if geojson.get("type") != "FeatureCollection":
        return [_place(geojson, 0)]
    features = geojson.get("features")
    if not isinstance(features, list) or not features:
        raise BadRequestError("a FeatureCollection needs a list of features")
    if len(features) > MAX_PLACES:
        raise BadRequestError(f"{len(features)} features are more than {MAX_PLACES}; send fewer")
    return [_place(feature, number) for number, feature in enumerate(features)]


def _place(geojson: object, number: int) -> Place:
    if not isinstance(geojson, Mapping):
        raise BadRequestError(f"feature {number} is no GeoJSON object")
    name: object = None
    if geojson.get("type") == "Feature":
        properties = geojson.get("properties") or {}
        names = (geojson.get("id"), *(properties.get(key) for key in ("id", "name")))
        name = next((one for one in names if one is not None), None)
        geojson = geojson.get("geometry") or {}
    label = str(number if name is None else name)
    if geojson.get("type") not in ("Point", "Polygon", "MultiPolygon"):
        raise BadRequestError(
            f"feature {label}: the geometry must be a GeoJSON Point, Polygon or MultiPolygon"
        )
    try:
        geometry = repair(shape(dict(geojson)))
    except LaiUdfError as error:
        raise BadRequestError(f"feature {label}: {error}") from error
    except Exception as error:  # shapely raises many kinds for malformed GeoJSON
        raise BadRequestError(f"feature {label}: the geometry is not GeoJSON: {error}") from error
    west, south, east, north = geometry.bounds
    if west < -360 or east > 360 or south < -90 or north > 90:
        raise BadRequestError(
            f"feature {label}: the geometry must be in degrees: longitude ±180, latitude ±90"
        )
    return Place(label, geometry)
