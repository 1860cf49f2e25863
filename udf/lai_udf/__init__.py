"""Predict: LAI from Sentinel-2, here or where the data is.

The flow of the data: `scenes` reads products and cubes, `predict` is the function that ships to a
back-end; here `api.estimate` calls it on cubes of xarray, `run` on scenes by windows (`tiling`),
`cog` writes the result; `process_graph` and `udp` send it away, `pack` and `check` prepare that,
`emulation` cuts as a back-end does; `bundle` opens the network.

Names are imported when they are asked for: `lai_udf.predict` must not drag the rest behind it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lai_udf.api import estimate, write_cogs
    from lai_udf.bundle import Bundle, default_bundle_path, open_bundle
    from lai_udf.check import check_cube, lint_udf
    from lai_udf.cog import write_lai_cogs
    from lai_udf.emulation import Cutting, run_udf_in_windows
    from lai_udf.errors import LaiUdfError
    from lai_udf.identity import RunOptions
    from lai_udf.predict import BANDS, OUTPUT_BANDS, LaiError, LaiInputError, apply_datacube
    from lai_udf.process_graph import lai_cube, lai_from_collection
    from lai_udf.results import read_lai_cogs
    from lai_udf.run import predict_scene, run_cube, run_items, run_scene, run_scenes
    from lai_udf.scenes.cubes import read_cube
    from lai_udf.scenes.read import open_scene, open_scenes, read_scene
    from lai_udf.scenes.stac import open_items
    from lai_udf.seasons import composite, season
    from lai_udf.smoothing import smooth

    __version__: str

__all__ = [
    "BANDS",
    "OUTPUT_BANDS",
    "Bundle",
    "Cutting",
    "LaiError",
    "LaiInputError",
    "LaiUdfError",
    "RunOptions",
    "__version__",
    "apply_datacube",
    "check_cube",
    "composite",
    "default_bundle_path",
    "estimate",
    "lai_cube",
    "lai_from_collection",
    "lint_udf",
    "open_bundle",
    "open_items",
    "open_scene",
    "open_scenes",
    "predict_scene",
    "read_cube",
    "read_lai_cogs",
    "read_scene",
    "run_cube",
    "run_items",
    "run_scene",
    "run_scenes",
    "run_udf_in_windows",
    "season",
    "smooth",
    "write_cogs",
    "write_lai_cogs",
]
_HOMES = {
    "api": ("estimate", "write_cogs"),
    "bundle": ("Bundle", "default_bundle_path", "open_bundle"),
    "check": ("check_cube", "lint_udf"),
    "cog": ("write_lai_cogs",),
    "errors": ("LaiUdfError",),
    "identity": ("RunOptions",),
    "emulation": ("Cutting", "run_udf_in_windows"),
    "predict": ("BANDS", "OUTPUT_BANDS", "LaiError", "LaiInputError", "apply_datacube"),
    "process_graph": ("lai_cube", "lai_from_collection"),
    "results": ("read_lai_cogs",),
    "run": ("predict_scene", "run_cube", "run_items", "run_scene", "run_scenes"),
    "scenes.cubes": ("read_cube",),
    "scenes.stac": ("open_items",),
    "scenes.read": ("open_scene", "open_scenes", "read_scene"),
    "seasons": ("composite", "season"),
    "smoothing": ("smooth",),
}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name == "__version__":
        from importlib.metadata import version

        return version("sentinel2-lai")
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lai_udf.{module}"), name)
    raise AttributeError(f"module 'lai_udf' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, and those of the module itself."""
    return sorted({*globals(), *__all__})
