"""The npm `stac-node-validator` finds no fault, offline; skipped where it is not installed.

npm install --global stac-node-validator
"""

from pathlib import Path

import pystac
import pytest
from linters import needs_node_validator, validate_by_node

from lai_stac.collection import build_collection, write_collection
from lai_stac.item import write_item

pytestmark = [needs_node_validator, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "stac_extension" / "examples"


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    folder = tmp_path / "schemas"
    folder.mkdir()
    return folder


def test_examples_pass(schemas: Path):
    done = validate_by_node(schemas, EXAMPLES / "item.json", EXAMPLES / "collection.json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_written_item_and_collection_pass(
    item: pystac.Item, product: Path, tmp_path: Path, schemas: Path
):
    collection = write_collection(build_collection([item]), tmp_path / "collection.json")
    done = validate_by_node(schemas, write_item(item, product), collection)
    assert done.returncode == 0, done.stdout + done.stderr


def test_broken_item_does_not_pass(item: pystac.Item, tmp_path: Path, schemas: Path):
    item.properties["laiq:valid_fraction"] = 93
    done = validate_by_node(schemas, write_item(item, tmp_path))
    assert done.returncode != 0
    assert "valid_fraction" in done.stdout + done.stderr
