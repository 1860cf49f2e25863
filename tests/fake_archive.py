"""A small archive of Sentinel-2 products of several tiles and dates, 64 px wide, made of land."""

from pathlib import Path

import numpy as np
from fake_products import BANDS, CORNER, CRS, PRODUCT, product_xml, write_raster, write_safe

LEAF = np.array([0.03, 0.06, 0.03, 0.1, 0.25, 0.3, 0.32, 0.33, 0.17, 0.08])
SOIL = np.array([0.07, 0.09, 0.12, 0.15, 0.17, 0.19, 0.2, 0.21, 0.27, 0.22])
SIZE = 64


def make_land_dn(seed: int = 0, size: int = SIZE) -> dict[str, np.ndarray]:
    """Parcels of leaf and soil as digital numbers with the offset of baseline 04.00."""
    rng = np.random.default_rng(seed)
    cover = rng.uniform(0, 1, (size // 8, size // 8)).repeat(8, 0).repeat(8, 1)
    cover = cover + 0.02 * rng.standard_normal(cover.shape)
    mixed = cover * LEAF[:, None, None] + (1 - cover) * SOIL[:, None, None]
    dn = np.rint((mixed + 0.1) * 10_000).astype("uint16")
    return dict(zip(BANDS, dn, strict=True))


def product_name(tile: str = "29UNU", date: str = "20221005") -> str:
    """Return the name of a product of that tile and date."""
    return PRODUCT.replace("29UNU", tile).replace("20221005T115411", f"{date}T115411")


def write_land(
    folder: Path,
    *,
    tile: str = "29UNU",
    date: str = "20221005",
    baseline: str = "04.00",
    offsets: bool = True,
    scene_class: np.ndarray | None = None,
    dn: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a SAFE folder of land; `scene_class` (64, 64) stands in for all vegetation."""
    name = product_name(tile, date)
    text = product_xml(baseline, offsets).replace(PRODUCT, name)
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    text = text.replace("2022-10-05", day)
    if dn is None:
        dn = make_land_dn(int(date) + sum(tile.encode()))
        if float(baseline) < 4:
            dn = {band: layer - 1000 for band, layer in dn.items()}
    safe = write_safe(folder, dn, product=text, name=name)
    if scene_class is not None:
        path = find_image(safe, "SCL")
        path.unlink()
        write_raster(path, scene_class.astype("uint8"), crs=CRS, corner=CORNER)
    return safe


def find_image(safe: Path, band: str) -> Path:
    """Return the image of a band in a SAFE folder."""
    return next(safe.rglob(f"*_{band}_*.jp2"))


def remove_angles(safe: Path) -> None:
    """Take the tile metadata away."""
    next(safe.rglob("MTD_TL.xml")).unlink()


def truncate(path: Path, share: float = 0.5) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
