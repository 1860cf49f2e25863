"""Real Sentinel-2 products to a pool of labelled training patches: `lai-train prepare`.

Input: a `PrepareConfig`. Output: a folder with a part per product and, written last,
`manifest.json`, which `lai-train fit` reads by `pool: {prepared: FOLDER, split: train}`. One bad
product among many is skipped, with the reason in the manifest. Interrupted, it resumes after the
last finished product; given again with more products, it adds those.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lai_training.datasets.config import SPLITS, PrepareConfig
from lai_training.datasets.manifest import (
    MANIFEST,
    RECORD,
    Leakage,
    Manifest,
    ProductRecord,
    Range,
    Skipped,
    SplitRecord,
    read_manifest,
)
from lai_training.datasets.pool import divide, measure_leakage, open_array
from lai_training.datasets.product import Identity, write_part
from lai_training.datasets.products import checksum, choose, list_products, tile_of
from lai_training.errors import PrepareError
from lai_training.reporting import read_words, write_files
from lai_udf.errors import ProductError
from lai_udf.predict import BANDS, LaiInputError
from lai_udf.scenes.read import open_scene
from lai_udf.scenes.source import SceneSource

Progress = Callable[[int, int], None]
"""Called with (products done, all)."""
NAMED_REASONS = 3
"""Reasons that the error names where every product is bad."""

logger = logging.getLogger("lai_training")


@dataclass
class Found:
    """What became of the products so far."""

    products: dict[str, ProductRecord] = field(default_factory=dict)
    """By product id."""
    skipped: list[Skipped] = field(default_factory=list)
    unselected: int = 0
    """Those that `select` leaves out."""


def prepare(config: PrepareConfig, out: Path, *, progress: Progress | None = None) -> Manifest:
    """Make a pool of the products of `config`, or add to the one that is there.

    `progress` is called with (products done, all). Returns the manifest, as written to `out`.

    Raises:
        PrepareError: no source, no product that gives a patch, or `out` holds a pool of other
            settings.
        OutputNotWritableError: the folder or disk refuses.
    """
    before = read_manifest(out)
    if before is not None and before.settings_digest != config.digest():
        now = config.settings()
        differing = [key for key, value in before.settings.items() if now.get(key) != value]
        raise PrepareError(
            f"{out} holds a pool of other settings (it differs in {', '.join(differing)}): choose "
            "another folder, or delete that one"
        )
    hrefs, found = list_products(config.sources), Found()
    for number, href in enumerate(hrefs, start=1):
        _gather(href, config, out, found)
        if progress:
            progress(number, len(hrefs))
    if not found.products:
        raise PrepareError(_explain_nothing(len(hrefs), found))
    manifest = describe_pool(found, config, out)
    write_files(out, {}, {MANIFEST: manifest.to_json()})
    named = {product.folder for product in manifest.products}
    for record in out.glob(f"*/{RECORD}"):  # of products that are no more
        if record.parent.name not in named:
            shutil.rmtree(record.parent, ignore_errors=True)
    return manifest


def _gather(href: str, config: PrepareConfig, out: Path, found: Found) -> None:
    """Add a product to what was found; a bad one is skipped, and the reason kept."""
    product_id = ""
    try:
        source = open_scene(
            href,
            reflectance_scale=config.reflectance_scale,
            reflectance_offset=config.reflectance_offset,
        )
        product_id = source.metadata.product_id
        if product_id in found.products:
            raise PrepareError(f"the same product as {found.products[product_id].source}")
        product = _make(source, config, out)
        if product is None:
            found.unselected += 1
            return
        for other in found.products.values():
            if other.checksum == product.checksum:
                raise PrepareError(f"the same files as {other.source}")
        found.products[product_id] = product
    except (ProductError, LaiInputError, PrepareError) as error:
        logger.warning("skipped %s: %s", href, error)
        found.skipped.append(Skipped(source=href, product_id=product_id, reason=str(error)))


def _make(source: SceneSource, config: PrepareConfig, out: Path) -> ProductRecord | None:
    """Return a product whose part is finished, or was before; None = it is not wanted."""
    tile, date = tile_of(source), source.metadata.datetime[:10]
    wanted, split = choose(tile, date, config.select, others=config.others)
    if not wanted:
        return None
    total = checksum(source)
    identity = Identity(tile, total, split, folder=f"{total[:16]}-{config.digest()}")
    try:
        path = out / identity.folder / RECORD
        return ProductRecord.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return write_part(source, identity, config, out)


def _explain_nothing(products: int, found: Found) -> str:
    if not products:
        return f"no product found: sources hold no SAFE folder, STAC Item or GeoTIFF; no {MANIFEST}"
    if not found.skipped:
        return f"none of {products} products is of a tile and date of select"
    reasons = "; ".join(f"{each.source}: {each.reason}" for each in found.skipped[:NAMED_REASONS])
    left = len(found.skipped) - NAMED_REASONS
    more = f"; and {left} more" if left > 0 else ""
    return f"no product gives a patch ({found.unselected} not selected). {reasons}{more}"


def describe_pool(found: Found, config: PrepareConfig, out: Path) -> Manifest:
    """Return the manifest of the products whose parts lie in a folder."""
    products = list(found.products.values())
    splits = {
        split: SplitRecord(
            patches=sum(product.patches.get(split, 0) for product in products),
            products=sum(split in product.patches for product in products),
        )
        for split in SPLITS
    }
    return Manifest(
        settings=config.settings(),
        settings_digest=config.digest(),
        versions={package: version(package) for package in ("numpy", "rasterio", "sentinel2-lai")},
        bands=BANDS,
        patch_px=config.patch_px,
        splits=splits,
        normalisation=measure_limits(products),
        leakage=_measure_leakage(products, config, out),
        counts={
            "products": len(products),
            "products_skipped": len(found.skipped),
            "products_not_selected": found.unselected,
            "patches_that_fit": sum(product.candidates for product in products),
            "patches_dropped": sum(product.dropped for product in products),
            "patches": sum(split.patches for split in splits.values()),
        },
        products=tuple(products),
        skipped=tuple(found.skipped),
    )


def measure_limits(products: Sequence[ProductRecord]) -> Range:
    """Return the constants of eq. 1 over images with training patches, or over all for lack."""
    trained = [each for each in products if "train" in each.patches] or list(products)
    lowest = np.nanmin([each.percentile_2 for each in trained], axis=0).tolist()
    highest = np.nanmax([each.percentile_98 for each in trained], axis=0).tolist()
    return Range(bands=BANDS, lowest=tuple(lowest), highest=tuple(highest))


def _measure_leakage(
    products: Sequence[ProductRecord], config: PrepareConfig, out: Path
) -> Leakage:
    places = []
    for product in products:
        corners = open_array(out, product, "corners")
        splits = divide(product, config.split, corners)
        places.append((product.grid, {name: corners[splits == name] for name in product.patches}))
    return measure_leakage(places, config.patch_px, read_words()[f"split by {config.split.by}"])
