"""Checkers of STAC that are not ours, with every schema from this machine: they need no network."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pystac.validation.local_validator import get_local_schema_cache

from lai_stac.validation import local_schemas

NODE_VALIDATOR = shutil.which("stac-node-validator")
needs_node_validator = pytest.mark.skipif(
    NODE_VALIDATOR is None, reason="stac-node-validator is not on the PATH"
)

# stac-check wants at most 20 properties. The flat laiq: numbers are there to be searched and
# sorted by, which links cannot be; that piece of advice is the one we do not take.
ACCEPTED = {"bloated_metadata"}


def known_schemas() -> dict[str, Any]:
    """Return the schemas of STAC and of extensions by their address."""
    known = {**get_local_schema_cache(), **local_schemas()}
    return {uri.rstrip("#"): schema for uri, schema in known.items()}


def validate_by_node(folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run stac-node-validator over documents; `folder` takes the schemas."""
    assert NODE_VALIDATOR is not None
    arguments = []
    for number, (uri, schema) in enumerate(known_schemas().items()):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(schema))
        arguments += ["--schemaMap", f"{uri}={path}"]
    return subprocess.run(
        [NODE_VALIDATOR, *map(str, paths), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def local_stac_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return stac-check's linter."""
    lint = pytest.importorskip("stac_check.lint")
    from stac_validator import utilities

    known = known_schemas()
    monkeypatch.setattr(utilities, "_schema_cache", lambda uri: known[uri.split("#")[0]])
    return lint.Linter
