"""Errors of the training room.

LaiTrainingError
├── Sl2pError             a set, variable or input that SL2P does not have
├── PairsError            a table of field pairs that cannot be scored
└── SceneError            a raster that cannot be read as a Sentinel-2 scene
"""


class LaiTrainingError(Exception):
    """Base of everything that this package raises on purpose."""


class Sl2pError(LaiTrainingError, ValueError):
    """The request names a network, variable or input that SL2P does not have."""


class PairsError(LaiTrainingError, ValueError):
    """The table of field pairs lacks columns or rows that scoring needs."""


class SceneError(LaiTrainingError, ValueError):
    """The raster is not a scene whose bands and scaling are known."""
