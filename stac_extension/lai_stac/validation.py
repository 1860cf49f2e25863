"""Validate STAC offline: core, lai-quality and the neighbours it is published with.

The core schemas come with pystac, ours lies in ``json-schema/schema.json``. The schemas of other
extensions are theirs to publish; ``json-schema/neighbours.json`` checks the fields of them that
our items use, no more. Whoever holds the originals passes them as `schemas` and gets those
instead. Nothing is ever fetched: an extension without a local schema is refused, or skipped
where the caller says so.
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import json
from collections.abc import Mapping
from typing import Any, Literal

import pystac
from jsonschema import Draft7Validator, ValidationError
from jsonschema.exceptions import best_match
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry
from referencing.jsonschema import DRAFT7

from lai_stac.errors import InvalidItemError, UnknownSchemaError
from lai_stac.fields import SCHEMA_URI

Schema = Mapping[str, Any]
CORE_URI = "https://schemas.stacspec.org/v1.1.0/{0}-spec/json-schema/{0}.json"
KINDS = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}


@functools.cache
def local_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas that travel with us, by the URI that ``stac_extensions`` names."""
    folder = importlib.resources.files("lai_stac") / "json-schema"
    neighbours: dict[str, dict[str, Any]] = json.loads(
        (folder / "neighbours.json").read_text("utf-8")
    )
    return {SCHEMA_URI: json.loads((folder / "schema.json").read_text("utf-8")), **neighbours}


def validate_item(
    item: pystac.Item | Mapping[str, Any],
    *,
    schemas: Mapping[str, Schema] | None = None,
    unknown: Literal["refuse", "skip"] = "refuse",
) -> None:
    """Raise unless an Item is valid STAC 1.1, by core and by every extension it declares.

    Args:
        item: the Item, or its JSON.
        schemas: further schemas by extension URI; they win over the local ones.
        unknown: what to do about an extension that no local schema is known for.

    Raises:
        InvalidItemError: names the field, the value and the schema it breaks.
        UnknownSchemaError: an extension has no local schema and `unknown` is "refuse".
    """
    _validate(item, "Feature", schemas or {}, unknown)


def validate_collection(
    collection: pystac.Collection | Mapping[str, Any],
    *,
    schemas: Mapping[str, Schema] | None = None,
    unknown: Literal["refuse", "skip"] = "refuse",
) -> None:
    """Raise unless a Collection is valid; arguments and errors as in `validate_item`."""
    _validate(collection, "Collection", schemas or {}, unknown)


def _validate(
    stac_object: pystac.STACObject | Mapping[str, Any],
    kind: str,
    schemas: Mapping[str, Schema],
    unknown: str,
) -> None:
    given = (
        stac_object.to_dict(include_self_link=False, transform_hrefs=False)
        if isinstance(stac_object, pystac.STACObject)
        else stac_object
    )
    # Through JSON and back: tuples become lists, NaN and what is not JSON is refused here.
    try:
        document = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidItemError(f"{_name(given)} is not JSON: {error}") from error
    if document.get("type") != kind:
        raise InvalidItemError(
            f"{_name(document)}: type is {document.get('type')!r}, expected {kind!r}", "type"
        )
    if document.get("stac_version") != "1.1.0":
        raise InvalidItemError(
            f"{_name(document)}: stac_version is {document.get('stac_version')!r}; "
            "only 1.1.0 can be checked offline",
            "stac_version",
        )
    _check(document, CORE_URI.format(KINDS[kind]), get_local_schema_cache())
    known = {**local_schemas(), **schemas}
    for uri in document.get("stac_extensions", []):
        if uri in known:
            _check(document, uri, known)
        elif unknown == "refuse":
            raise UnknownSchemaError(
                f"{_name(document)}: no local schema for the extension {uri}; nothing is fetched: "
                "remove it from stac_extensions or pass its schema"
            )
    _check_order(document)


def _check(document: Mapping[str, Any], uri: str, schemas: Mapping[str, Schema]) -> None:
    """Check a document against one schema; references resolve among `schemas` and the core."""
    resources = {**get_local_schema_cache(), **schemas}
    registry: Registry[Any] = Registry().with_resources(
        (name, DRAFT7.create_resource(schema)) for name, schema in resources.items()
    )
    error = best_match(Draft7Validator(schemas[uri], registry=registry).iter_errors(document))
    if error is not None:
        field = _path(error)
        raise InvalidItemError(f"{_name(document)}: {field}: {error.message} ({uri})", field)


def _check_order(document: Mapping[str, Any]) -> None:
    """Check what a JSON schema cannot say: that percentiles and shares fit together."""
    values = document.get("properties", {})
    rising = ["laiq:lai_p05", "laiq:lai_median", "laiq:lai_p95"]
    present = [name for name in rising if name in values]
    for low, high in itertools.pairwise(present):
        if values[low] > values[high]:
            raise InvalidItemError(
                f"{_name(document)}: {low} = {values[low]} exceeds {high} = {values[high]}",
                f"properties.{low}",
            )
    shares = [values.get(f"laiq:{name}_fraction", 0) for name in ("valid", "nodata")]
    if sum(shares) > 1 + 1e-6:
        raise InvalidItemError(
            f"{_name(document)}: valid and nodata fractions add up to {sum(shares):.4f}",
            "properties.laiq:valid_fraction",
        )


def _path(error: ValidationError) -> str:
    """Return where the fault is, as ``properties.laiq:valid_fraction``."""
    return ".".join(str(part) for part in error.absolute_path) or "(top level)"


def _name(document: Mapping[str, Any]) -> str:
    kind = str(document.get("type", "object"))
    return f"{'Item' if kind == 'Feature' else kind} {document.get('id', 'without id')!r}"
