"""The model as an Item that a product's `derived_from` link leads to."""

import hashlib
import json
from pathlib import Path

import pystac
import pytest
from fake_lai import ARGUMENTS

from lai_stac.errors import DescriptionError
from lai_stac.files import write_model_item
from lai_stac.item import build_item, write_item
from lai_udf.bundle import default_bundle_path, open_bundle


def test_shipped_model_becomes_an_item_beside_its_network(tmp_path):
    path = write_model_item(default_bundle_path(), tmp_path)
    document = json.loads(path.read_text())
    asset = document["assets"]["model"]
    network = (path.parent / asset["href"]).read_bytes()
    assert asset["file:checksum"] == "1220" + hashlib.sha256(network).hexdigest()
    before = path.read_bytes()
    assert write_model_item(default_bundle_path(), tmp_path).read_bytes() == before


def test_unpacked_model_can_be_followed_from_the_product(tmp_path, product):
    model = write_model_item(default_bundle_path(), product.parent / "models")
    href = f"../models/{model.parent.name}/{model.name}"
    arguments = {**ARGUMENTS, "model": open_bundle().description, "model_href": href}
    item = pystac.Item.from_file(str(write_item(build_item(product, **arguments), product)))
    (link,) = item.get_links("derived_from")
    assert json.loads(Path(link.get_absolute_href()).read_text())["id"] == model.stem


def test_bundle_that_is_none_is_refused(tmp_path):
    (tmp_path / "bundle.zip").write_bytes(b"not a zip")
    with pytest.raises(DescriptionError):
        write_model_item(tmp_path / "bundle.zip", tmp_path / "models")
    assert not (tmp_path / "models").exists()
