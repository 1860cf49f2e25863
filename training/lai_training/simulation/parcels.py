"""The map under a simulated landscape: parcels, what covers them, and smooth random fields.

Input: a size in pixels of 20 m and a generator. Output: `ParcelMap`, which parcel each pixel
belongs to and what kind of land the parcel is.

A landscape is a patchwork of blocks (Voronoi cells about a kilometre wide). Each block has one kind
of land use and one direction; it is cut into strips and the strips into parcels, so that fields are
elongated with straight borders. Woods and lakes get bent borders. Along some block borders run
roads and hedges one pixel wide, and some landscapes have a river.
"""

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

Float32 = NDArray[np.float32]
Index = NDArray[np.intp]


class LandUse(enum.IntEnum):
    """Land use of a block."""

    ARABLE = 0
    PASTURE = 1
    FOREST = 2
    VILLAGE = 3
    LAKE = 4
    HEDGE = 5
    ROAD = 6
    RIVER = 7


@dataclass(frozen=True)
class BlockStyle:
    """How blocks of one land use are cut, in pixels of 20 m."""

    share: float
    """Share of blocks."""
    strip_px: tuple[float, float]
    """Smallest and largest width of strips."""
    length_px: tuple[float, float]
    """Smallest and largest parcel length along a strip."""
    bend_px: float
    """How far borders wander."""


STYLE = {
    LandUse.ARABLE: BlockStyle(0.56, (4.0, 18.0), (7.0, 34.0), 0.4),
    LandUse.PASTURE: BlockStyle(0.12, (4.0, 14.0), (5.0, 20.0), 1.5),
    LandUse.FOREST: BlockStyle(0.24, (6.0, 24.0), (8.0, 30.0), 4.0),
    LandUse.VILLAGE: BlockStyle(0.05, (1.5, 3.0), (1.5, 4.0), 1.0),
    LandUse.LAKE: BlockStyle(0.03, (60.0, 80.0), (60.0, 80.0), 4.0),
}
"""Fields of 4x7 to 18x34 px are 1 to 25 ha."""


@dataclass(frozen=True)
class ParcelMap:
    """Which parcel each pixel belongs to."""

    parcel: Index
    """Parcel number from 0, shape (y, x)."""
    land_use: NDArray[np.uint8]
    """`LandUse` of each parcel, shape (parcel,)."""
    direction_rad: Float32
    """Direction of the parcel's long side, shape (parcel,), radians."""


def random_fields(
    count: int, height: int, width: int, rng: np.random.Generator, length_px: float
) -> Float32:
    """Draw smooth Gaussian random fields of mean 0 and sd 1, (count, height, width), float32.

    `length_px` is their correlation length (sd of the Gaussian covariance). They are periodic in
    their size.
    """
    noise = rng.standard_normal((count, height, width), dtype=np.float32)
    ky = fft.fftfreq(height).astype(np.float32)[:, None]
    kx = fft.rfftfreq(width).astype(np.float32)
    damping = np.exp(-((np.float32(np.pi * length_px)) ** 2) * (ky * ky + kx * kx))
    spectrum = fft.rfft2(noise) * damping
    fields: Float32 = fft.irfft2(spectrum, (height, width))
    sd = fields.std(axis=(1, 2), keepdims=True)
    result: Float32 = fields / np.maximum(sd, np.float32(1e-6))
    return result


def _cut(position: Float32, key: Index, dice: Float32) -> Index:
    """Number the pieces of lines that are cut at uneven places, (y, x).

    `position` along the line is in units of the mean piece; `key` numbers the lines, which are cut
    independently; `dice` is a table of random numbers in 0-1, its length a power of two.
    """
    piece = np.floor(position).astype(np.intp)
    start = dice[(key * 7919 + piece * 104_729) & (len(dice) - 1)] * np.float32(0.6)
    result: Index = piece - (position - piece < start)
    return result


def _blocks(
    height: int, width: int, rng: np.random.Generator, block_px: float
) -> tuple[Index, Float32, Index]:
    """Voronoi blocks: number of the nearest seed, distance to the border (px), and neighbour."""
    margin = block_px
    area = (height + 2 * margin) * (width + 2 * margin)
    count = max(int(rng.poisson(area / block_px**2)), 3)
    seeds = rng.uniform((-margin, -margin), (height + margin, width + margin), (count, 2))
    y, x = np.mgrid[0:height, 0:width]
    distance, nearest = cKDTree(seeds).query(np.stack([y.ravel(), x.ravel()], axis=1), k=2)
    shape = (height, width)
    gap = (distance[:, 1] - distance[:, 0]).reshape(shape).astype(np.float32)
    return nearest[:, 0].reshape(shape), gap, nearest[:, 1].reshape(shape)


def draw_parcels(
    height: int, width: int, rng: np.random.Generator, *, block_px: float = 50.0
) -> ParcelMap:
    """Draw a patchwork of parcels on height x width pixels of 20 m.

    `block_px` is the typical distance between blocks of one land use.
    """
    block, gap, neighbour = _blocks(height, width, rng, block_px)
    count = int(max(block.max(), neighbour.max())) + 1
    shares = np.array([style.share for style in STYLE.values()])
    use = rng.choice(np.array(list(STYLE)), count, p=shares / shares.sum())
    styles = [STYLE[LandUse(u)] for u in use]
    strip = np.array([np.exp(rng.uniform(*np.log(s.strip_px))) for s in styles], np.float32)
    length = np.array([np.exp(rng.uniform(*np.log(s.length_px))) for s in styles], np.float32)
    length = np.maximum(length, strip)
    bend = np.array([s.bend_px for s in styles], np.float32)
    angle = rng.uniform(0, np.pi, count).astype(np.float32)
    dice = rng.random(1 << 14, dtype=np.float32)

    wander = random_fields(2, height, width, rng, 8.0) * bend[block]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + wander
    cos, sin = np.cos(angle)[block], np.sin(angle)[block]
    across = (y * cos - x * sin) / strip[block]
    row = _cut(across, block, dice)
    line = block * 611_953 + row * 15_485_863
    along = (y * sin + x * cos) / length[block] + 3 * dice[(line + 17) & (len(dice) - 1)]
    piece = _cut(along, line, dice)

    key = (block * 4096 + (row & 4095)) * 4096 + (piece & 4095)
    key = _add_lines(key, block, neighbour, gap, dice)
    key = _add_river(key, rng)
    values, first, parcel = np.unique(key, return_index=True, return_inverse=True)
    land_use = use[block.ravel()[first]]
    land_use = np.where(values < 0, -values % 16, land_use).astype(np.uint8)
    return ParcelMap(parcel.reshape(height, width), land_use, angle[block.ravel()[first]])


def _add_lines(key: Index, block: Index, neighbour: Index, gap: Float32, dice: Float32) -> Index:
    """Lay roads and hedges along some block borders; lines have negative keys."""
    low, high = np.minimum(block, neighbour), np.maximum(block, neighbour)
    border = low * max(4096, int(high.max()) + 1) + high
    luck = dice[(border * 2_654_435_761) & (len(dice) - 1)]
    kind = np.where(luck < 0.3, LandUse.ROAD, LandUse.HEDGE)
    on_line = (luck < 0.65) & (gap < 1.0 + 2.0 * luck)
    return np.where(on_line, -(border * 16 + kind), key)


def _add_river(key: Index, rng: np.random.Generator) -> Index:
    """Draw a river one to three pixels wide that winds through one landscape in four."""
    if rng.random() > 0.25:
        return key
    height, width = key.shape
    field = random_fields(1, height, width, rng, 0.2 * max(height, width))[0]
    slope = np.hypot(*np.gradient(field))
    on_river = np.abs(field - np.float32(rng.normal(0, 0.5))) < rng.uniform(0.4, 1.5) * slope
    return np.where(on_river, -((1 << 48) + LandUse.RIVER), key)
