"""Small Sentinel-2 cubes with vegetation, soil and water, and a network that is known by hand."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lai_udf.bundle import default_bundle_path
from lai_udf.predict import BANDS, FEATURES, read_bundle

# Surface reflectance of dense vegetation and of bare soil, rounded from Sentinel-2 L2A imagery.
VEGETATION = (0.02, 0.045, 0.025, 0.08, 0.25, 0.34, 0.36, 0.38, 0.18, 0.08)
SOIL = (0.07, 0.10, 0.14, 0.17, 0.19, 0.21, 0.22, 0.24, 0.32, 0.26)
ANGLE_DEGREES = {
    "sunZenithAngles": 35.0,
    "sunAzimuthAngles": 150.0,
    "viewZenithMean": 6.0,
    "viewAzimuthMean": 110.0,
}


def fake_cube(
    rng: np.random.Generator, side: int | tuple[int, int] = 64, dates: int = 1
) -> xr.DataArray:
    """Return reflectance (t, bands, y, x) float32: fields with edges and noise, all valid."""
    height, width = (side, side) if isinstance(side, int) else side
    row, column = np.mgrid[:height, :width]
    spectra = np.array([SOIL, VEGETATION])[:, :, None, None]
    planes = []
    for date in range(dates):
        parcels = rng.random((height // 9 + 1, width // 13 + 1))[row // 9, column // 13]
        cover = np.clip(parcels + 0.2 * np.sin((row + 3 * date) / 7) * np.cos(column / 5), 0, 1)
        mixed = spectra[0] * (1 - cover) + spectra[1] * cover
        planes.append(mixed * (1 + 0.02 * rng.standard_normal(mixed.shape)))
    return xr.DataArray(
        np.array(planes, dtype="float32"),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": np.array("2024-06-01", dtype="datetime64[ns]")
            + np.arange(dates) * np.timedelta64(5, "D"),
            "bands": list(BANDS),
            "y": 5_000_000.0 - 20 * np.arange(height),
            "x": 600_000.0 + 20 * np.arange(width),
        },
    )


def with_bands(cube: xr.DataArray, **planes: float | np.ndarray) -> xr.DataArray:
    """Add bands, constant or of shape (y, x), to a cube."""
    shape = [cube.sizes[dim] for dim in cube.dims if dim != "bands"]
    added = [
        xr.DataArray(
            np.broadcast_to(np.asarray(plane, dtype="float32"), shape),
            dims=[dim for dim in cube.dims if dim != "bands"],
        ).expand_dims(bands=[label])
        for label, plane in planes.items()
    ]
    joined = xr.concat([cube, *added], "bands", coords="minimal", compat="override")
    return joined.transpose(*cube.dims)


def to_digital_numbers(cube: xr.DataArray, offset_dn: int = -1000) -> xr.DataArray:
    """Return a reflectance cube as int16 digital numbers, as the L2A products store it."""
    return (cube * 10_000 - offset_dn).round().astype("int16")


def make_bundle(path: Path, *, reach_px: int = 1, **changes: Any) -> Path:
    """Write a bundle whose network is known: LAI = 10 x the mean of B8A over a square.

    The square has `2 reach_px + 1` pixels; no data count as 0. LAI is multiplied by the first of
    four masks (dropped at a rate of 0.5), its own spread is 0.25. `changes` go into the contract.
    """
    description, _ = read_bundle(str(default_bundle_path()))
    contract = description["properties"]["lai:contract"]
    contract["version"] = 1  # one network from features to LAI, without SL2P's equations
    for key in ("bodies", "variables", "flags"):
        contract.pop(key)
    description["assets"] = {"model": description["assets"]["model"]}
    contract["normalisation"] = {"mean": [0.0] * 10, "std": [1.0] * 10, "limit": 100.0}
    contract["masks"] = {"count": 4, "rate": 0.5}
    contract["reach_px"] = reach_px
    contract["graphs"] = {}  # nothing lean beside `model.onnx`
    contract["domain"] = {"bands": ["B8A"], "minimum": [0.0], "maximum": [1.0]}
    contract["domain"]["cells"] = list(range(10))
    contract["output"] = {"minimum": 0.0, "maximum": 8.0, "tolerance": 0.2}
    contract["calibration"] = {"variables": {"LAI": make_field_calibration()}}
    contract.update(changes)
    weights = _box_filter(reach_px)
    description["assets"]["model"]["file:checksum"] = "1220" + hashlib.sha256(weights).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.json", json.dumps(description))
        archive.writestr("model.onnx", weights)
    return path


def make_field_calibration(change: float = 0.3) -> dict[str, Any]:
    """Return the calibration of a variable: field LAI lies `change` above, sd 0.5 at any LAI.

    The half-widths are the levels themselves (times 2 for new regions).
    """
    levels = [0.5, 0.68, 0.9, 0.95]
    return {
        name: {
            "correction": {
                "bands": ["B8A"],
                "hidden": [[0.0] * size],
                "output": [0.0],
                "constant": change,
                "limit": 1.0,
            },
            "scale": {"constant": float(np.log(0.5)), "terms": {}},
        }
        for name, size in (("with_sun", 3), ("without_sun", 2))
    } | {
        "levels": levels,
        "half_widths": {"known": levels, "new": [2 * level for level in levels]},
        "shared": 0.5,
        "typical_scale": 0.5,
        "ceiling": 15.0,
        "fade_below": 1.0,
    }


def _box_filter(reach_px: int) -> bytes:
    """Return the network of `make_bundle` as ONNX."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    side = 2 * reach_px + 1
    kernel = np.zeros((1, len(FEATURES), side, side), dtype="float32")
    kernel[0, FEATURES.index("B8A")] = 10 / side**2
    constants = {
        "kernel": kernel,
        "nothing": kernel * 0,
        "spread": np.full(1, 0.25, dtype="float32"),
        "first": np.array([0], dtype="int64"),
        "shape": np.array([-1, 1, 1, 1], dtype="int64"),
    }
    pads = {"pads": [reach_px] * 4}
    nodes = [
        helper.make_node("Conv", ["features", "kernel"], ["plain"], **pads),
        helper.make_node("Gather", ["masks", "first"], ["mask"], axis=1),
        helper.make_node("Reshape", ["mask", "shape"], ["factor"]),
        helper.make_node("Mul", ["plain", "factor"], ["lai"]),
        helper.make_node("Conv", ["features", "nothing", "spread"], ["lai_sd"], **pads),
    ]
    image = ["n", "c", "y", "x"]
    graph = helper.make_graph(
        nodes,
        "box",
        [
            helper.make_tensor_value_info(
                "features", TensorProto.FLOAT, ["n", len(FEATURES), "y", "x"]
            ),
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["k", 4]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, image)
            for name in ("lai", "lai_sd")
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
