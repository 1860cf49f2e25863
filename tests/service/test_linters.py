"""stac-check and stac-node-validator find no fault in what the running service returns."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import requests
from fake_lai import ARGUMENTS, fake_layers, write_product
from linters import ACCEPTED, local_stac_check, needs_node_validator, validate_by_node
from service.fake_items import TOKEN

from lai_stac.files import write_thumbnail
from lai_stac.item import build_item, write_item

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def returned(live: str, tmp_path: Path) -> list[Path]:
    """Publish a product that `lai_stac` describes; return the documents that the service returns.

    Its item, one of a search, the collection and the landing page, which is a catalogue.
    """
    layers = fake_layers(np.random.default_rng(20))
    product = write_product(tmp_path / "product", layers)
    write_thumbnail(layers["LAI"], product / "thumbnail.png")
    item = build_item(product, **ARGUMENTS, mgrs_tile="32TQM", platform="S2A", samples=8, seed=1)
    folder = tmp_path / "results" / item.id
    shutil.copytree(product, folder)
    write_item(item, folder)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.post(f"{live}/publish", json={"directory": str(folder)}, headers=headers)
    assert answer.status_code == 201, answer.text
    (found,) = requests.get(f"{live}/search").json()["features"]
    documents = {
        "item": answer.json(),
        "found": found,
        "collection": requests.get(f"{live}/collections/{found['collection']}").json(),
        "landing": requests.get(live).json(),
    }
    paths = []
    for name, document in documents.items():
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(document))
    return paths


@needs_node_validator
@pytest.mark.slow
def test_node_validator_finds_no_fault(returned: list[Path], tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    done = validate_by_node(schemas, *returned)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stac_check_finds_no_fault(returned: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    linter = local_stac_check(monkeypatch)
    for path in returned:
        found = linter(json.loads(path.read_text()), assets_open_urls=False)
        assert found.valid_stac, (path.name, found.error_msg)
        assert set(found.create_best_practices_dict()) <= ACCEPTED, path.name
