"""Real Sentinel-2 products to a pool of labelled training patches: `lai-train prepare`.

Input: a `PrepareConfig`. Output: a folder with `manifest.json` and a folder of arrays per split,
which `lai-train fit` reads by `pool: {prepared: FOLDER, split: train}`. One bad product among many
is skipped, with the reason in the manifest. Interrupted, it goes on after the last finished
product; given again with more products, it adds those.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lai_training.datasets.config import PrepareConfig
from lai_training.datasets.manifest import MANIFEST, Manifest, Skipped, read_manifest
from lai_training.datasets.parts import (
    Identity,
    Part,
    assemble,
    list_old_parts,
    read_part,
    write_part,
)
from lai_training.datasets.products import checksum, choose, list_products, tile_of
from lai_training.errors import PrepareError
from lai_udf.errors import ProductError
from lai_udf.predict import LaiInputError
from lai_udf.scenes.read import open_scene
from lai_udf.scenes.source import SceneSource

Progress = Callable[[int, int], None]
"""Called with (products done, all)."""
NAMED_REASONS = 3
"""Reasons that the error names where every product is bad."""

logger = logging.getLogger("lai_training")


def prepare(config: PrepareConfig, out: Path, *, progress: Progress | None = None) -> Manifest:
    """Make a pool of the products of `config`, or add to the one that is there.

    Args:
        config: sources, choice, patches, split.
        out: folder of the pool; made if missing.
        progress: called with (products done, all).

    Returns:
        The manifest, as written to `out`.

    Raises:
        PrepareError: no source, no product that gives a patch, or `out` holds a pool of other
            settings.
        OutputNotWritableError: the folder or disk refuses.
    """
    before = read_manifest(out)
    if before is not None:
        _refuse_other_settings(before, config, out)
    hrefs = list_products(config.sources)
    known = list_old_parts(out, before)
    found = Found()
    for number, href in enumerate(hrefs, start=1):
        _gather(href, config, out, known, found)
        if progress:
            progress(number, len(hrefs))
    if not found.parts:
        raise PrepareError(_explain_nothing(len(hrefs), found))
    parts = list(found.parts.values())
    return assemble(parts, found.skipped, config, out, unselected=found.unselected)


@dataclass
class Found:
    """What became of the products so far."""

    parts: dict[str, Part] = field(default_factory=dict)
    """By product id."""
    skipped: list[Skipped] = field(default_factory=list)
    unselected: int = 0
    """Those that `select` leaves out."""


def _refuse_other_settings(before: Manifest, config: PrepareConfig, out: Path) -> None:
    """Raise `PrepareError` where a pool was made by other settings."""
    if before.settings_digest == config.digest():
        return
    now = config.settings()
    differing = [key for key, value in before.settings.items() if now.get(key) != value]
    raise PrepareError(
        f"{out} holds a pool of other settings (it differs in {', '.join(differing)}): choose "
        "another folder, or delete that one"
    )


def _gather(
    href: str, config: PrepareConfig, out: Path, known: dict[str, Part], found: Found
) -> None:
    """Add a product to what was found; a bad one is skipped, and the reason kept."""
    product_id = ""
    try:
        source = open_scene(
            href,
            reflectance_scale=config.reflectance_scale,
            reflectance_offset=config.reflectance_offset,
        )
        product_id = source.metadata.product_id
        if product_id in found.parts:
            raise PrepareError(f"the same product as {found.parts[product_id].record.source}")
        part = _part_of(source, config, out, known)
        if part is None:
            found.unselected += 1
            return
        for other in found.parts.values():
            if other.record.checksum == part.record.checksum:
                raise PrepareError(f"the same files as {other.record.source}")
        found.parts[product_id] = part
    except (ProductError, LaiInputError, PrepareError) as error:
        logger.warning("skipped %s: %s", href, error)
        found.skipped.append(Skipped(source=href, product_id=product_id, reason=str(error)))


def _part_of(
    source: SceneSource, config: PrepareConfig, out: Path, known: dict[str, Part]
) -> Part | None:
    """Return the part of a product: the one there is, or a new one; None = it is not wanted."""
    tile, date = tile_of(source), source.metadata.datetime[:10]
    wanted, split = choose(tile, date, config.select, others=config.others)
    if not wanted:
        return None
    identity = Identity(tile, date, checksum(source), split)
    if identity.checksum in known:
        return known[identity.checksum]
    folder = out / f".parts-{config.digest()}" / identity.checksum[:16]
    part = read_part(folder, config)
    if part is None:
        write_part(source, identity, config, folder)
        part = read_part(folder, config)
    if part is None:
        raise PrepareError(f"{folder} vanished while it was made: is another prepare running?")
    return part


def _explain_nothing(products: int, found: Found) -> str:
    if not products:
        return f"no product found: sources hold no SAFE folder, STAC Item or GeoTIFF; no {MANIFEST}"
    if not found.skipped:
        return f"none of {products} products is of a tile and date of select"
    reasons = "; ".join(f"{each.source}: {each.reason}" for each in found.skipped[:NAMED_REASONS])
    left = len(found.skipped) - NAMED_REASONS
    more = f"; and {left} more" if left > 0 else ""
    return f"no product gives a patch ({found.unselected} not selected). {reasons}{more}"
