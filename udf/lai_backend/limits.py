"""How much memory a job may use.

The operator sets a limit for every job (by default 80 % of the machine), a job may ask for less
with the option `python-memory`, as on cloud back-ends ("4200m", "4g"). The supervisor looks at what
the processes of a job hold and ends a job that goes beyond. (A limit set in the process itself,
RLIMIT_DATA, was tried: threads that fail to start leave Dask waiting for ever.)
"""

import os
import re
from pathlib import Path

from lai_backend.errors import ParameterError

OPTION = "python-memory"
DEFAULT_SHARE = 0.8
LEAST_BYTES = 2**29
"""Below this the libraries themselves do not fit."""
REMEDY = f"Use smaller windows, fewer dates or a smaller extent, or ask for more ({OPTION})."
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SIZE = re.compile(r"^(\d+(?:\.\d+)?)([kmg]?)b?$", re.IGNORECASE)


def default_memory() -> int:
    """Return the limit of an operator who sets none, in bytes."""
    return int(DEFAULT_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def parse_memory(value: object, name: str = OPTION) -> int | None:
    """Read an amount of memory.

    Args:
        value: bytes, or a text such as `4200m` or `4g`; None or `disable`: no limit of its own.
        name: what the one who gave it calls it, for messages.

    Raises:
        ParameterError: not such a value, or too little to work at all.
    """
    if value is None or value == "disable":
        return None
    match = SIZE.match(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ParameterError(f"{name} must be like '4200m' or '4g', not {value!r}.")
    amount = int(float(match[1]) * UNITS[match[2].lower()])
    if amount < LEAST_BYTES:
        raise ParameterError(f"{name} must be 512m or more, not {value!r}.")
    return amount


def group_memory(group: int) -> int:
    """Return the memory that the processes of a process group hold, in bytes.

    Pages that they share after a fork count once for each; 0 where there is no `/proc`.
    """
    pages = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                resident, shared = (process / "statm").read_text().split()[1:3]
                pages += int(resident) - int(shared)
        except OSError:  # it has just ended
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def over_limit_sentence(amount: int) -> str:
    """Say that a job was ended because of its memory, in bytes."""
    return (
        f"Memory ran out: the job used more than the {amount / 2**30:.1f} GiB it may have and was "
        f"ended. {REMEDY}"
    )


def memory_error_sentence(error: MemoryError) -> str:
    """Say that the system refused memory."""
    detail = f": {error}" if str(error) else ""
    return f"Memory ran out{detail}. {REMEDY}"
