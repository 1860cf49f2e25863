"""stac-api-validator as its own command, with the schemas of pystac and `lai_stac`.

    python tests/service/offline_validator.py --root-url http://127.0.0.1:8080 --conformance core

The validator reads the schemas of STAC 1.1 and of extensions from the web; here they come from
this machine, so that it runs without a network too. Everything else is the validator's own.
"""

from copy import deepcopy
from typing import Any
from urllib.parse import urljoin

import stac_validator.utilities as reader
from pystac.validation.local_validator import get_local_schema_cache

from lai_stac.validation import local_schemas

_fetch = reader.fetch_and_parse_file


def absolute(node: Any, base: str) -> Any:
    """Return a schema whose references name their schema in full."""
    if isinstance(node, dict):
        return {
            key: urljoin(base, value)
            if key == "$ref" and value[0] != "#"
            else absolute(value, base)
            for key, value in node.items()
        }
    return [absolute(value, base) for value in node] if isinstance(node, list) else node


def fetch(path: str, headers: dict[str, str] | None = None) -> Any:
    """Return a schema or a document; schemas of core and neighbours do not come from the web."""
    schemas = {**get_local_schema_cache(), **local_schemas()}
    if path in schemas:
        return absolute(deepcopy(schemas[path]), path)
    return _fetch(path, headers)


if __name__ == "__main__":
    from stac_api_validator.__main__ import main

    reader.fetch_and_parse_file = fetch
    main()
