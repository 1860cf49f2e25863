"""The npm `stac-node-validator` finds no fault, offline; skipped where it is not installed.

npm install --global stac-node-validator
"""

import json
import shutil
import subprocess
from pathlib import Path

import pystac
import pytest
from pystac.validation.local_validator import get_local_schema_cache

from lai_stac.collection import build_collection, write_collection
from lai_stac.item import write_item
from lai_stac.validation import local_schemas

TOOL = shutil.which("stac-node-validator")
pytestmark = [
    pytest.mark.skipif(TOOL is None, reason="stac-node-validator is not on the PATH"),
    pytest.mark.slow,
]
EXAMPLES = Path(__file__).parents[2] / "stac_extension" / "examples"


@pytest.fixture(scope="module")
def schema_map(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the arguments that give the tool every schema from this machine."""
    folder = tmp_path_factory.mktemp("schemas")
    arguments = []
    known = {**get_local_schema_cache(), **local_schemas()}
    for number, (uri, schema) in enumerate(known.items()):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(schema))
        arguments += ["--schemaMap", f"{uri.rstrip('#')}={path}"]
    return arguments


def validate(schema_map: list[str], *paths: Path) -> subprocess.CompletedProcess[str]:
    assert TOOL is not None
    return subprocess.run(
        [TOOL, *map(str, paths), *schema_map],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_examples_pass(schema_map: list[str]):
    done = validate(schema_map, EXAMPLES / "item.json", EXAMPLES / "collection.json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_written_item_and_collection_pass(
    item: pystac.Item, product: Path, tmp_path: Path, schema_map: list[str]
):
    collection = write_collection(build_collection([item]), tmp_path / "collection.json")
    done = validate(schema_map, write_item(item, product), collection)
    assert done.returncode == 0, done.stdout + done.stderr


def test_broken_item_does_not_pass(item: pystac.Item, tmp_path: Path, schema_map: list[str]):
    item.properties["laiq:valid_fraction"] = 93
    done = validate(schema_map, write_item(item, tmp_path))
    assert done.returncode != 0
    assert "valid_fraction" in done.stdout + done.stderr
