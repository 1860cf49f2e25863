"""Errors of lai_training.

Scenes that cannot be read and folders that cannot be written raise `lai_udf.errors.LaiUdfError`,
bundles that cannot be opened `lai_udf.predict.LaiModelError`. All have the root
`lai_udf.predict.LaiError`.
"""

from lai_udf.predict import LaiError


class LaiTrainingError(LaiError):
    """Base of everything that this package raises on purpose."""


class Sl2pError(LaiTrainingError, ValueError):
    """The request names a network, variable or input that SL2P does not have."""


class SimulationError(LaiTrainingError, ValueError):
    """A scene of this size, kind or cloud cover cannot be simulated."""


class PrepareError(LaiTrainingError):
    """No product gives patches, or a folder holds no pool, another pool, or a damaged one."""


class ConfigError(LaiTrainingError, ValueError):
    """A config cannot be read, or one of its keys or values is wrong."""


class FitError(LaiTrainingError):
    """A fit cannot begin or go on: start, folder or loss are not what they should be."""


class ExportError(LaiTrainingError):
    """A run is unfinished, or lacks what a bundle must state."""


class EvaluationError(LaiTrainingError, ValueError):
    """No scene with clear vegetation to score a bundle on."""


class PairsError(LaiTrainingError, ValueError):
    """The table of field pairs lacks columns or rows that scoring needs."""


class ParcelsError(LaiTrainingError, ValueError):
    """Parcels or items cannot be read together."""
