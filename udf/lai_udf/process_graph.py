"""The openEO process graph: from a Sentinel-2 cube to a LAI cube.

`lai_cube` is what a user of the openEO Python client calls; the UDF text is
`lai_udf/predict.py`, verbatim. Nothing here talks to a back-end.
"""

from collections.abc import Sequence

import openeo

from lai_udf import predict
from lai_udf.errors import LaiGraphError
from lai_udf.predict import HALO_PX, OUTPUT_BANDS

WINDOW_PX = 224
"""Default core of a window; the UDF sees 224 + 2 x 16 = 256 px."""
WINDOW_MULTIPLE = 4
"""Windows and overlaps are multiples of the poolings of the shipped networks."""


def lai_udf_code(context: dict[str, object], *, version: str = "3.11") -> openeo.UDF:
    """Return the UDF as the client sends it: `predict.py` as it is, with its context.

    Args:
        context: keys of `lai_udf.predict.Settings`.
        version: Python version asked of the back-end.
    """
    predict.read_settings(context)  # a wrong key fails here, not in a paid job
    return openeo.UDF.from_file(
        predict.__file__, runtime="Python", version=version, context=context
    )


def lai_cube(
    cube: openeo.DataCube,
    *,
    model: str = "lai_model",
    size: int = WINDOW_PX,
    overlap: int = HALO_PX,
    samples: int = 0,
    seed: int = 0,
    bands: Sequence[str] = OUTPUT_BANDS,
    target: str = "sl2p",
    reflectance_scale: float = 1.0,
    reflectance_offset: float = 0.0,
) -> openeo.DataCube:
    """Apply the LAI network to a Sentinel-2 L2A cube with `apply_neighborhood`.

    Args:
        cube: the ten bands B02 ... B12 by label, 20 m, optionally SCL and the angle bands.
        model: where the worker finds the bundle: a folder made by `udf-dependency-archives`
            (`lai_model`), or a path on a back-end that shares the disk.
        size: core of a window, px, a multiple of 4; the UDF sees size + 2 overlap.
        overlap: px on every side, a multiple of 4, at most `size`. 16 covers the default network.
        samples: Monte-Carlo draws for `LAI_SD`; 0 = one pass.
        seed: seed of the draws.
        bands: output bands, of `LAI`, `LAI_SD`, `LAI_LOWER`, `LAI_UPPER`, `LAI_FLAGS`.
        target: `sl2p` or `field`.
        reflectance_scale: reflectance = value * scale + offset; 0.0001 for digital numbers.
        reflectance_offset: -0.1 for digital numbers of processing baseline 04.00 and later.

    Returns:
        The LAI cube, bands labelled, float32.

    Raises:
        LaiGraphError: size or overlap that no back-end would treat well.
        lai_udf.predict.LaiInputError: a setting that the UDF would refuse.
    """
    if size < WINDOW_MULTIPLE or size % WINDOW_MULTIPLE or overlap % WINDOW_MULTIPLE:
        raise LaiGraphError(
            f"size={size} and overlap={overlap} must be positive multiples of {WINDOW_MULTIPLE} "
            "px, so that the poolings of neighbouring windows stay in phase"
        )
    if not 0 < overlap <= size:
        raise LaiGraphError(f"overlap={overlap} must lie between {WINDOW_MULTIPLE} and size={size}")
    context: dict[str, object] = {
        "model": model,
        "target": target,
        "samples": samples,
        "seed": seed,
        "bands": list(bands),
        "reflectance_scale": reflectance_scale,
        "reflectance_offset": reflectance_offset,
        "overlap": overlap,
    }
    predicted = cube.apply_neighborhood(
        process=lai_udf_code(context),
        size=[{"dimension": axis, "value": size, "unit": "px"} for axis in ("x", "y")],
        overlap=[{"dimension": axis, "value": overlap, "unit": "px"} for axis in ("x", "y")],
    )
    return predicted.rename_labels("bands", list(bands))
