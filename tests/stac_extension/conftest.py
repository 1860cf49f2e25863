"""Fixtures of items: one small product on disk and its item."""

from pathlib import Path

import numpy as np
import pystac
import pytest
from fake_lai import ARGUMENTS, fake_layers, write_product

from lai_stac.files import write_thumbnail
from lai_stac.item import build_item


@pytest.fixture
def layers(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return fake_layers(rng)


@pytest.fixture
def product(tmp_path: Path, layers: dict[str, np.ndarray]) -> Path:
    return write_product(tmp_path / "product", layers)


@pytest.fixture
def item(product: Path, layers: dict[str, np.ndarray]) -> pystac.Item:
    write_thumbnail(layers["LAI"], product / "thumbnail.png")
    return build_item(product, **ARGUMENTS, mgrs_tile="32TQM", platform="S2A", samples=8, seed=1)
