# /// script
# dependencies = ["onnxruntime"]
# ///
"""Leaf area index of one chunk of a Sentinel-2 L2A cube: an openEO user-defined function.

In:  a cube (t, bands, y, x) or (bands, y, x) with the ten bands of `BANDS` by label, optionally
     `SCL` and the four angle bands of `ANGLES`.
Out: the same window (nothing is cropped; the back-end trims the overlap) with the bands of
     `OUTPUT_BANDS`, float32, NaN where there is no LAI.

The file ships alone, its text inside the process graph: it imports nothing of this project.
The network comes as a bundle (`model.onnx` + `model.json`, a folder or a zip), named by
``context["model"]`` or unpacked by the back-end to `./lai_model`.

Read it from the bottom: `apply_datacube` walks through everything above it. Errors are
`LaiInputError` (what came in is wrong) and `LaiModelError` (the bundle is).
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
from openeo.metadata import CollectionMetadata

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
ANGLES = ("sunZenithAngles", "sunAzimuthAngles", "viewZenithMean", "viewAzimuthMean")
OUTPUT_BANDS = ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS")
FEATURES = (*BANDS, "valid", "cos_view_zenith", "cos_sun_zenith", "cos_relative_azimuth")
NOMINAL_COSINES = (1.0, 0.76604444, 0.0)  # view zenith 0, sun zenith 40, relative azimuth 90 deg

INPUT_OUT_OF_DOMAIN = 1
CLIPPED_TO_MIN = 2
CLIPPED_TO_MAX = 4
OUTPUT_TOO_LOW = 8
OUTPUT_TOO_HIGH = 16
CLOUD_WITHIN_REACH = 32
NO_DATA_WITHIN_REACH = 64

# Scene classes that hide or distort the surface: no data, defective, cloud shadow, clouds of
# medium and high probability, thin cirrus, snow (Sentinel-2 L2A scene classification).
MASKED_SCENE_CLASSES = (0, 1, 3, 8, 9, 10, 11)
NO_DATA_SCENE_CLASSES = (0,)
HALO_PX = 16  # the overlap of the windows; a multiple of every network's pooling
BLOCK_PX = 480  # larger windows are worked off in blocks of this size: they stay in the cache

if Path("onnx_deps").is_dir():  # runtime unpacked by the back-end (udf-dependency-archives)
    sys.path.append("onnx_deps")


class LaiInputError(ValueError):
    """The cube or the context is not what the function needs; the message says what to do."""


class LaiModelError(LaiInputError):
    """The model bundle is missing, incomplete or damaged."""


@dataclass(frozen=True)
class Settings:
    """The `context` of the process graph, checked."""

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
    """-0.1 (or, as ESA's metadata says it, -1000 digital numbers) from baseline 04.00 on."""
    overlap: int = 0
    """Border, px, that the caller trims afterwards; there no data beyond it need be assumed."""

    def __post_init__(self) -> None:
        """Refuse values that no run could mean."""
        if self.target not in ("sl2p", "field"):
            raise LaiInputError(f'context target={self.target!r}: use "sl2p" or "field"')
        if isinstance(self.samples, bool) or self.samples < 0 or self.samples == 1:
            raise LaiInputError(f"context samples={self.samples!r}: use 0 or at least 2 draws")
        unknown = [band for band in self.bands if band not in OUTPUT_BANDS]
        if unknown or not self.bands:
            raise LaiInputError(
                f"context bands={list(self.bands)!r}: choose from {', '.join(OUTPUT_BANDS)}"
            )
        if not self.reflectance_scale > 0:
            raise LaiInputError(
                f"context reflectance_scale={self.reflectance_scale!r}: must be > 0"
            )
        if self.overlap < 0 or self.seed < 0:
            raise LaiInputError("context overlap and seed: must not be negative")


def read_settings(context: dict | None) -> Settings:
    """Check the context; raise `LaiInputError` for an unknown key or an unusable value."""
    context = dict(context or {})
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(context) - known)
    if unknown:
        raise LaiInputError(
            f"unknown context key {', '.join(unknown)}: use {', '.join(sorted(known))}"
        )
    given = {key: value for key, value in context.items() if value is not None}
    if "bands" in given:
        given["bands"] = tuple(given["bands"])
    try:
        return Settings(**given)
    except TypeError as error:
        raise LaiInputError(f"context {given!r}: {error}") from error


@dataclass(frozen=True, eq=False)
class Model:
    """A bundle, opened: the ONNX session and the contract of `model.json`."""

    session: Any
    contract: dict
    domain_bits: np.ndarray
    """Bitmap of the cells of the definition domain, see `outside_domain`."""

    @property
    def reach_px(self) -> int:
        """How far the network sees, px."""
        return int(self.contract["reach_px"])


@functools.lru_cache(maxsize=4)
def load_model(path: str) -> Model:
    """Open and verify a bundle once per process.

    Args:
        path: a zip, or a folder, holding `model.onnx` and `model.json`.

    Raises:
        LaiModelError: where it is missing, incomplete or fails its checksum.
    """
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
    options.intra_op_num_threads = int(
        os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))
    )
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    contract = description["properties"]["lai:contract"]
    return Model(session, contract, _domain_bits(contract["domain"]["cells"]))


def read_bundle(path: str) -> tuple[dict, bytes]:
    """Return (`model.json`, bytes of `model.onnx`) of a bundle, unverified."""
    bundle = Path(path)
    try:
        if bundle.is_dir():
            texts = [(bundle / name).read_bytes() for name in ("model.json", "model.onnx")]
        else:
            with zipfile.ZipFile(bundle) as archive:
                texts = [archive.read(name) for name in ("model.json", "model.onnx")]
        return json.loads(texts[0]), texts[1]
    except (OSError, KeyError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise LaiModelError(
            f"model bundle {path!r} cannot be read ({error}); give context['model'] the zip or "
            "the folder that holds model.onnx and model.json"
        ) from error


def draw_masks(contract: dict, samples: int, seed: int) -> np.ndarray:
    """Draw the channel masks of a Monte-Carlo run from a counter-based generator.

    One draw drops whole channels (spatial dropout) and is used for every window of the run, so
    a draw is one function of the scene.

    Returns:
        Shape (samples, mask_count), float32: 0 for a dropped channel, 1 / (1 - rate) for others.
    """
    rate = contract["masks"]["rate"]
    uniform = np.random.Generator(np.random.Philox(key=seed)).random(
        (samples, contract["masks"]["count"])
    )
    return np.where(uniform < rate, 0.0, 1.0 / (1.0 - rate)).astype("float32")


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
    """Pick the bands by label, scale to reflectance, mask.

    Args:
        date: dims (bands, y, x) in any order.
        settings: the checked context.

    Raises:
        LaiInputError: a band is missing, or the values are no surface reflectance.
    """
    labels = [str(label) for label in date["bands"].values]
    absent = [band for band in BANDS if band not in labels]
    if absent:
        raise LaiInputError(
            f"band {', '.join(absent)} missing: the cube has {', '.join(labels)}; load the ten "
            f"bands {', '.join(BANDS)}"
        )
    values = date.transpose("bands", "y", "x").values
    stored = values[[labels.index(band) for band in BANDS]]
    no_data = np.isnan(stored) if stored.dtype.kind == "f" else stored == 0
    # Digital numbers carry their offset as such; no reflectance offset is as large as 1.
    offset = settings.reflectance_offset
    offset = offset * settings.reflectance_scale if abs(offset) >= 1 else offset
    reflectance = stored.astype("float32") * np.float32(settings.reflectance_scale)
    reflectance += np.float32(offset)
    missing = no_data.any(axis=0)
    masked = np.zeros_like(missing)
    if "SCL" in labels:
        scene_class = np.nan_to_num(values[labels.index("SCL")], nan=0)
        missing |= np.isin(scene_class, NO_DATA_SCENE_CLASSES)
        masked = np.isin(scene_class, MASKED_SCENE_CLASSES) & ~missing
    reflectance[:, missing | masked] = np.nan
    refuse_implausible(reflectance)
    return Inputs(reflectance, _read_cosines(values, labels), masked, missing)


def _read_cosines(values: np.ndarray, labels: list[str]) -> np.ndarray:
    """Return the cosines of the angle bands, or the nominal ones where there are none."""
    nominal = np.array(NOMINAL_COSINES, dtype="float32")[:, None, None]
    present = [band for band in ANGLES if band in labels]
    if not present:
        return nominal
    if len(present) < len(ANGLES):
        raise LaiInputError(
            f"angle bands {', '.join(sorted(set(ANGLES) - set(present)))} missing: give all of "
            f"{', '.join(ANGLES)} or none"
        )
    degrees = values[[labels.index(band) for band in ANGLES]].astype("float32")
    sun_zenith, sun_azimuth, view_zenith, view_azimuth = np.deg2rad(degrees)
    if np.nanmax(sun_zenith, initial=0) > np.pi / 2 or np.nanmax(view_zenith, initial=0) > 1:
        raise LaiInputError(
            "angle bands out of range: sun zenith must be 0-90 and view zenith 0-57 degrees; "
            "scaled angles must be converted to degrees first"
        )
    cosines = np.stack(
        [np.cos(view_zenith), np.cos(sun_zenith), np.cos(sun_azimuth - view_azimuth)]
    )
    return np.where(np.isnan(cosines).any(axis=0), nominal, cosines)


def refuse_implausible(reflectance: np.ndarray) -> None:
    """Raise where values cannot be surface reflectance; silent wrong LAI is the alternative.

    A forgotten offset of -1000 digital numbers shifts every band by +0.1 and LAI by -0.76. It
    shows as vegetation without a dark band: green leaves absorb blue and red, so clear pixels
    with NDVI > 0.4 hardly ever have all ten bands above 0.095.

    Args:
        reflectance: (10, y, x), NaN = no data.
    """
    valid = ~np.isnan(reflectance[0])
    count = int(valid.sum())
    if count == 0:
        return
    values = reflectance[:, valid]
    middle = float(np.median(values[7]))  # B8A: bright over land, at most about 1 over cloud
    if middle > 2:
        raise LaiInputError(
            f"median B8A is {middle:.4g}: these are digital numbers, not reflectance; set "
            "reflectance_scale=0.0001 (and reflectance_offset=-0.1 from baseline 04.00 on)"
        )
    if float(values.max()) < 2e-4 or float(np.median(values[1])) < -0.03:
        raise LaiInputError(
            f"reflectance lies between {values.min():.3g} and {values.max():.3g}: scale or offset "
            "is applied twice; check reflectance_scale and reflectance_offset"
        )
    red, near_infrared = values[2], values[6]
    green = near_infrared - red > 0.4 * (near_infrared + red)
    darkest = values.min(axis=0)
    if green.sum() > 0.05 * count and (darkest[green] > 0.095).mean() > 0.95:
        raise LaiInputError(
            "vegetation without any band below 0.095: the offset of processing baseline 04.00 "
            "was forgotten; set reflectance_offset=-0.1 (-1000 digital numbers)"
        )


def build_features(inputs: Inputs, contract: dict) -> np.ndarray:
    """Return the network's input, shape (14, y, x) float32, channels as in `FEATURES`."""
    height, width = inputs.missing.shape
    features = np.empty((len(FEATURES), height, width), dtype="float32")
    mean, std = (np.float32(contract["normalisation"][key]) for key in ("mean", "std"))
    limit = np.float32(contract["normalisation"]["limit"])
    normalised = (inputs.reflectance - mean[:, None, None]) / std[:, None, None]
    features[:10] = np.nan_to_num(np.clip(normalised, -limit, limit), nan=0.0)
    features[10] = ~(inputs.missing | inputs.masked)
    features[11:] = inputs.cosines
    return features


def run_network(features: np.ndarray, model: Model, masks: np.ndarray) -> tuple[np.ndarray, ...]:
    """Run the network over a window in blocks: `(lai, lai_sd)`, each (y, x) float32.

    Args:
        features: (14, y, x), padded; y and x multiples of the pooling.
        model: the bundle.
        masks: (samples, mask_count); no rows = one pass, spread as the network estimates it.
    """
    height, width = features.shape[1:]
    lai, spread = np.empty((2, height, width), dtype="float32")
    ones = np.ones((1, model.contract["masks"]["count"]), dtype="float32")
    for top in range(0, height, BLOCK_PX):
        for left in range(0, width, BLOCK_PX):
            first_row, first_column = max(0, top - HALO_PX), max(0, left - HALO_PX)
            block = features[
                None,
                :,
                first_row : top + BLOCK_PX + HALO_PX,
                first_column : left + BLOCK_PX + HALO_PX,
            ]
            inner = (
                slice(top - first_row, top - first_row + BLOCK_PX),
                slice(left - first_column, left - first_column + BLOCK_PX),
            )
            core = (slice(top, top + BLOCK_PX), slice(left, left + BLOCK_PX))
            block = np.ascontiguousarray(block)
            outputs = model.session.run(None, {"features": block, "masks": ones})
            lai[core] = outputs[0][0, 0][inner]
            if len(masks):
                spread[core] = monte_carlo_sd(model, block, masks)[inner]
            else:
                spread[core] = outputs[1][0, 0][inner] if len(outputs) > 1 else np.nan
    return lai, spread


def monte_carlo_sd(model: Model, block: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the standard deviation (y, x) of LAI over the draws, by Welford's recurrence."""
    mean = np.zeros(block.shape[2:], dtype="float32")
    squares = np.zeros_like(mean)
    for number, mask in enumerate(masks, start=1):
        draw = model.session.run(["lai"], {"features": block, "masks": mask[None]})[0][0, 0]
        deviation = draw - mean
        mean += deviation / number
        squares += deviation * (draw - mean)
    return np.sqrt(squares / (len(masks) - 1))


def outside_domain(reflectance: np.ndarray, model: Model) -> np.ndarray:
    """Return (y, x) bool: the spectrum lies outside SL2P's definition domain.

    The domain is a box per band and, in it, the set of 10-level cells that the training spectra
    of SL2P occupy: cell = floor(10 (x - min) / (max - min) + 1), SNAP's rule.
    """
    domain = model.contract["domain"]
    low, high = (np.float32(domain[key]) for key in ("minimum", "maximum"))
    outside = np.zeros(reflectance.shape[1:], dtype=bool)
    code = np.zeros(outside.shape, dtype="int32")
    for index, band in enumerate(domain["bands"]):
        level = (reflectance[BANDS.index(band)] - low[index]) * (10 / (high[index] - low[index]))
        outside |= ~((level >= 0) & (level < 10))  # NaN counts as outside
        code = code * 10 + np.where(outside, 0, level).astype("int32")
    return outside | ((model.domain_bits[code >> 3] >> (code & 7)) & 1 == 0)


def _domain_bits(cells: list[int]) -> np.ndarray:
    """Return the bitmap of the cells: decimal code of the eight levels (0-9), one bit each."""
    bits = np.zeros(10**8 // 8, dtype="uint8")
    codes = np.array(cells, dtype="int64")
    np.bitwise_or.at(bits, codes >> 3, (1 << (codes & 7)).astype("uint8"))
    return bits


def within_reach(mask: np.ndarray, reach_px: int) -> np.ndarray:
    """Return (y, x) bool: a pixel of `mask` lies within `reach_px` rows and columns."""
    for axis in (0, 1):
        size = mask.shape[axis]
        total = np.cumsum(mask, axis=axis, dtype="int32")
        total = np.insert(total, 0, 0, axis=axis)
        last = np.minimum(np.arange(size) + reach_px + 1, size)
        first = np.maximum(np.arange(size) - reach_px, 0)
        mask = total.take(last, axis=axis) > total.take(first, axis=axis)
    return mask


def correct_to_field(
    lai: np.ndarray, reflectance: np.ndarray, outside: np.ndarray, contract: dict
) -> np.ndarray:
    """Return LAI (y, x) corrected from SL2P's definition towards field measurements.

    The correction is a bounded linear function of LAI and reflectance; where the spectrum is out
    of the domain it is zero, and LAI falls back to SL2P.
    """
    correction = contract["calibration"].get("field_correction")
    if correction is None:
        raise LaiModelError('this bundle holds no field correction: use target="sl2p"')
    change = correction["intercept"] + lai * np.float32(correction["lai"])
    for band, weight in correction["bands"].items():
        change += reflectance[BANDS.index(band)] * np.float32(weight)
    change = np.clip(change, -correction["limit"], correction["limit"])
    return lai + np.where(outside, np.float32(0), change)


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


def flag_pixels(lai: np.ndarray, outside: np.ndarray, inputs: Inputs, model: Model) -> np.ndarray:
    """Return the flags (y, x) uint8 of the unclipped LAI; see the constants at the top."""
    output = model.contract["output"]
    low, high, tolerance = output["minimum"], output["maximum"], output["tolerance"]
    with_data = ~(inputs.missing | inputs.masked)
    rules = {
        INPUT_OUT_OF_DOMAIN: outside & with_data,
        CLIPPED_TO_MIN: (lai > low - tolerance) & (lai < low) & with_data,
        CLIPPED_TO_MAX: (lai > high) & (lai < high + tolerance) & with_data,
        OUTPUT_TOO_LOW: (lai <= low - tolerance) & with_data,
        OUTPUT_TOO_HIGH: (lai >= high + tolerance) & with_data,
        CLOUD_WITHIN_REACH: within_reach(inputs.masked, model.reach_px),
        NO_DATA_WITHIN_REACH: within_reach(inputs.missing, model.reach_px),
    }
    flags = np.zeros(lai.shape, dtype="uint8")
    for bit, pixels in rules.items():
        flags |= np.where(pixels, bit, 0).astype("uint8")
    return flags


def predict_lai(inputs: Inputs, model: Model, settings: Settings) -> dict[str, np.ndarray]:
    """Estimate LAI, its spread, its interval and the flags of one date.

    Returns:
        Each of `OUTPUT_BANDS`, (y, x) float32; LAI bands are NaN where there is no data.
    """
    height, width = inputs.missing.shape
    # Beyond the window there is no data, unless the caller trims the border anyway.
    before = 0 if settings.overlap >= model.reach_px else HALO_PX
    padded = pad_inputs(inputs, before, int(model.contract["window_multiple"]))
    masks = draw_masks(model.contract, settings.samples, settings.seed)
    lai, spread = run_network(build_features(padded, model.contract), model, masks)

    outside = outside_domain(padded.reflectance, model)
    if settings.target == "field":
        lai = correct_to_field(lai, padded.reflectance, outside, model.contract)
    flags = flag_pixels(lai, outside, padded, model)
    # As in SNAP: clipped within the tolerance, kept (and flagged) beyond it.
    output = model.contract["output"]
    lai = np.where(flags & CLIPPED_TO_MIN, np.float32(output["minimum"]), lai)
    lai = np.where(flags & CLIPPED_TO_MAX, np.float32(output["maximum"]), lai)
    knots = model.contract["calibration"]["intervals"][settings.target]
    lower = np.maximum(lai + np.interp(lai, knots["lai"], knots["lower"]), output["minimum"])
    upper = lai + np.interp(lai, knots["lai"], knots["upper"])

    gone = padded.missing | padded.masked
    window = (slice(before, before + height), slice(before, before + width))
    results = {"LAI_FLAGS": flags[window].astype("float32")}
    bands = {"LAI": lai, "LAI_SD": spread, "LAI_LOWER": np.minimum(lower, lai), "LAI_UPPER": upper}
    for name, band in bands.items():
        results[name] = np.where(gone, np.nan, band)[window].astype("float32")
    return results


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    """Estimate LAI for one chunk of a Sentinel-2 L2A cube.

    Args:
        cube: dims (t, bands, y, x) or (bands, y, x), reflectance or digital numbers, NaN (or 0
            in integer cubes) = no data. y and x include the overlap.
        context: keys and defaults as in `Settings`; others are refused.

    Returns:
        Same dims in the same order, y and x uncropped, bands as asked for, float32.

    Raises:
        LaiInputError: for cubes or contexts that would give a wrong number.
    """
    settings = read_settings(context)
    absent = [dim for dim in ("bands", "y", "x") if dim not in cube.dims]
    unknown = [dim for dim in cube.dims if dim not in ("t", "bands", "y", "x")]
    if absent or unknown or "bands" not in cube.coords:
        raise LaiInputError(
            f"cube has dimensions {cube.dims}, bands labelled: {'bands' in cube.coords}; needed "
            "are (t, bands, y, x) or (bands, y, x) with band labels"
        )
    model = load_model(settings.model)
    dates = [cube.isel(t=i) for i in range(cube.sizes["t"])] if "t" in cube.dims else [cube]
    chunk = np.empty(
        (len(dates), len(settings.bands), cube.sizes["y"], cube.sizes["x"]), dtype="float32"
    )
    for index, date in enumerate(dates):
        results = predict_lai(read_inputs(date, settings), model, settings)
        chunk[index] = [results[band] for band in settings.bands]
    coords = {
        dim: cube.coords[dim] for dim in ("t", "y", "x") if dim in cube.dims and dim in cube.coords
    }
    output = xarray.DataArray(chunk, dims=("t", "bands", "y", "x"))
    if "t" not in cube.dims:
        output = output.isel(t=0)
    return output.assign_coords({**coords, "bands": list(settings.bands)}).transpose(*cube.dims)


def apply_metadata(metadata: CollectionMetadata, context: dict) -> CollectionMetadata:
    """Tell the back-end the labels of the output bands."""
    return metadata.rename_labels("bands", list(read_settings(context).bands))
