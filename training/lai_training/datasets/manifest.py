"""The manifest of a pool of real patches: what went in, what came out, what was skipped and why.

`manifest.json` is written last, in one move: a folder without it is unfinished, and its products
are exactly those that it names. Reading checks it, for people edit JSON.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from lai_training.config_files import Checked
from lai_training.errors import PrepareError

MANIFEST = "manifest.json"
ARRAYS = ("reflectance", "lai", "flags", "cosines", "corners")
"""Arrays of a product, each a file `<folder>/<array>.npy`; see `datasets.patches.Patches`."""
RECORD = "record.json"
"""In the folder of a product, a `ProductRecord`."""

Origin = Literal["grid", "scene", "nominal"]


class ProductRecord(Checked):
    """One product that gave patches."""

    product_id: str
    source: str
    """Path or href."""
    tile: str
    """MGRS tile; of files without a name, the 100 km square of their centre."""
    datetime: str
    """Acquisition, ISO 8601, UTC."""
    platform: str
    processing_baseline: str
    """Empty where unknown."""
    checksum: str
    """sha256 of metadata and local band files, or of the Item whose bands lie elsewhere."""
    folder: str
    """Its patches, in the folder of the pool."""
    grid: str
    angles: dict[str, Origin]
    """Where each angle came from: a grid, one value for the scene, or nominal for lack of any."""
    labels: str
    """`sl2p 2_1`, or the checksum of the label raster."""
    candidates: int
    """Patches that fit into the image."""
    dropped: int
    """Of them, those with too little data."""
    masked_share: float
    """Pixels under cloud, shadow, snow or their buffer, among those with data."""
    missing_share: float
    """Pixels without data."""
    has_scene_classes: bool
    """Whether there was an SCL; without it nothing is masked."""
    percentile_2: tuple[float, ...]
    """(10,) reflectance, of all unmasked pixels."""
    percentile_98: tuple[float, ...]
    flag_shares: dict[str, float]
    """Share of the labelled pixels with each of SNAP's flags."""
    patches: dict[str, int]
    """Patches by split."""

    @property
    def date(self) -> str:
        """Day of acquisition."""
        return self.datetime[:10]


class Skipped(Checked):
    """One product that gave nothing."""

    source: str
    product_id: str
    """Empty if unknown."""
    reason: str


class Range(Checked):
    """Constants of eq. 1, frozen in reflectance units."""

    bands: tuple[str, ...]
    lowest: tuple[float, ...]
    """Smallest 2nd percentile of any image with training patches."""
    highest: tuple[float, ...]
    """Largest 98th percentile of any image with training patches."""


class Leakage(Checked):
    """How much of the land of validation and test was trained on, shares of their patches."""

    touching: float
    """With a neighbour in training, of the same scene."""
    same_place: float
    """With a training patch of the same place, on another date."""
    note: str


class SplitRecord(Checked):
    """One split: how many patches of how many products."""

    patches: int
    products: int


class Manifest(Checked):
    """All of `manifest.json`."""

    format: Literal["sentinel2-lai prepared pool 2"] = "sentinel2-lai prepared pool 2"
    settings: dict[str, Any]
    """The config without its sources."""
    settings_digest: str
    versions: dict[str, str]
    bands: tuple[str, ...]
    patch_px: int
    splits: dict[str, SplitRecord]
    normalisation: Range
    leakage: Leakage
    counts: dict[str, int]
    """Products found, used, skipped; patches that fit, kept, dropped."""
    products: tuple[ProductRecord, ...]
    """In the order of their patches in the files."""
    skipped: tuple[Skipped, ...]

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a prepared pool; None where there is none.

    Raises:
        PrepareError: the file is no manifest.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PrepareError(
            f"{path} is no manifest of lai-train prepare ({reason}): delete {folder} and prepare "
            "it anew"
        ) from error


def format_manifest(manifest: Manifest) -> str:
    """Return the summary of a manifest, as lines of text."""
    counts = manifest.counts
    lines = [
        f"{counts['products']} products used, {counts['products_skipped']} skipped, "
        f"{counts['products_not_selected']} not selected",
        f"{counts['patches']} patches of {manifest.patch_px} px kept, "
        f"{counts['patches_dropped']} dropped for cloud, snow or no data",
        *(
            f"{name:>10}: {split.patches} patches of {split.products} products"
            for name, split in manifest.splits.items()
        ),
        f"leakage: {manifest.leakage.touching:.0%} of the held-out patches touch training patches "
        f"of their scene, {manifest.leakage.same_place:.0%} show a place trained on at other dates",
    ]
    shares = manifest.settings["split"]
    for name in ("validation", "test"):
        if shares[f"{name}_share"] and not manifest.splits[name].patches:
            lines.append(f"no patch fell into {name}: prepare more products, or change split")
    unmasked = sum(not product.has_scene_classes for product in manifest.products)
    if unmasked:
        lines.append(f"products without scene classes, whose clouds are not masked: {unmasked}")
    nominal = sum("nominal" in product.angles.values() for product in manifest.products)
    if nominal:
        lines.append(f"products that lack an angle (its nominal value stands in): {nominal}")
    return "\n".join(lines)
