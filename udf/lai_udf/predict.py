# /// script
# dependencies = ["onnxruntime"]
# ///
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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from openeo.metadata import CubeMetadata

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
ANGLES = ("sunZenithAngles", "sunAzimuthAngles", "viewZenithMean", "viewAzimuthMean")
OUTPUT_BANDS = ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS")
FEATURES = (*BANDS, "valid", "cos_view_zenith", "cos_sun_zenith", "cos_relative_azimuth")
NOMINAL_COSINES = (1.0, 0.76604444, 0.0)  # view zenith 0, sun zenith 40, relative azimuth 90 deg
# Scene classes that hide the surface: defective, shadow, cloud (medium, high), cirrus, snow.
MASKED_SCENE_CLASSES = (1, 3, 8, 9, 10, 11)
HALO_PX = 16  # the overlap of the windows; a multiple of every network's pooling
LEAST_CHECKED_PX = 64  # fewer pixels, at the edge of a swath, prove nothing about the scaling
MOST_CHECKED_PX = 250_000
BLOCK_PX = 480  # larger windows are worked off in blocks of this size: they stay in the cache

INPUT_OUT_OF_DOMAIN = 1
CLIPPED_TO_MIN = 2
CLIPPED_TO_MAX = 4
OUTPUT_TOO_LOW = 8
OUTPUT_TOO_HIGH = 16
CLOUD_WITHIN_REACH = 32
NO_DATA_WITHIN_REACH = 64

if Path("onnx_deps").is_dir():  # runtime unpacked by the back-end (udf-dependency-archives)
    sys.path.append("onnx_deps")


class LaiInputError(ValueError):
    """The cube or the context is not what the function needs; the message says what to do."""


class LaiModelError(LaiInputError):
    """The model bundle is missing, incomplete or damaged."""


@dataclass(frozen=True)
class Settings:
    """The `context` of the process graph, checked: a key of it is a field here."""

    model: str = "lai_model"
    """Bundle: a zip or the folder it was unpacked to."""
    target: str = "sl2p"
    """`sl2p`: what the SNAP biophysical processor would say; `field`: corrected to field LAI."""
    samples: int = 0
    """Monte-Carlo draws; 0 = one pass, the spread comes from the network's own estimate."""
    seed: int = 0
    """Draws depend on (seed, samples) alone, never on window, worker or order."""
    bands: tuple[str, ...] = OUTPUT_BANDS
    """Output bands, in this order."""
    reflectance_scale: float = 1.0
    """reflectance = value * scale + offset; 0.0001 for digital numbers."""
    reflectance_offset: float = 0.0
    """-0.1 (or, in digital numbers as ESA's metadata has it, -1000) from baseline 04.00 on."""
    overlap: int = 0
    """Border, px, that the caller trims; without it the window is taken to end in no data."""

    def __post_init__(self) -> None:
        """Refuse values that no run could mean."""
        rules = {
            'target must be "sl2p" or "field"': self.target in ("sl2p", "field"),
            "samples must be 0 or at least 2": type(self.samples) is int
            and self.samples >= 0
            and self.samples != 1,
            f"bands must be some of {', '.join(OUTPUT_BANDS)}": bool(self.bands)
            and set(self.bands) <= set(OUTPUT_BANDS),
            "reflectance_scale must be above 0": self.reflectance_scale > 0,
            "seed and overlap must not be negative": self.seed >= 0 and self.overlap >= 0,
        }
        for rule, kept in rules.items():
            if not kept:
                raise LaiInputError(f"context: {rule}; got {self}")


def read_settings(context: dict[str, Any] | None) -> Settings:
    """Check the context; raise `LaiInputError` for an unknown key or an unusable value."""
    given = {key: value for key, value in (context or {}).items() if value is not None}
    known = [field.name for field in fields(Settings)]
    if unknown := sorted(set(given) - set(known)):
        raise LaiInputError(f"unknown context key {', '.join(unknown)}: use {', '.join(known)}")
    try:
        if "bands" in given:
            given["bands"] = tuple(given["bands"])
        return Settings(**given)
    except TypeError as error:
        raise LaiInputError(f"context {given!r}: {error}") from error


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle, opened."""

    session: Any
    """ONNX Runtime session: features (n, 14, y, x), masks (draws, count) -> lai, lai_sd."""
    contract: dict[str, Any]
    """`lai:contract` of `model.json`: normalisation, reach, masks, domain, calibration."""
    domain_bits: np.ndarray
    """Bitmap of the cells of the definition domain, see `find_outside_domain`."""


@functools.lru_cache(maxsize=4)
def load_model(path: str) -> Model:
    """Open and verify a bundle, once per process; raise `LaiModelError` where it is damaged."""
    import onnxruntime

    description, weights = read_bundle(path)
    expected = description["assets"]["model"]["file:checksum"]
    found = "1220" + hashlib.sha256(weights).hexdigest()  # multihash: sha2-256, 32 bytes
    if found != expected:
        raise LaiModelError(
            f"{path}: model.onnx fails its checksum (expected {expected}, found {found}); "
            "fetch the bundle again"
        )
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    contract = description["properties"]["lai:contract"]
    bits = np.zeros(10**8 // 8, dtype="uint8")
    cells = np.array(contract["domain"]["cells"], dtype="int64")
    np.bitwise_or.at(bits, cells >> 3, (1 << (cells & 7)).astype("uint8"))
    return Model(session, contract, bits)


def read_bundle(path: str) -> tuple[dict[str, Any], bytes]:
    """Return (`model.json`, bytes of `model.onnx`) of a zip or folder, unverified."""
    bundle, names = Path(path), ("model.json", "model.onnx")
    try:
        if bundle.is_dir():
            description, weights = ((bundle / name).read_bytes() for name in names)
        else:
            with zipfile.ZipFile(bundle) as archive:
                description, weights = (archive.read(name) for name in names)
        return json.loads(description), weights
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
    masked: np.ndarray
    """(y, x) bool: cloud, shadow or snow by the scene classification."""
    missing: np.ndarray
    """(y, x) bool: no data."""


def read_inputs(date: xarray.DataArray, settings: Settings) -> Inputs:
    """Pick the bands of one date by label, scale them to reflectance, mask.

    Raises:
        LaiInputError: a band is missing, or the values are no surface reflectance.
    """
    labels = [str(label) for label in date["bands"].values]
    if absent := [band for band in BANDS if band not in labels]:
        raise LaiInputError(
            f"band {', '.join(absent)} missing: the cube has {', '.join(labels)}; load the ten "
            f"bands {', '.join(BANDS)}"
        )
    values = date.transpose("bands", "y", "x").values
    stored = values[[labels.index(band) for band in BANDS]]
    no_data = np.isnan(stored) if stored.dtype.kind == "f" else stored == 0
    # An offset in digital numbers is told by its size: no reflectance offset reaches 1.
    scale, offset = settings.reflectance_scale, settings.reflectance_offset
    reflectance = stored.astype("float32") * np.float32(scale)
    reflectance += np.float32(offset * scale if abs(offset) >= 1 else offset)
    missing = no_data.any(axis=0)
    masked = np.zeros_like(missing)
    if "SCL" in labels:
        scene_class = np.nan_to_num(values[labels.index("SCL")], nan=0)
        missing |= scene_class == 0
        masked = np.isin(scene_class, MASKED_SCENE_CLASSES) & ~missing
    reflectance[:, missing | masked] = np.nan
    refuse_implausible(reflectance)
    return Inputs(reflectance, read_cosines(values, labels), masked, missing)


def read_cosines(values: np.ndarray, labels: list[str]) -> np.ndarray:
    """Return the cosines (see `Inputs`) of the angle bands, degrees; nominal where absent."""
    bands = {band: values[labels.index(band)] for band in ANGLES if band in labels}
    degrees = {band: band_values.astype("float32") for band, band_values in bands.items()}
    for band, limit in (("sunZenithAngles", 90), ("viewZenithMean", 60)):
        if np.nanmax(degrees.get(band, np.float32(0)), initial=0) > limit:
            raise LaiInputError(f"{band} exceeds {limit}: angle bands must be in degrees")
    cosines = [np.cos(np.deg2rad(degrees[b])) if b in degrees else None for b in ANGLES[2::-2]]
    both = "sunAzimuthAngles" in degrees and "viewAzimuthMean" in degrees
    relative = degrees["sunAzimuthAngles"] - degrees["viewAzimuthMean"] if both else None
    cosines.append(None if relative is None else np.cos(np.deg2rad(relative)))
    filled = [
        np.full((1, 1), nominal, dtype="float32")
        if cosine is None
        else np.where(np.isnan(cosine), np.float32(nominal), cosine)
        for cosine, nominal in zip(cosines, NOMINAL_COSINES, strict=True)
    ]
    return np.stack(np.broadcast_arrays(*filled))


def refuse_implausible(reflectance: np.ndarray) -> None:
    """Raise `LaiInputError` where (10, y, x) values cannot be surface reflectance.

    The alternative is silently wrong LAI. A forgotten offset of -1000 digital numbers shifts
    every band by +0.1 and LAI by -0.76. It shows as vegetation without a dark band: green leaves
    absorb blue and red, so pixels of NDVI > 0.4 hardly ever have all ten bands above 0.095,
    unless under haze, which is brighter and, other than an offset, brightens blue before B12.
    An offset applied twice shows as a darkest band below zero.
    """
    pixels = reflectance.reshape(len(BANDS), -1)
    pixels = pixels[:, :: pixels.shape[1] // MOST_CHECKED_PX + 1]
    values = pixels[:, ~np.isnan(pixels[0])]
    if values.size == 0:
        return
    found = f"reflectance from {values.min():.3g} to {values.max():.3g}"
    if float(np.median(values[BANDS.index("B8A")])) > 2:
        raise LaiInputError(
            f"{found}: these are digital numbers; set reflectance_scale=0.0001 "
            "(and reflectance_offset=-0.1 from processing baseline 04.00 on)"
        )
    enough = values.shape[1] >= LEAST_CHECKED_PX
    below_zero = enough and float(np.median(values.min(axis=0))) < -0.02
    if float(values.max()) < 2e-4 or below_zero:
        raise LaiInputError(
            f"{found}: scale or offset is applied twice; check reflectance_scale and "
            "reflectance_offset"
        )
    red, near_infrared = values[BANDS.index("B04")], values[BANDS.index("B08")]
    green = near_infrared - red > 0.4 * (near_infrared + red)
    if not enough or green.mean() <= 0.05:
        return
    leaves = values[:, green]
    darkest = leaves.min(axis=0)
    haze = np.median(leaves[BANDS.index("B02")] - leaves[BANDS.index("B12")]) > -0.02
    if (darkest > 0.095).mean() > 0.95 and np.median(darkest) < 0.14 and not haze:
        raise LaiInputError(
            f"{found}, and vegetation has no band below 0.095: the offset of processing baseline "
            "04.00 was forgotten; set reflectance_offset=-0.1 (-1000 in digital numbers)"
        )


def pad_inputs(inputs: Inputs, before: int, multiple: int) -> Inputs:
    """Surround one date with no data: `before` px, and more right and below to a multiple."""
    sides = [(before, before + -(size + 2 * before) % multiple) for size in inputs.missing.shape]
    cosines = inputs.cosines
    if cosines.shape[1:] == inputs.missing.shape:
        cosines = np.pad(cosines, [(0, 0), *sides], mode="edge")
    return Inputs(
        reflectance=np.pad(inputs.reflectance, [(0, 0), *sides], constant_values=np.nan),
        cosines=cosines,
        masked=np.pad(inputs.masked, sides),
        missing=np.pad(inputs.missing, sides, constant_values=True),
    )


def build_features(inputs: Inputs, contract: dict[str, Any]) -> np.ndarray:
    """Return the network's input, (14, y, x) float32, channels as in `FEATURES`."""
    features = np.empty((len(FEATURES), *inputs.missing.shape), dtype="float32")
    constants = contract["normalisation"]
    mean, std = (np.array(constants[key], "float32")[:, None, None] for key in ("mean", "std"))
    normalised = (inputs.reflectance - mean) / std  # eq. 1, its constants frozen in the bundle
    limit = np.float32(constants["limit"])
    features[:10] = np.nan_to_num(np.clip(normalised, -limit, limit), nan=0.0)
    features[10] = ~(inputs.missing | inputs.masked)
    # Beyond the scene a back-end has no angles, and a whole scene has: take neither there.
    nominal = np.array(NOMINAL_COSINES, dtype="float32")[:, None, None]
    features[11:] = np.where(inputs.missing, nominal, inputs.cosines)
    return features


def draw_masks(contract: dict[str, Any], samples: int, seed: int) -> np.ndarray:
    """Draw the channel masks of a Monte-Carlo run, (samples, count) float32.

    0 drops a channel, 1 / (1 - rate) keeps it. The generator is counter-based and a draw serves
    every window, so that a draw is one function of the whole scene.
    """
    rate, count = contract["masks"]["rate"], contract["masks"]["count"]
    uniform = np.random.Generator(np.random.Philox(key=seed)).random((samples, count))
    return np.where(uniform < rate, 0.0, 1.0 / (1.0 - rate)).astype("float32")


def run_network(features: np.ndarray, model: Model, masks: np.ndarray) -> np.ndarray:
    """Run the network block by block: LAI and its spread, (2, y, x) float32.

    Args:
        features: (14, y, x), sides multiples of the pooling.
        model: the bundle.
        masks: (samples, count); without rows the spread is what the network itself estimates.
    """
    result = np.full((2, *features.shape[1:]), np.nan, dtype="float32")
    ones = np.ones((1, model.contract["masks"]["count"]), dtype="float32")
    for top in range(0, features.shape[1], BLOCK_PX):
        for left in range(0, features.shape[2], BLOCK_PX):
            row, column = max(0, top - HALO_PX), max(0, left - HALO_PX)
            bottom, right = top + BLOCK_PX + HALO_PX, left + BLOCK_PX + HALO_PX
            block = np.ascontiguousarray(features[None, :, row:bottom, column:right])
            outputs = model.session.run(None, {"features": block, "masks": ones})
            if len(masks):
                outputs[1:] = [monte_carlo_sd(model, block, masks)]
            for band, output in enumerate(outputs):
                core = output[0, 0, top - row :, left - column :][:BLOCK_PX, :BLOCK_PX]
                result[band, top : top + BLOCK_PX, left : left + BLOCK_PX] = core
    return result


def monte_carlo_sd(model: Model, block: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the standard deviation (1, 1, y, x) of LAI over the draws, by Welford's method."""
    mean = np.zeros((1, 1, *block.shape[2:]), dtype="float32")
    squares = np.zeros_like(mean)
    for number, mask in enumerate(masks, start=1):
        draw = model.session.run(["lai"], {"features": block, "masks": mask[None]})[0]
        deviation = draw - mean
        mean += deviation / number
        squares += deviation * (draw - mean)
    spread: np.ndarray = np.sqrt(squares / (len(masks) - 1))
    return spread


def find_outside_domain(reflectance: np.ndarray, model: Model) -> np.ndarray:
    """Return (y, x) bool: the spectrum lies outside SL2P's definition domain.

    The domain is a box per band and, in it, the cells that SL2P's training spectra occupy:
    cell = floor(10 (x - min) / (max - min)), SNAP's rule but counted from 0.
    """
    domain = model.contract["domain"]
    outside = np.zeros(reflectance.shape[1:], dtype=bool)
    code = np.zeros(outside.shape, dtype="int32")
    for band, low, high in zip(domain["bands"], domain["minimum"], domain["maximum"], strict=True):
        cell = (reflectance[BANDS.index(band)] - np.float32(low)) * np.float32(10 / (high - low))
        outside |= ~((cell >= 0) & (cell < 10))  # NaN is outside
        code = code * 10 + np.where(outside, 0, cell).astype("int32")
    outside |= (model.domain_bits[code >> 3] >> (code & 7)) & 1 == 0
    return outside


def correct_to_field(
    lai: np.ndarray, reflectance: np.ndarray, outside: np.ndarray, contract: dict[str, Any]
) -> np.ndarray:
    """Return LAI (y, x) corrected from SL2P's towards field measurements.

    A bounded linear function of LAI and reflectance; none where the spectrum is out of domain.
    """
    correction = contract["calibration"].get("field_correction")
    if correction is None:
        raise LaiModelError('this bundle holds no field correction: use target="sl2p"')
    change = correction["intercept"] + lai * np.float32(correction["lai"])
    for band, weight in correction["bands"].items():
        change += reflectance[BANDS.index(band)] * np.float32(weight)
    change = np.clip(change, -correction["limit"], correction["limit"])
    return lai + np.where(outside, np.float32(0), change)


def within_reach(mask: np.ndarray, reach_px: int) -> np.ndarray:
    """Return (y, x) bool: a pixel of `mask` lies within `reach_px` rows and columns."""
    for axis, size in enumerate(mask.shape):
        total = np.insert(np.cumsum(mask, axis=axis, dtype="int32"), 0, 0, axis=axis)
        place = np.arange(size)
        last = total.take(np.minimum(place + reach_px + 1, size), axis=axis)
        mask = last > total.take(np.maximum(place - reach_px, 0), axis=axis)
    return mask


def flag_pixels(
    lai: np.ndarray, outside: np.ndarray, inputs: Inputs, contract: dict[str, Any]
) -> np.ndarray:
    """Return the flags (y, x) uint8 of unclipped LAI; bits as at the top."""
    low, high, tolerance = (contract["output"][key] for key in ("minimum", "maximum", "tolerance"))
    seen = ~(inputs.missing | inputs.masked)
    rules = {
        INPUT_OUT_OF_DOMAIN: outside & seen,
        CLIPPED_TO_MIN: (lai > low - tolerance) & (lai < low) & seen,
        CLIPPED_TO_MAX: (lai > high) & (lai < high + tolerance) & seen,
        OUTPUT_TOO_LOW: (lai <= low - tolerance) & seen,
        OUTPUT_TOO_HIGH: (lai >= high + tolerance) & seen,
        CLOUD_WITHIN_REACH: within_reach(inputs.masked, contract["reach_px"]),
        NO_DATA_WITHIN_REACH: within_reach(inputs.missing, contract["reach_px"]),
    }
    flags = np.zeros(lai.shape, dtype="uint8")
    for bit, pixels in rules.items():
        flags[pixels] |= bit
    return flags


def predict_lai(inputs: Inputs, model: Model, settings: Settings) -> dict[str, np.ndarray]:
    """Estimate LAI, its spread, its interval and the flags of one date: (y, x) float32 each."""
    contract = model.contract
    height, width = inputs.missing.shape
    before = 0 if settings.overlap >= contract["reach_px"] else HALO_PX
    padded = pad_inputs(inputs, before, contract["window_multiple"])
    masks = draw_masks(contract, settings.samples, settings.seed)
    lai, spread = run_network(build_features(padded, contract), model, masks)

    outside = find_outside_domain(padded.reflectance, model)
    if settings.target == "field":
        lai = correct_to_field(lai, padded.reflectance, outside, contract)
    flags = flag_pixels(lai, outside, padded, contract)
    # As in SNAP, LAI is clipped within the tolerance, and kept, but flagged, beyond it.
    low, high = (np.float32(contract["output"][key]) for key in ("minimum", "maximum"))
    lai = np.where(flags & CLIPPED_TO_MIN, low, np.where(flags & CLIPPED_TO_MAX, high, lai))
    knots = contract["calibration"]["intervals"][settings.target]
    lower = np.maximum(lai + np.interp(lai, knots["lai"], knots["lower"]), low)
    upper = lai + np.interp(lai, knots["lai"], knots["upper"])

    gone = padded.missing | padded.masked
    bands = dict(zip(OUTPUT_BANDS, (lai, spread, np.minimum(lower, lai), upper), strict=False))
    results = {name: np.where(gone, np.nan, band) for name, band in bands.items()}
    results["LAI_FLAGS"] = flags
    window = (slice(before, before + height), slice(before, before + width))
    return {name: band[window].astype("float32") for name, band in results.items()}


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:  # type: ignore[type-arg]
    """Estimate LAI for one chunk of a Sentinel-2 L2A cube.

    Args:
        cube: dims (t, bands, y, x) or (bands, y, x), bands labelled; reflectance or digital
            numbers, NaN (or 0 in integer cubes) = no data. y and x include the overlap.
        context: keys and defaults as in `Settings`; others are refused.

    Returns:
        Same dims in the same order, y and x uncropped, bands as asked for, float32. LAI bands
        are NaN where there is no data; `LAI_FLAGS` says why.

    Raises:
        LaiInputError: for cubes, contexts or bundles that would give a wrong number.
    """
    settings = read_settings(context)
    if {"bands", "y", "x"} - set(cube.dims) or set(cube.dims) - {"t", "bands", "y", "x"}:
        raise LaiInputError(f"cube has dims {cube.dims}; needed: ([t,] bands, y, x)")
    if "bands" not in cube.coords:
        raise LaiInputError("cube has no band labels; apply the function to a labelled cube")
    model = load_model(settings.model)
    dates = cube.transpose("t", ...) if "t" in cube.dims else cube.expand_dims("t")
    chunk = [
        [predicted[band] for band in settings.bands]
        for predicted in (
            predict_lai(read_inputs(date, settings), model, settings) for date in dates
        )
    ]
    shape = (len(dates), len(settings.bands), cube.sizes["y"], cube.sizes["x"])
    output = xarray.DataArray(
        np.array(chunk, dtype="float32").reshape(shape), dims=("t", "bands", "y", "x")
    )
    if "t" not in cube.dims:
        output = output.isel(t=0)
    kept = {dim: cube[dim] for dim in ("t", "y", "x") if dim in cube.coords and dim in cube.dims}
    return output.assign_coords({**kept, "bands": list(settings.bands)}).transpose(*cube.dims)


def apply_metadata(metadata: CubeMetadata, context: dict) -> CubeMetadata:  # type: ignore[type-arg]
    """Tell the back-end the labels of the output bands."""
    return metadata.rename_labels("bands", list(read_settings(context).bands))
