"""The published SL2P tables: which networks exist, their weights and their definition domain.

Input: `coefficients.json` beside this file (provenance inside). Output: frozen `Network`
objects in the notation of SNAP, nothing folded or rounded.
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
NetworkVersion = Literal["2_1", "3_0"]

VARIABLES: tuple[Variable, ...] = ("LAI", "FAPAR", "FCOVER", "CCC", "CWC")
"""Leaf area index, absorbed PAR, green cover, canopy chlorophyll and water content."""

SNAP_NAMES: dict[str, Variable] = {"LAI_Cab": "CCC", "LAI_Cw": "CWC"}
"""SNAP's names of the canopy chlorophyll and water content."""

SENSORS = ("S2A", "S2B", "S2C", "S2A_10m", "S2B_10m", "S2C_10m", "LANDSAT8")
"""Sensors with a 3_0 network; 2_1 has one network for the 20 m bands of S2A, S2B and S2C."""


@dataclass(frozen=True)
class Domain:
    """Where a network was trained: a box per band and the occupied cells of a 10-part grid."""

    minimum: NDArray[np.float64]
    """Lower corner of the box, reflectance, shape (bands,)."""
    maximum: NDArray[np.float64]
    """Upper corner of the box, reflectance, shape (bands,)."""
    cells: NDArray[np.uint8]
    """Occupied cells, shape (n, bands), each number from 1 to 10."""


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


def list_networks() -> tuple[tuple[str, str, str], ...]:
    """Return every (network version, sensor, variable) that has a table."""
    tables = _read_tables()
    found = []
    for version, sensors in (("2_1", SENSORS[:3]), ("3_0", SENSORS)):
        for sensor in sensors:
            name = _set_name(version, sensor)
            found += [(version, sensor, variable) for variable in tables["sets"][name]["variables"]]
    return tuple(found)


@functools.cache
def load_network(variable: str = "LAI", network: str = "2_1", sensor: str = "S2A") -> Network:
    """Return one network.

    Args:
        variable: one of `VARIABLES`, or SNAP's `LAI_Cab` and `LAI_Cw`.
        network: `2_1` (one set for S2A, S2B and S2C) or `3_0` (a set per sensor).
        sensor: one of `SENSORS`; the `_10m` sets take B03, B04 and B08.

    Raises:
        Sl2pError: there is no such set, or the set has no such variable.
    """
    name = _set_name(network, sensor)
    tables = _read_tables()
    shared = tables["sets"][name]
    variable = SNAP_NAMES.get(variable, variable)
    if variable not in shared["variables"]:
        known = ", ".join(shared["variables"])
        raise Sl2pError(f"SL2P {name} has no variable {variable!r}; it has {known}")
    own = shared["variables"][variable]
    return Network(
        name=f"{name} {variable}",
        unit=own["unit"],
        inputs=tuple(shared["inputs"]),
        input_min=np.array(shared["input_min"]),
        input_max=np.array(shared["input_max"]),
        hidden_weights=np.array(own["hidden_weights"]),
        hidden_bias=np.array(own["hidden_bias"]),
        output_weights=np.array(own["output_weights"]),
        output_bias=own["output_bias"],
        output_range=(own["output_range"][0], own["output_range"][1]),
        minimum=own["minimum"],
        maximum=own["maximum"],
        tolerance=abs(own["tolerance"]),  # negative in some tables; SNAP takes abs() too
        domain=_read_domain(name) if own["has_domain"] else None,
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
