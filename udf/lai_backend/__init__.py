"""An openEO back-end for one machine: the unmodified `openeo` client connects to it.

`BackendSettings` is imported when it is first asked for: the process of a UDF starts without it.
"""

import logging
from typing import TYPE_CHECKING

from lai_backend.errors import LaiBackendError

if TYPE_CHECKING:
    from lai_backend.settings import BackendSettings

__all__ = ["BackendSettings", "LaiBackendError"]

# At every start it would ask for an extra (learning by boosted trees) whose processes are not ours.
logging.getLogger("openeo_processes_dask.process_implementations").addFilter(
    lambda record: not record.getMessage().startswith("Did not load machine learning")
)


def __getattr__(name: str) -> object:
    if name == "BackendSettings":
        from lai_backend.settings import BackendSettings

        return BackendSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
