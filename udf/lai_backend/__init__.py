"""An openEO back-end for one machine: the unmodified `openeo` client connects to it."""

import logging

from lai_backend.errors import LaiBackendError
from lai_backend.settings import BackendSettings

__all__ = ["BackendSettings", "LaiBackendError"]

# At every start it would ask for an extra (learning by boosted trees) whose processes are not ours.
logging.getLogger("openeo_processes_dask.process_implementations").addFilter(
    lambda record: not record.getMessage().startswith("Did not load machine learning")
)
