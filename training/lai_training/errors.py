"""Errors of the training room.

LaiTrainingError
├── Sl2pError             a set, variable or input that SL2P does not have
└── PairsError            a table of field pairs that cannot be scored

Scenes that cannot be read and folders that cannot be written raise `lai_udf.errors.LaiUdfError`.
"""


class LaiTrainingError(Exception):
    """Base of everything that this package raises on purpose."""


class Sl2pError(LaiTrainingError, ValueError):
    """The request names a network, variable or input that SL2P does not have."""


class PairsError(LaiTrainingError, ValueError):
    """The table of field pairs lacks columns or rows that scoring needs."""
