"""Validate STAC offline: core, lai-quality, uncertainty and the neighbours they come with.

The core schemas come with pystac, ours are in ``json-schema``. The schemas of other
extensions are theirs to publish; ``json-schema/neighbours.json`` checks the fields of them that
our items use, no more; the originals can be passed as `schemas` instead. Nothing is ever fetched:
an extension without a local schema is refused, or skipped on request.
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import pystac
from jsonschema_rs import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache

from lai_stac.errors import InvalidItemError, UnknownSchemaError
from lai_stac.fields import SCHEMA_URI, UNCERTAINTY_URI

Schema = Mapping[str, Any]
CORE_URI = "https://schemas.stacspec.org/v1.1.0/{0}-spec/json-schema/{0}.json"
_MASK = "{value}"  # for the value in a message, which may be long
_IRI_REFERENCE = Draft7Validator({"format": "iri-reference"})
_FORMATS = {  # links may hold templates: {z}/{x}/{y}
    "iri-reference": lambda text: _IRI_REFERENCE.is_valid(re.sub(r"\{\w+\}", "x", text))
}
KINDS = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}


@functools.cache
def local_schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas that travel with us, by the URI that ``stac_extensions`` names."""
    folder = importlib.resources.files("lai_stac") / "json-schema"
    neighbours: dict[str, dict[str, Any]] = json.loads(
        (folder / "neighbours.json").read_text("utf-8")
    )
    own = {SCHEMA_URI: "schema.json", UNCERTAINTY_URI: "uncertainty.json"}
    read = {uri: json.loads((folder / name).read_text("utf-8")) for uri, name in own.items()}
    return {**read, **neighbours}


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
    uris = document.get("stac_extensions", [])
    known = {**local_schemas(), **schemas}
    absent = [uri for uri in uris if uri not in known and unknown == "refuse"]
    if absent:
        raise UnknownSchemaError(
            f"{_name(document)}: no local schema for the extension {absent[0]}; nothing is "
            "fetched: remove it from stac_extensions or pass its schema"
        )
    validators = _validators(schemas) if schemas else _local_validators()
    for uri in (CORE_URI.format(KINDS[kind]), *uris):
        if uri in validators:
            _check(document, uri, validators[uri])
    _check_order(document)


@functools.cache
def _local_validators() -> dict[str, Draft7Validator]:
    return _validators({})


def _validators(schemas: Mapping[str, Schema]) -> dict[str, Draft7Validator]:
    """Return a validator per schema; references resolve among the schemas and the core."""
    resources = {**get_local_schema_cache(), **local_schemas(), **schemas}

    def retrieve(uri: str) -> dict[str, Any]:
        return dict(resources[uri])

    return {
        uri: Draft7Validator(dict(schema), retriever=retrieve, mask=_MASK, formats=_FORMATS)
        for uri, schema in resources.items()
    }


def _check(document: Mapping[str, Any], uri: str, validator: Draft7Validator) -> None:
    """Check a document against one schema; the fault that lies deepest is reported."""
    if validator.is_valid(document):
        return
    error = max(validator.iter_errors(document), key=lambda error: len(error.instance_path))
    field = ".".join(map(str, error.instance_path)) or "(top level)"
    reason = error.message.replace(_MASK, _short(error.instance))
    raise InvalidItemError(f"{_name(document)}: {field}: {reason} ({uri})", field)


def _short(value: object) -> str:
    """Return a value, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_order(document: Mapping[str, Any]) -> None:
    """Check what a JSON schema cannot express: that percentiles and shares fit together."""
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


def _name(document: Mapping[str, Any]) -> str:
    kind = str(document.get("type", "object"))
    return f"{'Item' if kind == 'Feature' else kind} {document.get('id', 'without id')!r}"
