"""Real Sentinel-2 products to a pool of labelled training patches: `lai-train prepare`.

Comes in: a `PrepareConfig`. Goes out: a folder with `manifest.json` and a folder of arrays per
split, which `lai-train fit` reads by `pool: {prepared: FOLDER, split: train}`. One bad product
among many is skipped, and the manifest says why. Interrupted, it goes on after the last finished
product; given again with more products, it adds those.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from lai_training.errors import PrepareError
from lai_training.prepare_assemble import Part, assemble, list_old_parts, read_part
from lai_training.prepare_config import PrepareConfig
from lai_training.prepare_manifest import MANIFEST, Manifest, Skipped, read_manifest
from lai_training.prepare_product import Identity, write_part
from lai_training.prepare_products import checksum, choose, list_products, tile_of
from lai_udf.errors import ProductError
from lai_udf.predict import LaiInputError
from lai_udf.products import open_scene
from lai_udf.products_source import SceneSource

Progress = Callable[[int, int], None]
"""Told (products done, all)."""
NAMED_REASONS = 3
"""Reasons that the error names where every product is bad."""

logger = logging.getLogger("lai_training")


def prepare(config: PrepareConfig, out: Path, *, progress: Progress | None = None) -> Manifest:
    """Make a pool of the products of `config`, or add to the one that is there.

    Args:
        config: sources, choice, patches, split.
        out: folder of the pool; made if missing.
        progress: told (products done, all).

    Returns:
        The manifest, as written to `out`.

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
    hrefs = list_products(config.sources)
    known = list_old_parts(out, before)
    parts: dict[str, Part] = {}
    skipped: list[Skipped] = []
    unselected = 0
    for number, href in enumerate(hrefs):
        product_id = ""
        try:
            source = open_scene(
                href,
                reflectance_scale=config.reflectance_scale,
                reflectance_offset=config.reflectance_offset,
            )
            product_id = source.metadata.product_id
            if product_id in parts:
                raise PrepareError(f"the same product as {parts[product_id].record.source}")
            part = _part_of(source, config, out, known)
            if part is None:
                unselected += 1
                continue
            for other in parts.values():
                if other.record.checksum == part.record.checksum:
                    raise PrepareError(f"the same files as {other.record.source}")
            parts[product_id] = part
        except (ProductError, LaiInputError, PrepareError) as error:
            logger.warning("skipped %s: %s", href, error)
            skipped.append(Skipped(source=href, product_id=product_id, reason=str(error)))
        finally:
            if progress:
                progress(number + 1, len(hrefs))
    if not parts:
        raise PrepareError(_explain_nothing(len(hrefs), unselected, skipped))
    return assemble(list(parts.values()), skipped, config, out, unselected=unselected)


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


def _explain_nothing(found: int, unselected: int, skipped: list[Skipped]) -> str:
    if not found:
        return f"no product found: sources hold no SAFE folder, STAC Item or GeoTIFF; no {MANIFEST}"
    if not skipped:
        return f"none of {found} products is of a tile and date of select"
    reasons = "; ".join(f"{each.source}: {each.reason}" for each in skipped[:NAMED_REASONS])
    more = f"; and {len(skipped) - NAMED_REASONS} more" if len(skipped) > NAMED_REASONS else ""
    return f"no product gives a patch ({unselected} not selected). {reasons}{more}"
