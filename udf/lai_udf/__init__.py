"""Predict: LAI from Sentinel-2, here or where the data is.

The road through the room: `products` and `cubes` read scenes, `predict` is the function that ships
to a back-end, `run` and `windows` call it here, `rasters` write what it says; `process_graph` and
`udp` send it away, `pack` and `check` prepare the journey, `harness` rehearses it; `bundle` opens
the network that travels along.

Names are imported when they are asked for: `lai_udf.predict` must not drag the rest behind it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lai_udf.bundle import Bundle, default_bundle_path, open_bundle
    from lai_udf.check import check_cube, lint_udf
    from lai_udf.cubes import read_cube
    from lai_udf.errors import LaiUdfError
    from lai_udf.harness import Cutting, run_udf_in_windows
    from lai_udf.predict import BANDS, OUTPUT_BANDS, LaiInputError, apply_datacube
    from lai_udf.process_graph import lai_cube, lai_from_collection
    from lai_udf.products import open_scene, read_scene
    from lai_udf.products_items import open_items
    from lai_udf.rasters import read_lai_cogs, write_lai_cogs
    from lai_udf.run import Request, predict_scene, run_cube, run_items, run_scene

__all__ = [
    "BANDS",
    "OUTPUT_BANDS",
    "Bundle",
    "Cutting",
    "LaiInputError",
    "LaiUdfError",
    "Request",
    "apply_datacube",
    "check_cube",
    "default_bundle_path",
    "lai_cube",
    "lai_from_collection",
    "lint_udf",
    "open_bundle",
    "open_items",
    "open_scene",
    "predict_scene",
    "read_cube",
    "read_lai_cogs",
    "read_scene",
    "run_cube",
    "run_items",
    "run_scene",
    "run_udf_in_windows",
    "write_lai_cogs",
]

_HOMES = {
    "bundle": ("Bundle", "default_bundle_path", "open_bundle"),
    "check": ("check_cube", "lint_udf"),
    "cubes": ("read_cube",),
    "errors": ("LaiUdfError",),
    "harness": ("Cutting", "run_udf_in_windows"),
    "predict": ("BANDS", "OUTPUT_BANDS", "LaiInputError", "apply_datacube"),
    "process_graph": ("lai_cube", "lai_from_collection"),
    "products": ("open_scene", "read_scene"),
    "products_items": ("open_items",),
    "rasters": ("read_lai_cogs", "write_lai_cogs"),
    "run": ("Request", "predict_scene", "run_cube", "run_items", "run_scene"),
}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lai_udf.{module}"), name)
    raise AttributeError(f"module 'lai_udf' has no attribute {name!r}")
