"""How much memory a job may use.

The operator sets a limit for every worker process (by default 80 % of the machine), a job may ask
for less with the option `python-memory`, as on cloud back-ends ("4200m", "4g"). The system refuses
what goes beyond, so a UDF that eats memory gets a `MemoryError` and the machine stays usable.
"""

import os
import re
import resource

from lai_backend.errors import ParameterError

OPTION = "python-memory"
DEFAULT_SHARE = 0.8
LEAST_BYTES = 1_000_000_000
"""Below this the libraries themselves do not fit."""
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SIZE = re.compile(r"^(\d+(?:\.\d+)?)([kmg]?)b?$", re.IGNORECASE)


def default_memory() -> int:
    """Return the limit of an operator who sets none, in bytes."""
    return int(DEFAULT_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def parse_memory(value: object) -> int | None:
    """Read an amount of memory.

    Args:
        value: bytes, or a text such as `4200m` or `4g`; None or `disable`: no limit of its own.

    Raises:
        ParameterError: not such a value, or too little to work at all.
    """
    if value is None or value == "disable":
        return None
    match = SIZE.match(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ParameterError(f"{OPTION} must be like '4200m' or '4g', not {value!r}.")
    amount = int(float(match[1]) * UNITS[match[2].lower()])
    if amount < LEAST_BYTES:
        raise ParameterError(f"{OPTION} must be 1g or more, not {value!r}.")
    return amount


def limit_memory(amount: int) -> None:
    """Limit the private memory of this process and of those it starts, in bytes."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (amount, hard))


def memory_sentence(error: MemoryError) -> str:
    """Say that memory ran out, and what the limit was."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    allowed = "all memory" if limit == resource.RLIM_INFINITY else f"{limit / 2**30:.1f} GiB"
    detail = f": {error}" if str(error) else ""
    return (
        f"Memory ran out, {allowed} per worker process was allowed (job option {OPTION}){detail}. "
        "Use smaller windows, fewer dates or a smaller extent, or ask for more."
    )
