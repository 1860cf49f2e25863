"""Leaf area index of one chunk of a Sentinel-2 L2A cube: an openEO user-defined function.

In:  a cube (t, bands, y, x) or (bands, y, x) with the ten bands of `BANDS` by label, optionally
     `SCL` and the four angle bands of `ANGLES`.
Out: the same window (nothing is cropped; the back-end trims the overlap) with the bands of
     `OUTPUT_BANDS`, float32, NaN where there is no LAI.

The file ships alone, its text inside the process graph: it imports nothing of this project. The
network comes as a bundle (`model.onnx` + `model.json`, a zip or a folder), named by
``context["model"]`` or unpacked by the back-end to `./lai_model`.

Read it from `apply_datacube`, at the end, which walks through everything above it.
"""

import functools
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from openeo.metadata import CubeMetadata

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
VISIBLE_BANDS = ("B02", "B03", "B04")
ANGLES = ("sunZenithAngles", "sunAzimuthAngles", "viewZenithMean", "viewAzimuthMean")
OUTPUT_BANDS = ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS")


@dataclass(frozen=True)
class Variable:
    """What one biophysical variable is, and how files hold it."""

    unit: str  # UCUM-like unit; `1` for fractions
    scale: float  # on disk: int16, value = number * scale


VARIABLES = {
    "LAI": Variable("m2 m-2", 0.001),
    "FAPAR": Variable("1", 0.0001),
    "FCOVER": Variable("1", 0.0001),
    "CCC": Variable("ug cm-2", 0.05),  # canopy chlorophyll content, reaches 600
    "CWC": Variable("g cm-2", 0.00005),  # canopy water content, reaches 0.55
}
ALL_OUTPUT_BANDS = (
    *OUTPUT_BANDS,
    *(
        f"{variable}{part}"
        for variable in VARIABLES
        if variable != "LAI"
        for part in ("", "_LOWER", "_UPPER", "_FLAGS")
    ),
)
NO_DATA_ON_DISK = -32768  # int16; flags are uint8 and have none

FEATURES = (*BANDS, "valid", "cos_view_zenith", "cos_sun_zenith", "cos_relative_azimuth")
NOMINAL_COSINES = (1.0, 0.76604444, 0.0)  # view zenith 0, sun zenith 40, relative azimuth 90 deg
# Classes of the scene classification (SCL), whole numbers from 0 to 11; others are no class.
NO_DATA_SCENE_CLASSES = (0, 1)  # no data, saturated or defective
MASKED_SCENE_CLASSES = (3, 8, 9, 10, 11)  # shadow, cloud (medium, high), cirrus, snow
WATER_SCENE_CLASS = 6  # no vegetation: no LAI there, its neighbours are not touched
SCENE_CLASS_COUNT = 12
# What surface reflectance can be. Below: fill values; above: saturation (65535) or no reflectance.
MIN_REFLECTANCE, MAX_REFLECTANCE = -0.2, 2.0
MIN_SUN_ZENITH_DEG = 5.0  # Sentinel-2 passes at 10:30; less is zero fill or radians
MAX_SUN_ZENITH_DEG = 90.0
MAX_VIEW_ZENITH_DEG = 60.0  # the swath ends at 12; other sensors in harmonised cubes look further
SL2P_BANDS = ("B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
SL2P_ROWS = [BANDS.index(band) for band in SL2P_BANDS]
FINE_ROWS = [BANDS.index(band) for band in ("B02", "B03", "B04", "B08")]  # 10 m as delivered
COARSE_ROWS = [row for row in range(len(BANDS)) if row not in FINE_ROWS]  # 20 m as delivered
BLOCK_PIXELS = ((0, 0), (0, 1), (1, 0), (1, 1))  # of a 20 m block at 10 m: (row, column)
CONTRACT_VERSIONS = (1, 2)
HALO_PX = 16  # the overlap of the windows; a multiple of every network's pooling
NEAR_PX = 2  # width of flags 32 and 64 where the bundle states none, see `flag_pixels`
BLOCK_PX = 416  # larger windows go through in blocks of this size, halo included: cache and memory
READ_PX = 1024  # pixels read together: OpenBLAS keeps such small products on one thread
MAX_SAMPLES = 1000
SAMPLES_RULE = f"0, or a whole number from 2 to {MAX_SAMPLES}"
MAX_SEED = 2**64 - 1
RESOLUTIONS_M = (20, 10)
DARKEST = 1e-3  # reflectance: below it a logarithm carries no information
MAX_COMPARED_PX = 256  # pixels of a line that are compared with the next line, see `find_phase`
MAX_MIXED_SHARE = 1e-3  # of pixels that may differ within blocks: defects, not resampling

# Bits of `LAI_FLAGS`. 1 to 16 are those of the SNAP biophysical processor.
INPUT_OUT_OF_DOMAIN = 1
CLIPPED_TO_MIN = 2
CLIPPED_TO_MAX = 4
OUTPUT_TOO_LOW = 8
OUTPUT_TOO_HIGH = 16
CLOUD_NEAR = 32
NO_DATA_NEAR = 64
RESIDUAL_CLOUD = 128  # cloud or haze that the scene classification missed is suspected
# Statistics leave these pixels out; clipped values stay, as in SNAP.
UNUSABLE_FLAGS = (
    INPUT_OUT_OF_DOMAIN
    | OUTPUT_TOO_LOW
    | OUTPUT_TOO_HIGH
    | CLOUD_NEAR
    | NO_DATA_NEAR
    | RESIDUAL_CLOUD
)

if Path("onnx_deps").is_dir():  # runtime unpacked by the back-end (udf-dependency-archives)
    sys.path.append("onnx_deps")


class LaiError(ValueError):
    """Root of every error of the project: fields that each front end puts into its own words.

    Attributes:
        problem: what is wrong, and where; may be empty if `parameter` is enough.
        parameter: Python name of what the caller can set; None if there is nothing to set.
        value: what was given for it.
        expected: what it must be; None if it must not be given.
    """

    def __init__(
        self,
        problem: str = "",
        *,
        parameter: str | None = None,
        value: object = None,
        expected: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem, self.parameter = problem, parameter
        self.value, self.expected = value, expected

    def word(self, name: Callable[[str], str] = str) -> str:
        """Return one sentence; `name` spells the parameter, such as `--offset` or `OFFSET=`."""
        if self.parameter is None:
            return self.problem
        if self.problem and self.expected is None:
            return f"{self.problem}; leave out {name(self.parameter)}"
        if self.problem:
            return f"{self.problem}; set {name(self.parameter)} to {self.expected}"
        return f"{name(self.parameter)} must be {self.expected}, not {self.value!r}"

    def __str__(self) -> str:
        """Return the sentence with the Python name of the parameter."""
        return self.word()


class LaiInputError(LaiError):
    """The cube or the context is not what the function needs."""


class LaiModelError(LaiInputError):
    """The model bundle is missing, incomplete or damaged."""


@dataclass(frozen=True)
class PredictOptions:
    """The `context` of the process graph, checked: a key of it is a field here."""

    model: str = "lai_model"  # bundle: a zip or the folder it was unpacked to
    target: str = "sl2p"
    """`sl2p`: as the SNAP biophysical processor estimates; `field`: corrected to field LAI."""
    samples: int = 0
    """Monte-Carlo draws; 0 = one pass, the spread comes from the network's own estimate."""
    seed: int = 0  # draws depend on (seed, samples) alone, never on window, worker or order
    variables: tuple[str, ...] = ("LAI",)  # biophysical variables, of `VARIABLES`
    resolution: int = 20
    """Pixel size of the cube, m: 20, or 10 with the 20 m bands by nearest neighbour."""
    bands: tuple[str, ...] | None = None
    """Output bands, in this order; None: those of `variables`, see `output_bands`."""
    pass_through: tuple[str, ...] = ()
    """Input bands that come back unchanged, behind the output bands."""
    region: str = "known"
    """Interval for regions like those of the field data (`known`) or for others (`new`, wider)."""
    level: float = 0.95  # level of the interval
    calibration: str | None = None
    """File of own field points, made by `lai-udf calibrate`; with `target="field"`."""
    reflectance_scale: float = 1.0
    """reflectance = value * scale + offset; 0.0001 for digital numbers."""
    reflectance_offset: float | None = None
    """-0.1 (or, in digital numbers as ESA's metadata has it, -1000) from baseline 04.00 on. None
    means unknown and is taken as 0; a number, 0 included, is never doubted."""
    overlap: int = 0
    """Border, px, that the caller trims; without it the window is taken to end in no data."""
    plausibility: str = "auto"
    """`auto`: what cannot be surface reflectance is no data; `off`: only what is not finite is."""

    def __post_init__(self) -> None:
        """Refuse values that no run could mean."""
        scale, offset = self.reflectance_scale, self.reflectance_offset
        bands, points, known = self.bands, self.calibration, list(VARIABLES)
        are_labels = all(type(label) is str for label in self.pass_through)
        rules = {
            "model": (type(self.model) is str, "the path of a bundle"),
            "target": (self.target in ("sl2p", "field"), '"sl2p" or "field"'),
            "samples": (is_whole(self.samples, MAX_SAMPLES) and self.samples != 1, SAMPLES_RULE),
            "seed": (is_whole(self.seed, MAX_SEED), "a whole number below 2**64"),
            "variables": (is_choice(self.variables, known), f"some of {', '.join(known)}"),
            "resolution": (self.resolution in RESOLUTIONS_M, "20 or 10"),
            "bands": (
                bands is None or is_choice(bands, ALL_OUTPUT_BANDS),
                f"some of {', '.join(ALL_OUTPUT_BANDS)}",
            ),
            "pass_through": (are_labels, "labels of input bands"),
            "region": (self.region in ("known", "new"), '"known" or "new"'),
            "level": (is_number(self.level) and 0.5 <= self.level <= 0.95, "from 0.5 to 0.95"),
            "calibration": (points is None or type(points) is str, "the path of a file"),
            "reflectance_scale": (is_number(scale) and 0 < scale <= 1, "above 0 and at most 1"),
            "reflectance_offset": (
                offset is None or (is_number(offset) and offset < 1),
                "a number below 1, such as -0.1",
            ),
            "overlap": (is_whole(self.overlap, MAX_SEED), "a whole number of pixels"),
            "plausibility": (self.plausibility in ("auto", "off"), '"auto" or "off"'),
        }
        for key, (kept, rule) in rules.items():
            if not kept:
                raise LaiInputError(parameter=key, value=getattr(self, key), expected=rule)

    @property
    def estimated_bands(self) -> tuple[str, ...]:
        """Output bands that are estimated, in order; `pass_through` comes behind them."""
        return output_bands(self.variables) if self.bands is None else self.bands

    @property
    def asks_flags(self) -> bool:
        """Whether some of the output bands are flags."""
        return any(band.endswith("_FLAGS") for band in self.estimated_bands)


def output_bands(variables: tuple[str, ...]) -> tuple[str, ...]:
    """Return the default output bands: five of LAI, one of every other variable."""
    return tuple(
        band
        for variable in variables
        for band in (OUTPUT_BANDS if variable == "LAI" else (variable,))
    )


def is_choice(values: object, known: Sequence[str]) -> bool:
    """Return whether a value of the context names some of `known`, none of them twice."""
    if type(values) is not tuple or not values:
        return False
    return len(set(values)) == len(values) and set(values) <= set(known)


def is_number(value: object) -> bool:
    """Return whether a value of the context is a finite number."""
    return type(value) in (int, float) and bool(np.isfinite(value))  # type: ignore[call-overload]


def is_whole(value: object, most: int) -> bool:
    """Return whether a value of the context is a whole number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def read_settings(context: dict[str, Any] | None) -> PredictOptions:
    """Check the context; raise `LaiInputError` for an unknown key or an unusable value."""
    settings = {key: value for key, value in (context or {}).items() if value is not None}
    keys = [field.name for field in fields(PredictOptions)]
    if unknown := sorted(set(settings) - set(keys)):
        raise LaiInputError(f"unknown context key {', '.join(unknown)}: use {', '.join(keys)}")
    for key in ("bands", "variables", "pass_through"):
        if isinstance(settings.get(key), list):
            settings[key] = tuple(map(str, settings[key]))
        elif key in settings and type(settings[key]) is not tuple:
            raise LaiInputError(parameter=key, value=settings[key], expected="a list of names")
    return PredictOptions(**settings)


Graph = Callable[..., list[np.ndarray]]  # inputs by name -> outputs, float32


@dataclass(frozen=True, eq=False)
class Reader:
    """SL2P's network of one variable, its normalisation folded into its weights, float32."""

    hidden: np.ndarray
    """(5, 12): weights of the bands of `SL2P_BANDS`, of three cosines, and the bias."""
    output: np.ndarray  # (5,): what the five tanh units are multiplied with
    constant: np.float32  # what is added to their sum
    limits: dict[str, Any]
    """`minimum`, `maximum`, `tolerance` of the variable; `has_domain`: whether bit 1 is known."""


@dataclass(frozen=True, eq=False)
class Body:
    """The network of one resolution, which corrects spectra before SL2P reads them."""

    graph: str  # name in `Model.graphs`: features (n, channels, y, x) -> context (n, width, y, x)
    contract: dict[str, Any]
    """`normalisation`, `reach_px`, `window_multiple`, `masks` (count, rate)."""
    readout: np.ndarray
    """(pixels of a 20 m block, width, 10): from the context to the correction of each pixel."""


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle, opened and verified; its graphs are made ready when first used."""

    graphs: dict[str, bytes]
    """ONNX. Contract 2: those of `bodies`. Contract 1: `model`, features (n, 14, y, x) and masks
    (1, count) -> lai[, lai_sd], (n, 1, y, x)."""
    contract: dict[str, Any]  # `lai:contract` of `model.json`
    domain_bits: np.ndarray
    """Bitmap of the cells of the definition domain, see `find_outside_domain`."""
    bodies: dict[int, Body]  # by resolution, m; none in contract 1
    readers: dict[str, Reader]  # by variable; none in contract 1

    def graph(self, name: str) -> Graph:
        """Return a graph as a function of its inputs, of any number of threads at a time."""
        return prepare_graph(self.graphs[name])

    def promises(self, resolution: int) -> dict[str, Any]:
        """Return `reach_px`, `window_multiple` and `masks` at a resolution, m."""
        return self.bodies[resolution].contract if self.bodies else self.contract


def load_model(path: str) -> Model:
    """Open and verify a bundle, once per process unless it is written anew.

    Raises:
        LaiModelError: it is damaged.
    """
    return _load_model(path, stamp_files(path))


def stamp_files(path: str) -> tuple[tuple[int, int, int], ...]:
    """Return number, size and time of a file, or of those in a folder; none where it is missing."""
    try:
        files = sorted(Path(path).iterdir()) if Path(path).is_dir() else [Path(path)]
        stats = [file.stat() for file in files]
    except OSError:  # what reads the file names the reason
        return ()
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in stats)


@functools.lru_cache(maxsize=4)
def _load_model(path: str, _stamp: tuple[tuple[int, int, int], ...]) -> Model:
    description, weights = read_bundle(path)
    contract = description["properties"]["lai:contract"]
    if contract["version"] not in CONTRACT_VERSIONS:
        raise LaiModelError(
            f"{path} follows contract {contract['version']}; this function reads "
            f"{' and '.join(map(str, CONTRACT_VERSIONS))}: take the function that came with it"
        )
    parts = contract.get("graphs", {})  # checksum by name
    graphs = {"model": weights} | {name: read_member(path, f"{name}.onnx") for name in parts}
    expected = {"model": description["assets"]["model"]["file:checksum"]} | parts
    for name, content in graphs.items():
        checksum = "1220" + hashlib.sha256(content).hexdigest()  # multihash: sha2-256, 32 bytes
        if checksum != expected[name]:
            raise LaiModelError(
                f"{path}: {name}.onnx fails its checksum (expected {expected[name]}, found "
                f"{checksum}); fetch the bundle again"
            )
    bits = np.zeros(10**8 // 8, dtype="uint8")
    cells = np.array(contract["domain"]["cells"], dtype="int64")
    np.bitwise_or.at(bits, cells >> 3, (1 << (cells & 7)).astype("uint8"))
    bodies = {
        int(resolution): Body(body["graph"], body, np.array(body["readout"], dtype="float32"))
        for resolution, body in contract.get("bodies", {}).items()
    }
    readers = {
        variable: Reader(
            np.array(table["hidden"], dtype="float32"),
            np.array(table["output"], dtype="float32"),
            np.float32(table["constant"]),
            table,
        )
        for variable, table in contract.get("variables", {}).items()
    }
    return Model(graphs, contract, bits, bodies, readers)


def require_model(model: Model, settings: PredictOptions) -> None:
    """Raise `LaiModelError` where a bundle cannot give what the settings ask for."""
    if settings.resolution != 20 and settings.resolution not in model.bodies:
        raise LaiModelError(
            f"this bundle has no network for {settings.resolution} m",
            parameter="resolution",
            value=settings.resolution,
            expected="20, or model to a bundle of contract 2",
        )
    estimated = set(model.readers) or {"LAI"}
    wanted = {band.split("_")[0] for band in settings.estimated_bands}
    if absent := sorted(wanted - estimated):
        raise LaiModelError(
            f"this bundle does not estimate {', '.join(absent)}",
            parameter="variables",
            value=settings.variables,
            expected=f"some of {', '.join(sorted(estimated))}",
        )


@functools.lru_cache(maxsize=64)
def prepare_graph(content: bytes) -> Graph:
    """Make an ONNX graph ready to run. It takes one thread: blocks are what runs in parallel."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # windows come in several sizes: patterns would pile up
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(**inputs: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, inputs)
        return outputs

    return run


def count_threads() -> int:
    """Return how many blocks may be in work at a time: `OMP_NUM_THREADS`, or all cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # OpenMP allows one per level
    if asked.isdigit():
        return max(1, int(asked))
    usable = getattr(os, "sched_getaffinity", None)  # on Linux only
    return len(usable(0)) if usable else os.cpu_count() or 1


def read_bundle(path: str) -> tuple[dict[str, Any], bytes]:
    """Return (`model.json`, bytes of `model.onnx`) of a zip or folder, unverified."""
    weights = read_member(path, "model.onnx")
    try:
        return json.loads(read_member(path, "model.json")), weights
    except ValueError as error:
        raise LaiModelError(f"model bundle {path!r}: model.json is no JSON ({error})") from error


def read_member(path: str, name: str) -> bytes:
    """Return a file of a bundle, a zip or a folder, unverified."""
    try:
        if Path(path).is_dir():
            return (Path(path) / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise LaiModelError(
            f"model bundle {path!r} cannot be read ({error}); give context['model'] the zip or "
            "the folder that holds model.onnx and model.json"
        ) from error


@dataclass(frozen=True, eq=False)
class Inputs:
    """One date of a chunk, as arrays."""

    reflectance: np.ndarray
    """(10, y, x) float32, bands in the order of `BANDS`; NaN = no data or masked."""
    cosines: np.ndarray
    """(3, y, x) or (3, 1, 1) float32: cos of view zenith, sun zenith, relative azimuth."""
    masked: np.ndarray  # (y, x) bool: cloud, shadow or snow by the scene classification
    missing: np.ndarray  # (y, x) bool: no data
    water: np.ndarray
    """(y, x) bool: water by the scene classification; valid reflectance, but no vegetation."""


def clear_inputs(reflectance: np.ndarray, cosines: np.ndarray) -> Inputs:
    """Return the inputs of an image without scene classification; NaN in a band is no data."""
    missing = np.isnan(reflectance).any(axis=0)
    nothing = np.zeros_like(missing)
    return Inputs(reflectance, cosines, nothing, missing, nothing)


def check_bands(cube: xarray.DataArray, settings: PredictOptions) -> None:
    """Raise `LaiInputError` where a cube lacks bands, or holds numbers without their scale."""
    labels = [str(label) for label in cube["bands"].values]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise LaiInputError(f"band {', '.join(repeated)} is there more than once")
    if absent := [band for band in (*BANDS, *settings.pass_through) if band not in labels]:
        raise LaiInputError(
            f"band {', '.join(absent)} missing: the cube has {', '.join(labels)}; load the ten "
            f"bands {', '.join(BANDS)}"
        )
    if cube.dtype.kind not in "iuf":
        raise LaiInputError(f"the cube holds {cube.dtype}, not numbers")
    undeclared = (settings.reflectance_scale, settings.reflectance_offset) == (1, None)
    if cube.dtype.kind != "f" and undeclared and settings.plausibility == "auto":
        raise LaiInputError(
            "whole numbers are no reflectance",
            parameter="reflectance_scale",
            expected="0.0001 (and reflectance_offset to -0.1 from processing baseline 04.00 on)",
        )


def check_grid(cube: xarray.DataArray, settings: PredictOptions) -> None:
    """Raise `LaiInputError` where coordinates show that the cube has the other resolution."""
    for axis in ("y", "x"):
        if axis not in cube.coords or cube.sizes[axis] < 2 or cube[axis].dtype.kind not in "iuf":
            continue
        first, second = (float(value) for value in cube[axis].values[:2])
        for other in set(RESOLUTIONS_M) - {settings.resolution}:
            if abs(abs(second - first) / other - 1) < 0.01:
                raise LaiInputError(
                    f"pixels of the cube are {other} m apart",
                    parameter="resolution",
                    value=settings.resolution,
                    expected=str(other),
                )


def read_values(values: np.ndarray, labels: list[str], settings: PredictOptions) -> Inputs:
    """Pick the bands of one date (bands, y, x) by label, scale them to reflectance, mask."""
    stored = values[[labels.index(band) for band in BANDS]]
    scale, offset = settings.reflectance_scale, settings.reflectance_offset
    reflectance = to_reflectance(stored, scale, offset)
    missing = find_no_data(stored, reflectance, settings.plausibility)
    masked = water = np.zeros_like(missing)
    if "SCL" in labels:
        hidden, masked, water = read_scene_classes(values[labels.index("SCL")])
        missing |= hidden
        masked &= ~missing
        water &= ~missing
    np.copyto(reflectance, np.float32(np.nan), where=missing | masked)
    return Inputs(reflectance, read_cosines(values, labels), masked, missing, water)


def to_reflectance(
    stored: np.ndarray, scale: float | np.ndarray = 1.0, offset: float | np.ndarray | None = None
) -> np.ndarray:
    """Convert stored values of any type and shape to reflectance, float32: value * scale + offset.

    Args:
        stored: numbers; no-data values are not looked for.
        scale: 0.0001 for digital numbers; one number, or an array that broadcasts (per date).
        offset: in reflectance (-0.1), or in digital numbers where its size is 1 or more (-1000, as
            BOA_ADD_OFFSET has it: no offset in reflectance reaches 1); None is 0.
    """
    reflectance = stored.astype("float32")  # cast first: uint16 - 1000 overflows
    offset = np.asarray(0.0 if offset is None else offset)
    shift = np.where(np.abs(offset) >= 1, offset * scale, offset).astype("float32")
    if np.any(np.asarray(scale) != 1):
        reflectance *= np.asarray(scale, dtype="float32")
    if shift.any():
        reflectance += shift
    return reflectance


def find_no_data(
    stored: np.ndarray, reflectance: np.ndarray, plausibility: str = "auto"
) -> np.ndarray:
    """Return (y, x) bool: some band of (10, y, x) holds no surface reflectance.

    No data are numbers that are not finite or not physical (fill values, saturation), a spectrum
    of ten equal numbers (no surface has one), and the 0 of digital numbers in any band: of whole
    numbers, and of floats to which an offset is added here. Of other floats, where a band may be
    clipped to 0 or a back-end has taken the offset off a measured 1000, zero is no data where land
    is never black (red edge to short-wave infrared) or in all visible bands.
    """
    low, high = reflectance.min(axis=0), reflectance.max(axis=0)  # NaN where one of them is
    if plausibility == "off":
        missing: np.ndarray = ~(np.isfinite(low) & np.isfinite(high))
    else:
        missing = ~((low >= MIN_REFLECTANCE) & (high <= MAX_REFLECTANCE)) | (low == high)
    zero = stored == 0
    if zero.any():
        digital = stored.dtype.kind != "f" or bool(reflectance[zero].any())
        visible = len(VISIBLE_BANDS)  # they come first in BANDS, then one of the red edge
        black = zero[visible + 1 :].any(axis=0) | zero[:visible].all(axis=0)
        missing |= zero.any(axis=0) if digital else black
    return missing


def read_scene_classes(scene_class: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the scene classification (y, x) calls no data, masked, and water: three bool.

    Numbers that are no whole class (interpolated, 12, 255, -1) are masked: they are mixtures with
    what hides the surface, or of unknown meaning.
    """
    whole = np.where(np.isfinite(scene_class), scene_class, 0)
    classes = np.clip(whole, 0, SCENE_CLASS_COUNT - 1).astype("uint8")
    no_class = classes != whole
    no_data = np.isin(classes, NO_DATA_SCENE_CLASSES) & ~no_class
    masked = np.isin(classes, MASKED_SCENE_CLASSES) | no_class
    return no_data, masked, (classes == WATER_SCENE_CLASS) & ~no_class


def read_cosines(values: np.ndarray, labels: list[str]) -> np.ndarray:
    """Return the cosines (see `Inputs`) of the angle bands, degrees; nominal where missing.

    Impossible angles (fill values, zeros, radians) are missing: with an impossible sun zenith all
    four of a pixel, with an impossible view zenith those of the view.
    """
    absent = np.full((1, 1), np.nan, dtype="float32")
    angles_deg = (values[labels.index(band)] if band in labels else absent for band in ANGLES)
    sun_zenith, sun_azimuth, view_zenith, view_azimuth = np.broadcast_arrays(
        *(angle.astype("float32") for angle in angles_deg)
    )
    sun_is_wrong = (sun_zenith < MIN_SUN_ZENITH_DEG) | (sun_zenith > MAX_SUN_ZENITH_DEG)
    view_is_wrong = (view_zenith < 0) | (view_zenith > MAX_VIEW_ZENITH_DEG) | sun_is_wrong
    view_is_wrong |= (view_zenith == 0) & (view_azimuth == 0)
    azimuth_is_wrong = (np.abs(sun_azimuth) > 360) | (np.abs(view_azimuth) > 360) | view_is_wrong
    angles = (
        np.where(view_is_wrong, np.nan, view_zenith),
        np.where(sun_is_wrong, np.nan, sun_zenith),
        np.where(azimuth_is_wrong, np.nan, sun_azimuth - view_azimuth),
    )
    cosines = np.cos(np.deg2rad(np.stack(angles))).astype("float32")
    nominal = np.array(NOMINAL_COSINES, dtype="float32")[:, None, None]
    return np.where(np.isfinite(cosines), cosines, nominal)


def pad_inputs(inputs: Inputs, sides: list[tuple[int, int]]) -> Inputs:
    """Surround a block with no data: pixels (above, below) and (left, right)."""
    if sides == [(0, 0), (0, 0)]:
        return inputs
    cosines = inputs.cosines
    if cosines.shape[1:] == inputs.missing.shape:
        cosines = np.pad(cosines, [(0, 0), *sides], mode="edge")
    return Inputs(
        reflectance=np.pad(inputs.reflectance, [(0, 0), *sides], constant_values=np.nan),
        cosines=cosines,
        masked=np.pad(inputs.masked, sides),
        missing=np.pad(inputs.missing, sides, constant_values=True),
        water=np.pad(inputs.water, sides),
    )


def split_blocks(image: np.ndarray, side: int) -> np.ndarray:
    """Cut (..., y, x) into pixels of its 20 m blocks, (side * side, ..., y / side, x / side)."""
    if side == 1:
        return image[None]
    return np.stack([image[..., row::side, column::side] for row, column in BLOCK_PIXELS])


def join_blocks(pixels: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Put the pixels of 20 m blocks, (..., y, x) each, together again."""
    if side == 1:
        return pixels[0]
    *others, height, width = pixels[0].shape
    image = np.empty((*others, height * side, width * side), dtype=pixels[0].dtype)
    for pixel, (row, column) in zip(pixels, BLOCK_PIXELS, strict=True):
        image[..., row::side, column::side] = pixel
    return image


def build_body_features(blocks: np.ndarray, constants: dict[str, Any]) -> np.ndarray:
    """Return the input of a body, (channels, y, x) float32, on the 20 m grid.

    Ten bands, normalised, as the mean of each block of pixels (pixels, 10, y, x); where a block has
    four, how these differ from their mean in B02, B03, B04 and B08; the share of the block that
    holds data. `constants`: `mean`, `std`, `limit` of the bands; `detail_std` for the detail.
    """
    pixels, bands, *size = blocks.shape
    channels = bands + (pixels * len(FINE_ROWS) if pixels > 1 else 0) + 1
    features = np.empty((channels, *size), dtype="float32")
    gone = np.isnan(blocks[:, 0])
    mean, std = (np.array(constants[key], "float32")[:, None, None] for key in ("mean", "std"))
    limit = np.float32(constants["limit"])
    whole, share = blocks[0], features[-1]
    np.subtract(1, gone.mean(axis=0, dtype="float32"), out=share)
    if pixels > 1:
        with np.errstate(invalid="ignore", divide="ignore"):  # blocks without data
            filled = np.where(gone[:, None], np.float32(0), blocks)
            whole = filled.sum(axis=0) / (share * np.float32(pixels))
        spread = np.array(constants["detail_std"], "float32")[:, None, None]
        detail = features[bands:-1].reshape(pixels, len(FINE_ROWS), *size)
        np.subtract(blocks[:, FINE_ROWS], whole[FINE_ROWS], out=detail)
        detail /= spread
    np.subtract(whole, mean, out=features[:bands])
    features[:bands] /= std
    np.clip(features[:-1], -limit, limit, out=features[:-1])
    np.copyto(features[:-1], np.float32(0), where=np.isnan(features[:-1]))
    return features


def split_inputs(inputs: Inputs, side: int) -> list[Inputs]:
    """Return the pixels of 20 m blocks, each as an image of its own: one at 20 m, four at 10 m."""
    if side == 1:
        return [inputs]
    planes = [
        [image] * side**2 if image.shape[-1] == 1 else split_blocks(image, side)
        for image in (getattr(inputs, field.name) for field in fields(Inputs))
    ]
    return [Inputs(*pixel) for pixel in zip(*planes, strict=True)]


def read_pixels(
    inputs: Inputs,
    context: np.ndarray,
    readout: np.ndarray,
    model: Model,
    settings: PredictOptions,
    variables: Sequence[str],
) -> dict[str, np.ndarray]:
    """Correct spectra by what a body saw around them, and read them with SL2P's equations.

    Args:
        inputs: one pixel of every 20 m block.
        context: (width, y * x), output of the body for the blocks.
        readout: (width, 10), from the context to the correction of this pixel.
        model: a bundle of contract 2.
        settings: resolution, samples, seed, and which bands are wanted.
        variables: what to read.

    Returns:
        By name: each variable, unclipped, (y, x) float32; `LAI_SD` where it is wanted. At 20 m
        `<variable>_SL2P`, SL2P of the input, where flags are wanted: it decides on them; at 10 m
        `spectrum`, (10, y, x), the restored one, which does so there: the input's is a mixture.
    """
    size, count = inputs.missing.shape, context.shape[1]
    readers = [model.readers[name] for name in variables]
    hidden = np.concatenate([reader.hidden for reader in readers])
    output = np.zeros((len(readers), len(hidden)), dtype="float32")
    for row, reader in enumerate(readers):
        output[row, row * len(reader.output) : (row + 1) * len(reader.output)] = reader.output
    constants = np.array([reader.constant for reader in readers])[:, None]
    of_bands = np.zeros((len(hidden), len(BANDS)), dtype="float32")
    of_bands[:, SL2P_ROWS], of_angles, bias = np.split(hidden, [len(SL2P_ROWS), -1], axis=1)
    of_context = of_bands @ readout.T
    corrected_rows = np.flatnonzero(readout.any(axis=0))
    correction = readout.T[corrected_rows]
    seen = inputs.reflectance.reshape(len(BANDS), count)
    cosines = inputs.cosines.reshape(len(inputs.cosines), -1)
    wanted, coarse = settings.estimated_bands, settings.resolution == 20
    judged = np.empty((len(readers), count), "float32") if coarse and settings.asks_flags else None
    values = np.empty((len(readers), count), dtype="float32")
    restored = None if coarse else np.empty_like(seen)
    spread, draws = None, False
    if "LAI_SD" in wanted:
        spread = np.empty(count, dtype="float32")
        lai, of_lai = readers[0], slice(len(readers[0].output))  # the first of `VARIABLES`
        contract = model.bodies[settings.resolution].contract
        masks = draw_masks(contract, settings.samples, settings.seed)
        draws = len(masks) > 0
    for first in range(0, count, READ_PX):
        some = slice(first, first + READ_PX)
        part = context[:, some]
        offset = of_angles @ (cosines if cosines.shape[1] == 1 else cosines[:, some]) + bias
        if restored is None or draws:
            plain = of_bands @ seen[:, some]  # what the units read of the input
            plain += offset
        if restored is None:
            units = of_context @ part
            units += plain
        else:
            np.copyto(restored[:, some], seen[:, some])
            restored[corrected_rows, some] += correction @ part
            units = of_bands @ restored[:, some]
            units += offset
        np.tanh(units, out=units)
        values[:, some] = output @ units + constants
        if spread is not None and draws:
            spread[some] = draw_spread(plain[of_lai], of_context[of_lai], part, lai, masks)
        elif spread is not None:
            rate = contract["masks"]["rate"]
            spread[some] = work_out_spread(units[of_lai], of_context[of_lai], part, lai, rate)
        if judged is not None:
            judged[:, some] = output @ np.tanh(plain, out=plain) + constants
    results = dict(zip(variables, values.reshape(-1, *size), strict=True))
    if judged is not None:
        for name, of_input in zip(variables, judged, strict=True):
            results[f"{name}_SL2P"] = of_input.reshape(size)
    if spread is not None:
        results["LAI_SD"] = spread.reshape(size)
    if restored is not None:
        results["spectrum"] = restored.reshape(-1, *size)
    return results


def work_out_spread(
    units: np.ndarray, of_context: np.ndarray, context: np.ndarray, reader: Reader, rate: float
) -> np.ndarray:
    """Return the standard deviation (n,) that draws would show, to first order, in one pass.

    A dropped channel changes what the five units read by its own contribution; channels are
    dropped independently of each other, so the squares of what follows in LAI add up.
    """
    slope = of_context.T @ (reader.output[:, None] * (1 - units * units))
    slope *= context
    variance = np.einsum("kn,kn->n", slope, slope) * np.float32(rate / (1 - rate))
    spread: np.ndarray = np.sqrt(variance)
    return spread


def draw_spread(
    plain: np.ndarray,
    of_context: np.ndarray,
    context: np.ndarray,
    reader: Reader,
    masks: np.ndarray,
) -> np.ndarray:
    """Return the standard deviation (n,) over the draws: a draw scales the columns of a matrix."""
    draws = np.empty((len(masks), context.shape[1]), dtype="float32")
    for mask, draw in zip(masks, draws, strict=True):  # one by one: small products need no threads
        units = (of_context * mask) @ context
        units += plain
        np.matmul(reader.output, np.tanh(units, out=units), out=draw)
    spread: np.ndarray = draws.std(axis=0, ddof=1)
    return spread


def build_features(inputs: Inputs, contract: dict[str, Any]) -> np.ndarray:
    """Return the network's input, (14, y, x) float32, channels as in `FEATURES`."""
    features = np.empty((len(FEATURES), *inputs.missing.shape), dtype="float32")
    constants = contract["normalisation"]
    mean, std = (np.array(constants[key], "float32")[:, None, None] for key in ("mean", "std"))
    limit = np.float32(constants["limit"])
    normalised = features[:10]  # eq. 1, its constants frozen in the bundle
    np.subtract(inputs.reflectance, mean, out=normalised)
    normalised /= std
    np.clip(normalised, -limit, limit, out=normalised)
    np.copyto(normalised, np.float32(0), where=np.isnan(normalised))
    features[10] = ~(inputs.missing | inputs.masked)
    # Beyond the scene a back-end has no angles, and a whole scene has: take neither there.
    features[11:] = inputs.cosines
    nominal = np.array(NOMINAL_COSINES, dtype="float32")[:, None, None]
    np.copyto(features[11:], nominal, where=inputs.missing)
    return features


def draw_masks(contract: dict[str, Any], samples: int, seed: int) -> np.ndarray:
    """Draw the channel masks of a Monte-Carlo run, (samples, count) float32.

    0 drops a channel, 1 / (1 - rate) keeps it. The generator is counter-based and a draw serves
    every window, so that a draw is one function of the whole scene.
    """
    rate, count = contract["masks"]["rate"], contract["masks"]["count"]
    uniform = np.random.Generator(np.random.Philox(key=seed)).random((samples, count))
    return np.where(uniform < rate, 0.0, 1.0 / (1.0 - rate)).astype("float32")


def run_network(
    features: np.ndarray, model: Model, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run the network of a bundle of contract 1: LAI and its spread, (y, x) float32 each.

    `features` are (14, y, x), sides multiples of the pooling; without rows of `masks`, (samples,
    count), the spread is what the network itself estimates, NaN where it does not.
    """
    block, run = features[None], model.graph("model")
    ones = np.ones((1, model.contract["masks"]["count"]), dtype="float32")
    lai, *spread = run(features=block, masks=ones)
    if len(masks):
        draws = [run(features=block, masks=mask[None])[0] for mask in masks]
        spread = [np.std(draws, axis=0, ddof=1)]
    return lai[0, 0], spread[0][0, 0] if spread else np.full_like(lai[0, 0], np.nan)


def find_outside_domain(reflectance: np.ndarray, model: Model) -> np.ndarray:
    """Return (y, x) bool: the spectrum lies outside SL2P's definition domain.

    The domain is a box per band and, in it, the cells that SL2P's training spectra occupy:
    cell = floor(10 (x - min) / (max - min)), SNAP's rule but counted from 0. The domain of most
    bands begins at 0, which the last bit of an encoding's arithmetic must not put outside.
    """
    rounding = 1e-6  # of reflectance; digital numbers are 1e-4 apart
    domain = model.contract["domain"]
    outside = np.zeros(reflectance.shape[1:], dtype=bool)
    code = np.zeros(outside.shape, dtype="int32")
    for band, low, high in zip(domain["bands"], domain["minimum"], domain["maximum"], strict=True):
        start, width = np.float32(low - rounding), np.float32((high - low) / 10)
        cell = (reflectance[BANDS.index(band)] - start) / width
        outside |= ~((cell >= 0) & (cell < 10))  # NaN is outside
        code = code * 10 + np.where(outside, 0, cell).astype("int32")
    outside |= (model.domain_bits[code >> 3] >> (code & 7)) & 1 == 0
    return outside


@functools.lru_cache(maxsize=4)
def identify(model: Model) -> str:
    """Return the SHA-256 of all that a bundle holds, by which own points name the bundle."""
    digest = hashlib.sha256(json.dumps(model.contract, sort_keys=True).encode())
    for name in sorted(model.graphs):
        digest.update(model.graphs[name])
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class OwnPoints:
    """The error that all pixels of a date share, as estimated from a user's own measurements.

    In units of `typical_scale` of the field calibration. The shared error has the variance `shared`
    and over time a correlation of exp(-days / `decay_days`).
    """

    days: np.ndarray  # (n,) days since 1970 of the dates that were measured
    weights: np.ndarray  # (n,): inverse covariance of the dates' mean errors, times these
    inverse: np.ndarray  # (n, n): inverse covariance of the dates' mean errors
    shared: float  # variance of the shared error, of a total of 1
    decay_days: float  # days after which the correlation has fallen to 1/e

    def predict(self, day: float) -> tuple[float, float]:
        """Return mean and variance of the shared error of a day (best linear prediction)."""
        near = self.shared * np.exp(-np.abs(self.days - day) / self.decay_days)
        return float(near @ self.weights), float(self.shared - near @ self.inverse @ near)


def load_own_points(path: str, model: Model) -> OwnPoints:
    """Read a file that `lai-udf calibrate` wrote, once per process unless it is written anew.

    Raises:
        LaiInputError: it cannot be read, is no such file, or was made with another bundle.
    """
    return _load_own_points(path, stamp_files(path), model)


@functools.lru_cache(maxsize=4)
def _load_own_points(
    path: str, _stamp: tuple[tuple[int, int, int], ...], model: Model
) -> OwnPoints:
    rule = "a file that `lai-udf calibrate` wrote"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        made_with, effect = document["model"], document["effect"]
        own = OwnPoints(
            days=np.array(effect["days"], "float64"),
            weights=np.array(effect["weights"], "float64"),
            inverse=np.array(effect["inverse"], "float64"),
            shared=float(effect["shared"]),
            decay_days=float(effect["decay_days"]),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        problem = f"{path} cannot be used ({error})"
        raise LaiInputError(problem, parameter="calibration", value=path, expected=rule) from error
    if made_with != identify(model):
        raise LaiInputError(
            f"{path} was made with another bundle: run `lai-udf calibrate` again with this one",
            parameter="calibration",
            value=path,
            expected="a file made with this bundle",
        )
    return own


SMALL_PRODUCT = 1 << 18  # multiplications of a product that OpenBLAS keeps on one thread


def estimate_field(
    value: np.ndarray,
    reflectance: np.ndarray,
    cosines: np.ndarray,
    outside: np.ndarray,
    calibration: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Correct a variable from SL2P's towards field measurements, and estimate the error's scale.

    The one implementation: the UDF, the fit of the scale and every score use it. A small network
    of spectrum and sun zenith estimates the correction; it was fitted on field measurements, is
    bounded, and nothing is added where the spectrum is out of SL2P's domain. Where the sun zenith
    is missing, a second one, fitted without it, is used.

    Args:
        value: (y, x) of SL2P.
        reflectance: (10, y, x), bands in the order of `BANDS`.
        cosines: (3, y, x) or (3, 1, 1), see `Inputs`.
        outside: (y, x) bool, out of SL2P's domain.
        calibration: entry of the variable in `calibration.variables` of the contract.

    Returns:
        What is expected in the field, and the standard deviation of a measurement around it.
    """
    sun = np.broadcast_to(cosines[1], value.shape)
    has_sun = sun != np.float32(NOMINAL_COSINES[1])
    parts = {"with_sun": has_sun, "without_sun": ~has_sun}
    centre, scale = (np.full(value.shape, np.nan, dtype="float32") for _ in range(2))
    for name, pixels in parts.items():
        if not pixels.any():
            continue
        fitted = calibration[name]
        of_sun = sun if name == "with_sun" else None
        change = work_out_change(reflectance, of_sun, fitted["correction"])
        change = np.where(outside, np.float32(0), change)
        # Nothing below 0, but what SL2P itself estimates (it is flagged) stays.
        corrected = np.maximum(value + change, np.minimum(value, np.float32(0)))
        np.copyto(centre, corrected, where=pixels)
        error_scale = work_out_scale(corrected, change, reflectance, of_sun, fitted)
        np.copyto(scale, error_scale, where=pixels)
    return centre, scale


def work_out_change(
    reflectance: np.ndarray, sun: np.ndarray | None, correction: dict[str, Any]
) -> np.ndarray:
    """Return what the correction adds, (y, x) float32: one layer of tanh units, bounded.

    `sun`: cosine of its zenith, None for a correction without. `correction`: `bands`, of which
    the units read the root; `hidden` (units, inputs): weights of the bands, of `sun` where it is
    read, and of 1; `output` (units,), `constant`, `limit`.
    """
    hidden = np.array(correction["hidden"], "float32")
    output = np.array(correction["output"], "float32")
    inputs = np.ones((hidden.shape[1], reflectance[0].size), dtype="float32")
    for row, band in zip(inputs, correction["bands"], strict=False):
        np.maximum(reflectance[BANDS.index(band)].reshape(-1), 0, out=row)
        np.sqrt(row, out=row)
    if sun is not None:
        inputs[len(correction["bands"])] = sun.reshape(-1)
    change = np.empty(inputs.shape[1], dtype="float32")
    step = max(64, SMALL_PRODUCT // hidden.size)  # larger ones wait for threads on a busy machine
    for first in range(0, change.size, step):
        some = slice(first, first + step)
        units = hidden @ inputs[:, some]
        np.tanh(units, out=units)
        np.einsum("u,un->n", output, units, out=change[some])  # BLAS would wake its threads
    change += np.float32(correction["constant"])
    limit = np.float32(correction["limit"])
    return np.clip(change, -limit, limit, out=change).reshape(reflectance.shape[1:])


def work_out_scale(
    centre: np.ndarray,
    change: np.ndarray,
    reflectance: np.ndarray,
    sun: np.ndarray | None,
    fitted: dict[str, Any],
) -> np.ndarray:
    """Return the standard deviation of a field measurement around the centre, (y, x) float32.

    Its logarithm is linear in a few features, each bounded at the limits of what was fitted.
    """
    infrared, edge = (reflectance[BANDS.index(band)] for band in ("B8A", "B07"))
    features = {
        "centre": centre,
        "change": np.abs(change),
        "edge": (infrared - edge) / (infrared + edge),
    }
    if sun is not None:
        features["sun"] = sun
    log_scale = np.full(centre.shape, fitted["scale"]["constant"], dtype="float32")
    for name, term in fitted["scale"]["terms"].items():
        low, high = np.array(term["range"], "float32")
        log_scale += np.float32(term["weight"]) * np.clip(features[name], low, high)
    scale: np.ndarray = np.exp(log_scale, out=log_scale)
    return scale


def relate_to_field(
    variable: str,
    value: np.ndarray,
    inputs: Inputs,
    outside: np.ndarray,
    model: Model,
    settings: PredictOptions,
    day: float | None = None,
) -> dict[str, np.ndarray]:
    """Return a variable as `target` asks for it, and its interval for field measurements, by band.

    No interval is invented where the bundle is not calibrated on field measurements of it.

    Args:
        variable: its name.
        value: (y, x) of SL2P, clipped.
        inputs: spectra that SL2P read, and angles.
        outside: (y, x) bool, out of SL2P's domain.
        model: the bundle.
        settings: `target`, `region`, `level`, `calibration`, and which bands are wanted.
        day: days since 1970, for own points.
    """
    calibration = model.contract["calibration"].get("variables", {}).get(variable)
    bounds = [f"{variable}_LOWER", f"{variable}_UPPER"]
    if calibration is None:
        if settings.target == "field" and variable == "LAI":
            raise LaiModelError('this bundle holds no field correction: use target="sl2p"')
        nothing = np.full_like(value, np.nan)
        return {variable: value} | dict.fromkeys(bounds, nothing)
    if settings.target != "field" and not set(bounds) & set(settings.estimated_bands):
        return {variable: value}
    centre, scale = estimate_field(value, inputs.reflectance, inputs.cosines, outside, calibration)
    half = interpolate_half_width(calibration, settings.region, settings.level)
    if settings.calibration is not None and variable == "LAI":
        if day is None:
            raise LaiInputError(
                "own points belong to dates, and the cube has none: give it a dimension t",
                parameter="calibration",
                value=settings.calibration,
            )
        mean, variance = load_own_points(settings.calibration, model).predict(day)
        # Own points measure the error of leaves, so bare soil, which has none, is not shifted.
        fade = np.clip(centre / np.float32(calibration["fade_below"]), 0, 1)
        shift = np.float32(mean * calibration["typical_scale"]) * fade
        centre = np.maximum(centre + shift, np.minimum(centre, 0))
        half *= float(np.sqrt(variance + 1 - calibration["shared"]))
    margin = np.float32(half) * scale
    shown = centre if settings.target == "field" else value
    lower = np.minimum(np.maximum(centre - margin, 0), shown)
    upper = np.maximum(np.minimum(centre + margin, np.float32(calibration["ceiling"])), shown)
    return {variable: shown, bounds[0]: lower, bounds[1]: upper}


def interpolate_half_width(calibration: dict[str, Any], region: str, level: float) -> float:
    """Return the half-width of an interval in units of the scale."""
    return float(np.interp(level, calibration["levels"], calibration["half_widths"][region]))


def grow(mask: np.ndarray, width_px: int) -> np.ndarray:
    """Return (y, x) bool: a pixel of `mask` lies within `width_px` rows and columns."""
    if not mask.any():
        return mask
    for axis in (0, 1):
        sides = [(width_px, width_px) if side == axis else (0, 0) for side in (0, 1)]
        mask = np.moveaxis(np.pad(mask, sides), axis, 0)
        width = 1  # pixels that the running maximum has seen; it doubles
        while width <= 2 * width_px:
            step = min(width, 2 * width_px + 1 - width)
            mask = mask[:-step] | mask[step:]
            width += step
        mask = np.moveaxis(mask, 0, axis)
    return mask


def flag_values(
    value: np.ndarray, outside: np.ndarray, seen: np.ndarray, limits: dict[str, Any]
) -> np.ndarray:
    """Return SNAP's bits 1 to 16, (y, x) uint8, of what SL2P estimates, unclipped.

    Args:
        value: (y, x), in the unit of the variable.
        outside: (y, x) bool: the spectrum is out of the definition domain.
        seen: (y, x) bool: neither missing nor masked.
        limits: `minimum`, `maximum` and `tolerance` of the variable.
    """
    low, high, near = (np.float32(limits[key]) for key in ("minimum", "maximum", "tolerance"))
    rules = {
        INPUT_OUT_OF_DOMAIN: outside,
        CLIPPED_TO_MIN: (value > low - near) & (value < low),
        CLIPPED_TO_MAX: (value > high) & (value < high + near),
        OUTPUT_TOO_LOW: value <= low - near,
        OUTPUT_TOO_HIGH: value >= high + near,
    }
    flags = np.zeros(value.shape, dtype="uint8")
    for bit, pixels in rules.items():
        flags |= (pixels & seen) * np.uint8(bit)
    return flags


def flag_surroundings(inputs: Inputs, contract: dict[str, Any], side: int) -> np.ndarray:
    """Return bits 32 and 64, (y, x) uint8: cloud or no data within so many 20 m pixels.

    They are as wide as the error is larger there. On a real series of 118 dates SL2P was off by
    0.39 beside a mask, by 0.23 at 2 px, and by 0.22 to 0.27 from 3 to 8 px as beyond 16.
    """
    widths = contract.get("flags", {})
    cloud = grow(inputs.masked, widths.get("cloud_near_px", NEAR_PX) * side)
    no_data = grow(inputs.missing, widths.get("no_data_near_px", NEAR_PX) * side)
    return cloud * np.uint8(CLOUD_NEAR) | no_data * np.uint8(NO_DATA_NEAR)


def suspect_residual_cloud(spectrum: np.ndarray, contract: dict[str, Any]) -> np.ndarray:
    """Return bit 128, (y, x) uint8, of a spectrum (10, y, x), if the bundle has a rule for it."""
    rule = contract.get("flags", {}).get("residual_cloud")
    if rule is None:
        return np.zeros(spectrum.shape[1:], dtype="uint8")
    suspected: np.ndarray = exceed_visible(spectrum, rule) > rule["threshold"]
    return suspected * np.uint8(RESIDUAL_CLOUD)


def exceed_visible(spectrum: np.ndarray, rule: dict[str, Any]) -> np.ndarray:
    """Return by how much the visible exceeds what other bands predict, (y, x) of (10, y, x).

    Logarithms: the mean over `visible`, less `constant` and the `weights` times those of `bands`.
    """
    darkest = np.float32(DARKEST)
    visible = [np.maximum(spectrum[BANDS.index(band)], darkest) for band in rule["visible"]]
    excess: np.ndarray = np.log(functools.reduce(np.multiply, visible)) / np.float32(len(visible))
    for band, weight in zip(rule["bands"], rule["weights"], strict=True):
        logarithm = np.log(np.maximum(spectrum[BANDS.index(band)], darkest))
        excess -= np.float32(weight) * logarithm
    excess -= np.float32(rule["constant"])
    return excess


@dataclass(frozen=True)
class HaloSlice:
    """Rows or columns of a block: what it reads, what surrounds that, what it answers for."""

    read: slice  # pixels of the window, with a halo on either side where there are neighbours
    padding: tuple[int, int]  # pixels of no data before and after them
    core: slice  # pixels of the window that the block answers for

    @property
    def inside(self) -> slice:
        """Return where the core lies in the padded block."""
        first = self.core.start - self.read.start + self.padding[0]
        return slice(first, first + self.core.stop - self.core.start)


def split_axis_with_halo(
    size: int, settings: PredictOptions, model: Model, block_px: int
) -> list[HaloSlice]:
    """Cut one side of a window into blocks of at most `block_px`; into one, if that fits."""
    promises, side = model.promises(settings.resolution), 20 // settings.resolution
    widths = model.contract.get("flags", {}).values()
    near = max([NEAR_PX, *(width for width in widths if is_number(width))]) * side
    multiple = promises["window_multiple"]
    halo = -(-max(promises["reach_px"], near) // multiple) * multiple
    # Without a border that the caller trims the window is taken to end in no data.
    border = 0 if settings.overlap >= promises["reach_px"] else halo
    parts = 1 if size + 2 * border <= block_px else -(-size // (block_px - 2 * halo))
    step = -(-size // (parts * HALO_PX)) * HALO_PX  # poolings stay in phase
    spans = []
    for start in range(0, size, step):
        stop = min(start + step, size)
        read = slice(max(start - halo, 0), min(stop + halo, size))
        before = min(border, halo - (start - read.start))
        after = min(border, halo - (read.stop - stop))
        length = before + read.stop - read.start + after
        after += -length % multiple
        spans.append(HaloSlice(read, (before, after), slice(start, stop)))
    return spans


def predict_block(
    inputs: Inputs,
    rows: HaloSlice,
    columns: HaloSlice,
    model: Model,
    settings: PredictOptions,
    day: float | None = None,
) -> dict[str, np.ndarray]:
    """Estimate the bands of the settings for the core of a block, by band, (y, x) each."""
    side, wanted = 20 // settings.resolution, settings.estimated_bands
    inputs = pad_inputs(inputs, [rows.padding, columns.padding])
    asked = {band.split("_")[0] for band in wanted}
    variables = [name for name in VARIABLES if name in asked]
    parts = [
        describe_pixels(pixel, estimates, model, settings, day)
        for pixel, estimates in iterate_estimates(inputs, model, settings, variables)
    ]
    gone = (inputs.missing | inputs.masked | inputs.water)[rows.inside, columns.inside]
    results = {}
    for name in wanted:
        band = join_blocks([part[name] for part in parts], side)[rows.inside, columns.inside]
        results[name] = band if name.endswith("_FLAGS") else np.where(gone, np.nan, band)
    if settings.asks_flags:
        near = flag_surroundings(inputs, model.contract, side)[rows.inside, columns.inside]
        results |= {name: results[name] | near for name in wanted if name.endswith("_FLAGS")}
    return results


def describe_pixels(
    inputs: Inputs,
    estimates: dict[str, np.ndarray],
    model: Model,
    settings: PredictOptions,
    day: float | None,
) -> dict[str, np.ndarray]:
    """Return the wanted bands of pixels, without their halo, by name, (y, x) each.

    `estimates`: unclipped variables and what goes with them, see `read_pixels`.
    """
    wanted = settings.estimated_bands
    seen = ~(inputs.missing | inputs.masked)
    spectrum = estimates.get("spectrum", inputs.reflectance)
    inputs = replace(inputs, reflectance=spectrum)
    outside = find_outside_domain(spectrum, model)
    results: dict[str, np.ndarray] = {}
    if settings.asks_flags:
        cloud = suspect_residual_cloud(spectrum, model.contract)
    for variable in (name for name in VARIABLES if name in estimates):
        limits = model.readers[variable].limits if model.readers else model.contract["output"]
        value = estimates[variable]
        if f"{variable}_FLAGS" in wanted:
            judged_outside = outside if limits.get("has_domain", True) else np.zeros_like(outside)
            judged = estimates.get(f"{variable}_SL2P", value)
            results[f"{variable}_FLAGS"] = cloud | flag_values(judged, judged_outside, seen, limits)
        value = clip_value(value, limits)
        results |= relate_to_field(variable, value, inputs, outside, model, settings, day)
    if "LAI_SD" in wanted:
        results["LAI_SD"] = estimates["LAI_SD"]
    return results


def clip_value(value: np.ndarray, limits: dict[str, Any]) -> np.ndarray:
    """Clip a variable (y, x) within the tolerance of its limits; beyond it is kept, as in SNAP."""
    low, high, near = (np.float32(limits[key]) for key in ("minimum", "maximum", "tolerance"))
    value = np.where((value < low) & (value > low - near), low, value)
    return np.where((value > high) & (value < high + near), high, value)


def iterate_estimates(
    inputs: Inputs, model: Model, settings: PredictOptions, variables: Sequence[str]
) -> Iterator[tuple[Inputs, dict[str, np.ndarray]]]:
    """Yield pixels of 20 m blocks with the estimates of the network, see `read_pixels`."""
    if not model.bodies:
        masks = draw_masks(model.contract, settings.samples, settings.seed)
        lai, spread = run_network(build_features(inputs, model.contract), model, masks)
        yield inputs, {"LAI": lai, "LAI_SD": spread}
        return
    body = model.bodies[settings.resolution]
    pixels = split_inputs(inputs, 20 // settings.resolution)
    blocks = np.stack([pixel.reflectance for pixel in pixels])
    features = build_body_features(blocks, body.contract["normalisation"])
    context = model.graph(body.graph)(features=features[None])[0][0].reshape(
        len(body.readout[0]), -1
    )
    for pixel, readout in zip(pixels, body.readout, strict=True):
        yield pixel, read_pixels(pixel, context, readout, model, settings, variables)


def find_phase(bands: Sequence[np.ndarray]) -> tuple[int, int]:
    """Return how many rows and columns, 0 or 1, the first 20 m block of a 10 m window lacks.

    The values of the 20 m bands, (dates, y, x) each, show it: nearest-neighbour resampling fills a
    block of 2x2 pixels with a 20 m value, so rows differ from one to the next only where blocks
    meet, and columns likewise. A back-end may begin a chunk at any pixel.

    Raises:
        LaiInputError: rows or columns differ within blocks, wherever these begin.
    """
    lacking = []
    for axis in (1, 2):
        counts = np.zeros((2, 2), dtype="int64")  # of (phase: pairs that differ, pairs)
        for band in bands:
            step = max(1, band.shape[3 - axis] // MAX_COMPARED_PX)
            lines = np.moveaxis(band, axis, 0)[..., ::step]
            before, after = (part.astype("float32") for part in (lines[:-1], lines[1:]))
            valid = np.isfinite(before) & np.isfinite(after)
            if band.dtype.kind != "f":
                valid &= (before != 0) & (after != 0)
            with np.errstate(invalid="ignore"):
                differs = (np.abs(after - before) > 1e-6) & valid
            for first in (0, 1):
                counts[first] += differs[first::2].sum(), valid[first::2].sum()
        shares = counts[:, 0] / np.maximum(counts[:, 1], 1)
        if shares.min() > MAX_MIXED_SHARE:
            raise LaiInputError(
                "the 20 m bands of this 10 m cube do not repeat each value in blocks of 2x2 "
                "pixels: resample B05 B06 B07 B8A B11 B12 by nearest neighbour, on the grid of "
                "the product, or load a cube of 20 m",
                parameter="resolution",
                value=10,
                expected="20",
            )
        lacking.append(int(shares[1] < shares[0]))
    return lacking[0], lacking[1]


def shift_slice(part: slice, by: int, size: int) -> tuple[slice, tuple[int, int]]:
    """Move a slice back by `by`, into 0 to `size`; return what is cut off before and after, too."""
    first, last = part.start - by, part.stop - by
    return slice(max(first, 0), min(last, size)), (max(-first, 0), max(last - size, 0))


def predict_window(dates: xarray.DataArray, model: Model, settings: PredictOptions) -> np.ndarray:
    """Estimate the bands of `settings`, (t, bands, y, x) float32, of dates (t, bands, y, x).

    Block by block, so that memory beyond input and output stays small; blocks run in parallel.
    """
    values, labels = dates.values, [str(label) for label in dates["bands"].values]
    estimated, passed = settings.estimated_bands, settings.pass_through
    shape = (len(values), len(estimated) + len(passed), *values.shape[2:])
    result = np.empty(shape, dtype="float32")
    for number, label in enumerate(passed, start=len(estimated)):
        result[:, number] = values[:, labels.index(label)]
    if not result.size:  # a chunk without pixels or dates
        return result
    side = 20 // settings.resolution
    lacking = (0, 0)  # rows and columns of the first 20 m block that lie before the window
    if side > 1:
        lacking = find_phase([values[:, labels.index(BANDS[row])] for row in COARSE_ROWS])
    whole = [-(-(px + lack) // side) * side for px, lack in zip(shape[2:], lacking, strict=True)]
    rows, columns = (split_axis_with_halo(px, settings, model, BLOCK_PX) for px in whole)
    tasks = list(product(range(len(values)), rows, columns))
    days = read_days(dates)

    def work(task: tuple[int, HaloSlice, HaloSlice]) -> None:
        """Fill in one block of one date; a 20 m block that the window cuts is completed."""
        number, rows, columns = task
        top, above = shift_slice(rows.read, lacking[0], shape[2])
        left, before = shift_slice(columns.read, lacking[1], shape[3])
        block = values[number, :, top, left]
        if any((*above, *before)):
            block = np.pad(block, [(0, 0), above, before], mode="edge")
        inputs = read_values(block, labels, settings)
        predicted = predict_block(inputs, rows, columns, model, settings, days[number])
        top, above = shift_slice(rows.core, lacking[0], shape[2])
        left, before = shift_slice(columns.core, lacking[1], shape[3])
        size = np.s_[above[0] : above[0] + top.stop - top.start, before[0] :]
        for target, band in zip(result[number], estimated, strict=False):
            target[top, left] = predicted[band][size][:, : left.stop - left.start]

    threads = max(1, min(count_threads(), len(tasks)))
    with ThreadPoolExecutor(threads) as pool:  # a single task needs no thread, nor its memory
        for _ in (pool.map if threads > 1 else map)(work, tasks):
            pass
    return result


def read_days(dates: xarray.DataArray) -> list[float | None]:
    """Return days since 1970 of every date (t, bands, y, x); None where the cube has none.

    Without a dimension of time a scene may state it by its attribute `datetime`.
    """
    times = dates["t"].values if "t" in dates.coords else np.array([])
    if times.dtype.kind not in "MUO" or not times.size:
        stated = str(dates.attrs.get("datetime", "")).split("+")[0].removesuffix("Z")
        times = np.array([stated] * dates.sizes["t"])
    try:
        seconds = times.astype("datetime64[s]").astype("float64")
    except ValueError:
        return [None] * dates.sizes["t"]
    return [float(day) if np.isfinite(day) and day > 0 else None for day in seconds / 86_400]


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:  # type: ignore[type-arg]
    """Estimate LAI for one chunk of a Sentinel-2 L2A cube.

    Args:
        cube: dims (t, bands, y, x) or (bands, y, x), bands labelled; reflectance or digital
            numbers; no data as in `find_no_data`. y and x include the overlap. What cannot be
            surface reflectance is no data and flags its neighbours: a chunk is never refused for
            its values.
        context: keys and defaults as in `PredictOptions`; others are refused.

    Returns:
        Same dims in the same order, y and x uncropped, bands as asked for, float32. LAI bands
        are NaN where there is no data; `LAI_FLAGS` gives the reason.

    Raises:
        LaiInputError: for cubes, contexts or bundles that would give a wrong number.
    """
    settings = read_settings(context)
    if {"bands", "y", "x"} - set(cube.dims) or set(cube.dims) - {"t", "bands", "y", "x"}:
        raise LaiInputError(f"cube has dims {cube.dims}; needed: ([t,] bands, y, x)")
    if "bands" not in cube.coords:
        raise LaiInputError("cube has no band labels; apply the function to a labelled cube")
    model = load_model(settings.model)
    dates = cube if "t" in cube.dims else cube.expand_dims("t")
    dates = dates.transpose("t", "bands", "y", "x")
    check_bands(dates, settings)
    check_grid(dates, settings)
    require_model(model, settings)
    output = xarray.DataArray(predict_window(dates, model, settings), dims=("t", "bands", "y", "x"))
    if "t" not in cube.dims:
        output = output.isel(t=0)
    kept = {dim: cube[dim] for dim in ("t", "y", "x") if dim in cube.coords and dim in cube.dims}
    labels = [*settings.estimated_bands, *settings.pass_through]
    return output.assign_coords({**kept, "bands": labels}).transpose(*cube.dims)


def apply_metadata(metadata: CubeMetadata, context: dict) -> CubeMetadata:  # type: ignore[type-arg]
    """Return the metadata of the cube with the labels of the output bands."""
    settings = read_settings(context)
    return metadata.rename_labels("bands", [*settings.estimated_bands, *settings.pass_through])
