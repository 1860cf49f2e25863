"""The published SL2P tables: which networks exist, their weights, and where they were trained.

Input: `coefficients.json` beside this file (provenance inside). Output: frozen `Network`
objects in the notation of SNAP, nothing folded or rounded, and their definition domain.

SNAP cuts the box of each band into ten parts, and a spectrum is inside when its tuple of cell
numbers is in a published list. SNAP compares the tuples as strings joined without separator; no
list holds the digit-ambiguous cell 11, so comparing tuples gives the same answer.

Source: SNAP `BiophysicalAlgo.processInputOutOfRange` (senbox-org/optical-toolbox, 08dc555).
"""

import functools
import importlib.resources
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lai_training.errors import Sl2pError

Variable = Literal["LAI", "FAPAR", "FCOVER", "CCC", "CWC"]

VARIABLES: tuple[Variable, ...] = ("LAI", "FAPAR", "FCOVER", "CCC", "CWC")
"""Leaf area index, absorbed PAR, green cover, canopy chlorophyll and water content."""

SNAP_NAMES: dict[str, Variable] = {"LAI_Cab": "CCC", "LAI_Cw": "CWC"}
"""SNAP's names of the canopy chlorophyll and water content."""

SENSORS = ("S2A", "S2B", "S2C", "S2A_10m", "S2B_10m", "S2C_10m", "LANDSAT8")
"""Sensors with a 3_0 network; 2_1 has one network for the 20 m bands of S2A, S2B and S2C."""


_BITS = np.left_shift(1, np.arange(8)).astype(np.uint8)


@dataclass(frozen=True)
class Domain:
    """Where a network was trained: a box per band and the occupied cells of a 10-part grid."""

    minimum: NDArray[np.float64]
    """Lower corner of the box, reflectance, shape (bands,)."""
    maximum: NDArray[np.float64]
    """Upper corner of the box, reflectance, shape (bands,)."""
    cells: NDArray[np.uint8]
    """Occupied cells, shape (n, bands), each number from 1 to 10."""

    @property
    def codes(self) -> NDArray[np.int64]:
        """Return the occupied cells as numbers whose digits are those of the cell, less one."""
        digits = 10 ** np.arange(self.minimum.size - 1, -1, -1)
        return np.asarray((self.cells.astype(np.int64) - 1) @ digits)

    @functools.cached_property
    def _occupied(self) -> NDArray[np.uint8]:
        """Return a bit per code, packed: a look-up that fits into the cache."""
        codes = self.codes
        bits = np.zeros(10**self.minimum.size // 8 + 1, dtype=np.uint8)
        np.bitwise_or.at(bits, codes >> 3, _BITS[codes & 7])
        return bits

    def find_outside(self, spectra: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return which spectra, (bands, n) reflectance, lie outside the domain, (n,).

        True where a band is outside its box or NaN, or the cell is not listed. The arithmetic is
        done in the dtype of the spectra.
        """
        inside = np.ones(spectra.shape[1], dtype=bool)
        code = np.zeros(spectra.shape[1], dtype=np.int32)
        for values, low, high in zip(spectra, self.minimum, self.maximum, strict=True):
            lowest, width = spectra.dtype.type(low), spectra.dtype.type(high - low)
            # SNAP's order of operations, so that values on a border fall into SNAP's cell.
            cell = values - lowest
            cell *= 10
            cell /= width
            cell += 1
            inside &= (values >= lowest) & (cell < 11)
            code *= 10
            code += np.where(inside, cell, 1).astype(np.int32) - 1
        inside &= (self._occupied[code >> 3] & _BITS[code & 7]).astype(bool)
        return ~inside


@dataclass(frozen=True)
class Network:
    """One SL2P network as published: 11 (or 6, or 8) inputs, five tanh neurons, one output."""

    name: str
    """Set and variable, such as `3_0/S2A LAI`."""
    unit: str
    """Unit of the output; SNAP's own labels of CCC and CWC are wrong."""
    inputs: tuple[str, ...]
    """Names of the inputs in order: bands, then three cosines of angles."""
    input_min: NDArray[np.float64]
    """Normalisation: value that maps to -1, shape (inputs,)."""
    input_max: NDArray[np.float64]
    """Normalisation: value that maps to +1, shape (inputs,)."""
    hidden_weights: NDArray[np.float64]
    """Shape (5, inputs)."""
    hidden_bias: NDArray[np.float64]
    """Shape (5,)."""
    output_weights: NDArray[np.float64]
    """Shape (5,)."""
    output_bias: float
    """Bias of the linear output."""
    output_range: tuple[float, float]
    """Denormalisation: values that -1 and +1 map to."""
    minimum: float
    """Least valid output."""
    maximum: float
    """Greatest valid output."""
    tolerance: float
    """How far outside the valid range an output is clipped instead of kept; never negative."""
    domain: Domain | None
    """None for FCOVER 2_1, whose tables hold no domain: its inputs are never flagged."""

    def fold(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return the weights with 2 (x - min) / (max - min) - 1 and the output's range in them.

        Hidden weights (5, inputs + 1), the last column the bias; output weights (5,); constant.
        """
        scale = 2 / (self.input_max - self.input_min)
        bias = self.hidden_bias + self.hidden_weights @ (-self.input_min * scale - 1)
        low, high = self.output_range
        half = 0.5 * (high - low)
        hidden = np.column_stack([self.hidden_weights * scale, bias])
        return hidden, self.output_weights * half, self.output_bias * half + half + low


def list_networks() -> tuple[tuple[str, str, str], ...]:
    """Return every (network version, sensor, variable) that has a table."""
    tables = _read_tables()
    networks = []
    for version, sensors in (("2_1", SENSORS[:3]), ("3_0", SENSORS)):
        for sensor in sensors:
            name = _set_name(version, sensor)
            networks += [
                (version, sensor, variable) for variable in tables["sets"][name]["variables"]
            ]
    return tuple(networks)


@functools.cache
def load_network(variable: str = "LAI", network: str = "2_1", sensor: str = "S2A") -> Network:
    """Return one network.

    `variable` is one of `VARIABLES`, or SNAP's `LAI_Cab` and `LAI_Cw`; `network` is `2_1` (one set
    for S2A, S2B and S2C) or `3_0` (a set per sensor); `sensor` one of `SENSORS`, of which the
    `_10m` sets take B03, B04 and B08. Raises `Sl2pError` where there is no such set or variable.
    """
    name = _set_name(network, sensor)
    tables = _read_tables()
    shared = tables["sets"][name]
    variable = SNAP_NAMES.get(variable, variable)
    if variable not in shared["variables"]:
        names = ", ".join(shared["variables"])
        raise Sl2pError(f"SL2P {name} has no variable {variable!r}; it has {names}")
    table = shared["variables"][variable]
    return Network(
        name=f"{name} {variable}",
        unit=table["unit"],
        inputs=tuple(shared["inputs"]),
        input_min=np.array(shared["input_min"]),
        input_max=np.array(shared["input_max"]),
        hidden_weights=np.array(table["hidden_weights"]),
        hidden_bias=np.array(table["hidden_bias"]),
        output_weights=np.array(table["output_weights"]),
        output_bias=table["output_bias"],
        output_range=tuple(table["output_range"]),
        minimum=table["minimum"],
        maximum=table["maximum"],
        tolerance=abs(table["tolerance"]),  # negative in some tables; SNAP takes abs() too
        domain=_read_domain(name) if table["has_domain"] else None,
    )


def _set_name(network: str, sensor: str) -> str:
    """Return the key of a set in the tables, following the sets that SNAP copied."""
    if sensor not in SENSORS:
        raise Sl2pError(f"SL2P has no sensor {sensor!r}; choose one of {', '.join(SENSORS)}")
    if network == "2_1":
        if sensor not in SENSORS[:3]:
            raise Sl2pError(f"SL2P 2_1 has no set for {sensor}; use network='3_0'")
        return "2_1"
    if network != "3_0":
        raise Sl2pError(f"SL2P has no network {network!r}; choose '2_1' or '3_0'")
    name = f"3_0/{sensor}"
    same_as: dict[str, str] = _read_tables()["same_as"]
    return same_as.get(name, name)


@functools.cache
def _read_domain(name: str) -> Domain:
    tables = _read_tables()
    shared = tables["sets"][name]
    minimum = np.array(shared["domain_min"])
    digits = "".join(tables["cells"][shared["domain_cells"]])
    cells = np.array([int(digit, 16) for digit in digits], dtype=np.uint8)
    return Domain(minimum, np.array(shared["domain_max"]), cells.reshape(-1, minimum.size))


@functools.cache
def _read_tables() -> dict[str, Any]:
    file = importlib.resources.files("lai_training.sl2p") / "coefficients.json"
    tables: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return tables
