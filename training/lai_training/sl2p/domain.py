"""The definition domain of SL2P as a fast look-up: is an input where the network was trained?

SNAP cuts the box of each band into ten parts, and a spectrum is inside when its tuple of cell
numbers is in a published list. SNAP compares the tuples as strings joined without separator; no
list holds the digit-ambiguous cell 11, so comparing tuples gives the same answer.

Source: SNAP `BiophysicalAlgo.processInputOutOfRange` (senbox-org/optical-toolbox, 08dc555).
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lai_training.sl2p.tables import Domain, load_network

_RADIX_BITS = 4  # cells 0 to 11 fit one hexadecimal digit


@dataclass(frozen=True)
class DomainIndex:
    """A domain whose cell tuples are split in two halves, each numbered by a small table."""

    domain: Domain
    """The published box and cells."""
    number_of_half: tuple[NDArray[np.int32], NDArray[np.int32]]
    """Per half: packed cell numbers -> row (or column) of `occupied`, 0 where no cell has them."""
    occupied: NDArray[np.bool_]
    """Which pairs of halves are in the list, flattened; row 0 and column 0 are False."""

    def find_outside(self, spectra: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return which spectra lie outside the domain.

        Args:
            spectra: reflectance, shape (bands, n); the arithmetic is done in its dtype.

        Returns:
            Shape (n,); True where a band is outside its box, the cell is not listed, or a band
            is NaN (the last may be missed: callers flag NaN outputs themselves).
        """
        box = self.domain
        split = _split(box.minimum.size)
        outside = np.zeros(spectra.shape[1], dtype=bool)
        packed = np.zeros((2, spectra.shape[1]), dtype=np.uint16)
        for band, values in enumerate(spectra):
            lowest, highest = spectra.dtype.type(box.minimum[band]), box.maximum[band]
            outside |= values < lowest
            # SNAP's order of operations, so that values on a border fall into SNAP's cell.
            cell = values - lowest
            cell *= 10
            cell /= spectra.dtype.type(highest - box.minimum[band])
            cell += 1
            np.clip(cell, 0, 11, out=cell)  # 0 and 11 are in no list
            half = packed[0 if band < split else 1]
            half <<= _RADIX_BITS
            with np.errstate(invalid="ignore"):  # NaN
                half |= cell.astype(np.uint16)
        first, second = (
            table.take(half) for table, half in zip(self.number_of_half, packed, strict=True)
        )
        first += second
        outside |= ~self.occupied.take(first)
        return outside


@functools.cache
def load_domain_index(variable: str, network: str, sensor: str) -> DomainIndex | None:
    """Return the look-up of one network, None where SNAP ships no domain (FCOVER 2_1)."""
    domain = load_network(variable, network, sensor).domain
    return None if domain is None else index_domain(domain)


def index_domain(domain: Domain) -> DomainIndex:
    """Number the distinct halves of the cell tuples and mark the pairs that occur."""
    split = _split(domain.minimum.size)
    numbers, places = [], []
    for half in (domain.cells[:, :split], domain.cells[:, split:]):
        packed = _pack(half)
        distinct, place = np.unique(packed, return_inverse=True)
        number = np.zeros(1 << (_RADIX_BITS * 4), dtype=np.int32)
        number[distinct] = np.arange(1, distinct.size + 1)
        numbers.append(number)
        places.append(place + 1)
    columns = int(numbers[1].max()) + 1
    occupied = np.zeros((int(numbers[0].max()) + 1, columns), dtype=bool)
    occupied[places[0], places[1]] = True
    numbers[0] *= columns  # so that the sum of the two numbers is the flat index
    return DomainIndex(domain, (numbers[0], numbers[1]), occupied.ravel())


def _split(bands: int) -> int:
    return (bands + 1) // 2


def _pack(cells: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Pack up to four cell numbers, shape (n, bands), into one integer in base 16."""
    packed = np.zeros(cells.shape[0], dtype=np.uint16)
    for column in cells.T:
        packed = (packed << _RADIX_BITS) | column
    return packed
