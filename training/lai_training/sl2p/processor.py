"""SL2P, the teacher: the networks behind SNAP's biophysical processor in vectorised NumPy.

Input: reflectance (unit 1, offset removed) and the cosines of three angles, as a table
(`predict`), as arrays by band name (`predict_bands`) or as a labelled cube (`predict_image`).
Output: the variable and SNAP's flag bits. Values and flags are SNAP's, with two exceptions: any
NaN input gives NaN and `INPUT_OUT_OF_RANGE` (SNAP leaves a NaN angle, and every NaN of FCOVER 2_1,
unflagged), and `clip=False` leaves the output as the network made it.

Arithmetic is done in float32 for float32 input (within 3e-5 LAI of float64 anywhere in the input
box) and in float64 for everything else, in blocks that stay in the processor's cache.

Source: SNAP `BiophysicalAlgo.java`, `BiophysicalOp.java` (senbox-org/optical-toolbox, 08dc555).
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from lai_training.errors import Sl2pError
from lai_training.sl2p.tables import Network, load_network
from lai_udf.predict import ANGLES, SL2P_ROWS

NOMINAL_VIEW_ZENITH_DEG = 0.0
NOMINAL_SUN_ZENITH_DEG = 40.0
NOMINAL_RELATIVE_AZIMUTH_DEG = 90.0
"""Angles assumed where none are given: all three together cost 0.11 LAI RMSD on field spectra."""

_BLOCK = 1 << 15  # pixels; twelve float32 rows of it are 1.5 MB

# Columns per matrix product. OpenBLAS keeps products of at most 2**18 multiplications on one
# thread; larger ones of this shape gain nothing from a second, and wait for it on a busy machine
# (12.6 s instead of 0.7 s for a tile).
_GEMM = 1 << 12

_PATCHES = 64  # at a time: few enough to fit in memory, enough to hide the call

Floats = NDArray[np.floating[Any]]
Fill = Callable[[slice, Floats], None]


class Flag(enum.IntFlag):
    """SNAP's flag bits; the first is about the input, the others about the output."""

    INPUT_OUT_OF_RANGE = 1
    """Outside the definition domain, or NaN."""
    THRESHOLDED_TO_MIN = 2
    """Below the minimum by less than the tolerance: clipped to the minimum."""
    THRESHOLDED_TO_MAX = 4
    """Above the maximum by less than the tolerance: clipped to the maximum."""
    TOO_LOW = 8
    """Below the minimum by more than the tolerance: kept."""
    TOO_HIGH = 16
    """Above the maximum by more than the tolerance: kept."""


def predict(
    x: ArrayLike,
    *,
    variable: str = "LAI",
    network: str = "2_1",
    sensor: str = "S2A",
    clip: bool = True,
) -> tuple[Floats, NDArray[np.uint8]]:
    """Run SL2P on a table of inputs.

    Args:
        x: shape (n, 11): B03 B04 B05 B06 B07 B8A B11 B12 reflectance, cosine of the view zenith,
            of the sun zenith and of the relative azimuth. The 10 m sets take six columns (B03 B04
            B08 and the cosines), LANDSAT8 eight (OLI bands 3 to 7).
        variable: LAI (m2 m-2), FAPAR (1), FCOVER (1), CCC (ug cm-2) or CWC (g cm-2).
        network: `2_1` or `3_0`.
        sensor: S2A, S2B, S2C, the same with `_10m`, or LANDSAT8 (3_0 only).
        clip: False gives the output of the network itself; the flags stay the same.

    Returns:
        The variable, shape (n,), float32 for float32 input and else float64, and the flag bits
        (`Flag`), shape (n,), uint8.

    Raises:
        Sl2pError: there is no such network, or `x` has not the right number of columns.
    """
    table = np.asarray(x)
    net = load_network(variable, network, sensor)
    if table.ndim != 2 or table.shape[1] != len(net.inputs):
        expected = f"(n, {len(net.inputs)}): {' '.join(net.inputs)}"
        raise Sl2pError(f"SL2P {net.name} takes x of shape {expected}; got {table.shape}")

    def fill(part: slice, rows: Floats) -> None:
        rows[:] = table[part].T

    return _run(net, table.dtype, fill, table.shape[0], clip)


def predict_bands(
    bands: Mapping[str, Floats],
    *,
    variable: str = "LAI",
    network: str = "2_1",
    sensor: str = "S2A",
    clip: bool = True,
) -> tuple[Floats, NDArray[np.uint8]]:
    """Run SL2P on arrays by band name.

    `bands` are reflectance per band name, all of one shape and dtype; optionally the angle bands of
    `lai_udf.predict.ANGLES` in degrees, of that shape or scalar. Where an angle is absent its
    nominal value stands in: view zenith 0, sun zenith 40, relative azimuth 90 degrees (the last
    unless both azimuths are there). Other names are ignored. What follows is as in `predict`.

    Returns the variable and the flag bits, in the shape of the bands. Raises `Sl2pError` where a
    band is missing, or shapes differ.
    """
    net = load_network(variable, network, sensor)
    names = net.inputs[:-3]
    missing = [name for name in names if name not in bands]
    if missing:
        raise Sl2pError(
            f"SL2P {net.name} needs the bands {', '.join(names)}; missing {', '.join(missing)}"
        )
    columns = [np.asarray(bands[name]) for name in names]
    shape = columns[0].shape
    angles = {name: np.asarray(bands[name]) for name in ANGLES if name in bands}
    for name, array in [*zip(names, columns, strict=True), *angles.items()]:
        if array.shape != shape and not (name in angles and array.ndim == 0):
            raise Sl2pError(f"band {name} has shape {array.shape}, {names[0]} has {shape}")
    flat = [column.reshape(-1) for column in columns]
    degrees = {
        name: np.broadcast_to(array, shape).reshape(-1) if array.ndim else array
        for name, array in angles.items()
    }

    def fill(part: slice, rows: Floats) -> None:
        for row, column in zip(rows, flat, strict=False):
            row[:] = column[part]
        _fill_cosines(rows[-3:], {k: v[part] if v.ndim else v for k, v in degrees.items()})

    value, flags = _run(net, np.result_type(*columns), fill, columns[0].size, clip)
    return value.reshape(shape), flags.reshape(shape)


def predict_image(
    cube: xr.DataArray,
    *,
    variable: str = "LAI",
    network: str = "2_1",
    sensor: str = "S2A",
    clip: bool = True,
) -> tuple[Floats, NDArray[np.uint8]]:
    """Run SL2P on a labelled cube, bands (and angles in degrees, where there are any) by name.

    The cube is reflectance with a dimension `bands` whose coordinate holds the names, such as
    (bands, y, x). Other arguments and the result are those of `predict_bands`, in the order of the
    cube's other dimensions.

    Raises:
        Sl2pError: the cube has no labelled bands, or a band is missing.
    """
    if "bands" not in cube.dims or "bands" not in cube.coords:
        raise Sl2pError(f"the cube needs a dimension 'bands' with labels; it has {cube.dims}")
    planes = np.moveaxis(cube.values, cube.get_axis_num("bands"), 0)
    bands = dict(zip(map(str, cube["bands"].values), planes, strict=True))
    return predict_bands(bands, variable=variable, network=network, sensor=sensor, clip=clip)


def predict_patches(
    patches: NDArray[np.float32], cosines: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return SL2P's unclipped LAI (set 2_1) and flags of patches, (n, y, x) each.

    Args:
        patches: (n, 10, y, x) reflectance, bands in the order of `BANDS`.
        cosines: (n, 3) of view zenith, sun zenith and relative azimuth.
    """
    count, _, height, width = patches.shape
    lai = np.empty((count, height, width), np.float32)
    flags = np.empty((count, height, width), np.uint8)
    for start in range(0, count, _PATCHES):
        some = slice(start, start + _PATCHES)
        rows = np.empty((*lai[some].shape, 11), dtype=np.float32)
        rows[..., :8] = patches[some, SL2P_ROWS].transpose(0, 2, 3, 1)
        rows[..., 8:] = cosines[some, None, None, :]
        value, bits = predict(rows.reshape(-1, 11), clip=False)
        lai[some], flags[some] = value.reshape(lai[some].shape), bits.reshape(lai[some].shape)
    return lai, flags


def _fill_cosines(rows: Floats, degrees: Mapping[str, Floats]) -> None:
    """Write cos(view zenith), cos(sun zenith), cos(sun azimuth - view azimuth), shape (3, n)."""
    view_zenith = degrees.get("viewZenithMean", NOMINAL_VIEW_ZENITH_DEG)
    sun_zenith = degrees.get("sunZenithAngles", NOMINAL_SUN_ZENITH_DEG)
    relative: Floats | float = NOMINAL_RELATIVE_AZIMUTH_DEG
    if "sunAzimuthAngles" in degrees and "viewAzimuthMean" in degrees:
        relative = degrees["sunAzimuthAngles"] - degrees["viewAzimuthMean"]
    for row, angle in zip(rows, (view_zenith, sun_zenith, relative), strict=True):
        row[:] = np.cos(np.deg2rad(angle))


def _run(
    net: Network, inputs: np.dtype[Any], fill: Fill, size: int, clip: bool
) -> tuple[Floats, NDArray[np.uint8]]:
    """Evaluate `size` pixels block by block; `fill` writes the inputs of a block, (inputs, n)."""
    dtype = np.dtype(np.float32 if inputs == np.float32 else np.float64)
    weights, output, constant = net.fold()  # the last column is the bias, met by a row of ones
    weights, output = weights.astype(dtype), output.astype(dtype)
    value = np.empty(size, dtype=dtype)
    flags = np.zeros(size, dtype=np.uint8)
    all_rows = np.ones((weights.shape[1], min(size, _BLOCK)), dtype=dtype)
    all_units = np.empty((weights.shape[0], all_rows.shape[1]), dtype=dtype)
    for start in range(0, size, _BLOCK):
        part = slice(start, min(start + _BLOCK, size))
        rows, units = (array[:, : part.stop - start] for array in (all_rows, all_units))
        fill(part, rows[:-1])
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinite inputs
            for first in range(0, rows.shape[1], _GEMM):
                columns = slice(first, first + _GEMM)
                np.matmul(weights, rows[:, columns], out=units[:, columns])
            np.tanh(units, out=units)
            units *= output[:, None]
            np.sum(units, axis=0, out=value[part])
            value[part] += constant
        flags[part] = _flag_and_clip(net, value[part], clip)
        if net.domain is not None:
            outside = net.domain.find_outside(rows[: net.domain.minimum.size])
            flags[part] |= outside  # True is 1, INPUT_OUT_OF_RANGE
    return value, flags


def _flag_and_clip(net: Network, value: Floats, clip: bool) -> NDArray[np.uint8]:
    """Return the output bits of raw values, shape (n,), and clip the values in place."""
    lowest, highest = net.minimum - net.tolerance, net.maximum + net.tolerance
    to_minimum = (lowest < value) & (value < net.minimum)
    to_maximum = (net.maximum < value) & (value < highest)
    flags = np.isnan(value).astype(np.uint8)  # INPUT_OUT_OF_RANGE
    for bit, where in (
        (Flag.THRESHOLDED_TO_MIN, to_minimum),
        (Flag.THRESHOLDED_TO_MAX, to_maximum),
        (Flag.TOO_LOW, value < lowest),
        (Flag.TOO_HIGH, highest < value),
    ):
        flags |= where.view(np.uint8) * np.uint8(bit)
    if clip:
        value[to_minimum] = net.minimum
        value[to_maximum] = net.maximum
    return flags
