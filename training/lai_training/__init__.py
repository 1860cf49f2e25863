"""Learn LAI from Sentinel-2: the teacher SL2P, simulated land, networks, calibration, scores.

Data flow: `simulation` makes scenes and `datasets` reads real ones, `sl2p` labels them, `learn`
makes samples of either and fits a network of `networks`, `restore` the one that ships;
`calibration` calibrates it on field measurements, `scores` holds it against SL2P, `bundles` packs
it. `evaluation` and `parcels` make the paper's tables and figures, `cli` the commands.

Names are imported when they are asked for: the teacher alone must not wait for Keras. Functions
named like their module (`fit`, `simulate`, `calibrate`, `release`, `validate`) stay in it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lai_training.bundles.export import export_onnx
    from lai_training.errors import LaiTrainingError
    from lai_training.learn.config import FitConfig, SampleConfig, read_config
    from lai_training.learn.samples import SampleStream
    from lai_training.networks import SPECS, NetworkSpec, build_network
    from lai_training.scores.emulation import score_scenes
    from lai_training.scores.metrics import score
    from lai_training.sl2p import Flag, predict, predict_bands, predict_image
    from lai_training.sl2p.scene import write_sl2p

__all__ = [
    "SPECS",
    "FitConfig",
    "Flag",
    "LaiTrainingError",
    "NetworkSpec",
    "SampleConfig",
    "SampleStream",
    "build_network",
    "export_onnx",
    "predict",
    "predict_bands",
    "predict_image",
    "read_config",
    "score",
    "score_scenes",
    "write_sl2p",
]

_HOMES = {
    "learn.config": ("FitConfig", "SampleConfig", "read_config"),
    "scores.emulation": ("score_scenes",),
    "errors": ("LaiTrainingError",),
    "bundles.export": ("export_onnx",),
    "scores.metrics": ("score",),
    "networks": ("SPECS", "NetworkSpec", "build_network"),
    "learn.samples": ("SampleStream",),
    "sl2p": ("Flag", "predict", "predict_bands", "predict_image"),
    "sl2p.scene": ("write_sl2p",),
}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"lai_training.{module}"), name)
    raise AttributeError(f"module 'lai_training' has no attribute {name!r}")
