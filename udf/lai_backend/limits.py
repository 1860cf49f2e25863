"""How much memory, how many processes and how much time a job may use.

The operator sets a limit for every job (by default 80 % of the machine), a job may ask for less
with the option `python-memory`, as on cloud back-ends ("4200m", "4g"). The supervisor looks at what
the processes of a job hold, how many they are and how long they take, and ends a job that goes
beyond; a control group is the wall behind it where one can be made. (A limit set in the process
itself, RLIMIT_DATA, was tried: threads that fail to start leave Dask waiting for ever.)
"""

import contextlib
import ctypes
import os
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from lai_backend.errors import ParameterError

OPTION = "python-memory"
DEFAULT_SHARE = 0.8
MIN_BYTES = 2**29
"""Below this the libraries themselves do not fit."""
REMEDY = f"Use smaller windows, fewer dates or a smaller extent, or ask for more ({OPTION})."
MAX_PROCESSES = 512
"""Processes and threads of a job."""
TIME_REMEDY = "Use a smaller extent or fewer dates, or a batch job instead of a request."
KILL_ROUNDS = 50
PR_SET_CHILD_SUBREAPER = 36
CGROUPS = Path("/sys/fs/cgroup")
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SIZE = re.compile(r"^(\d+(?:\.\d+)?)([kmg]?)b?$", re.IGNORECASE)


def default_memory() -> int:
    """Return the limit of an operator who sets none, in bytes."""
    return int(DEFAULT_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def parse_memory(value: object, name: str = OPTION, least: int = MIN_BYTES) -> int | None:
    """Read an amount of memory.

    Args:
        value: bytes, or a text such as `4200m` or `4g`; None or `disable`: no limit of its own.
        name: what the one who gave it calls it, for messages.
        least: bytes below which nothing works.

    Raises:
        ParameterError: not such a value, or too little to work at all.
    """
    if value is None or value == "disable":
        return None
    match = SIZE.match(str(value).strip())
    if match is None or isinstance(value, bool):
        raise ParameterError(f"{name} must be like '4200m' or '4g', not {value!r}.")
    amount = int(float(match[1]) * UNITS[match[2].lower()])
    if amount < least:
        raise ParameterError(f"{name} must be {least // 2**20}m or more, not {value!r}.")
    return amount


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it, the oldest first; only itself without `/proc`.

    Whatever leaves its group or session stays a descendant: orphans go to the next subreaper.
    """
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found


def memory_of(pids: Iterable[int]) -> int:
    """Return the memory that some processes hold, in bytes.

    Pages that they share after a fork count once for each.
    """
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
            pages += int(resident) - int(shared)
    return pages * os.sysconf("SC_PAGE_SIZE")


def become_subreaper() -> None:
    """Let orphans that descend from this process become its children (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(pid: int) -> None:
    """End everything that descends from a process, however it tries to get away."""
    for _ in range(KILL_ROUNDS):
        descendants = family(pid)[1:]
        for one in descendants:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] if pid == os.getpid() else False:
                pass
        if not descendants:
            return
        time.sleep(0.02)


class ControlGroup:
    """A control group of one job: hard limits of memory and processes, where they can be set."""

    def __init__(self, name: str, memory_bytes: int | None, processes: int) -> None:
        """Make the group.

        Args:
            name: of its folder.
            memory_bytes: most memory; None: no limit.
            processes: most processes and threads.

        Raises:
            OSError: groups cannot be written here.
        """
        roots = _group_roots()
        limits: dict[str, dict[str, int | None]] = {
            "memory": {"memory.max": memory_bytes, "memory.limit_in_bytes": memory_bytes},
            "pids": {"pids.max": processes},
        }
        self._folders = [root / f"lai-backend-{name}" for root in dict.fromkeys(roots.values())]
        try:
            for folder in self._folders:
                folder.mkdir()
            for controller, root in roots.items():
                for file, limit in limits[controller].items():
                    path = root / f"lai-backend-{name}" / file
                    if limit is not None and path.exists():
                        path.write_text(str(limit))
        except OSError:
            self.close()
            raise

    @classmethod
    def existing(cls, name: str) -> "ControlGroup":
        """Return the group that an earlier server made, empty where there is none."""
        group = cls.__new__(cls)
        group._folders = []
        with contextlib.suppress(OSError):
            roots = dict.fromkeys(_group_roots().values())
            group._folders = [root / f"lai-backend-{name}" for root in roots]
        return group

    def add(self, pid: int) -> None:
        """Put a process, and so its children to come, into the group."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """End what is left in the group and remove it."""
        for folder in self._folders:
            for _ in range(KILL_ROUNDS):
                if not folder.exists():
                    break
                with contextlib.suppress(OSError):
                    for pid in (folder / "cgroup.procs").read_text().split():
                        with contextlib.suppress(OSError):
                            os.kill(int(pid), signal.SIGKILL)
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    continue
                time.sleep(0.02)


def _group_roots() -> dict[str, Path]:
    """Return the folders of the memory and the pids controller, version 1 or 2."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names:
            for name in {"memory", "pids"} & set(names.split(",")):
                found[name] = CGROUPS / names / path.lstrip("/")
                if not found[name].is_dir():  # a container may show its own group as the root
                    found[name] = CGROUPS / names
        else:
            unified = CGROUPS / path.lstrip("/")
            control = unified / "cgroup.subtree_control"
            if control.is_file() and {"memory", "pids"} <= set(control.read_text().split()):
                found |= {"memory": unified, "pids": unified}
    if set(found) != {"memory", "pids"}:
        raise OSError("no control groups of memory and processes")
    return found


def control_groups_work() -> bool:
    """Return whether control groups can be made here."""
    try:
        ControlGroup(f"probe-{os.getpid()}", None, 8).close()
    except OSError:
        return False
    return True


def over_limit_sentence(amount: int) -> str:
    """Say that a job was ended because of its memory, in bytes."""
    return (
        f"Memory ran out: the job used more than the {amount / 2**30:.1f} GiB it may have and was "
        f"ended. {REMEDY}"
    )


def too_many_sentence() -> str:
    """Say that a job was ended because of its processes."""
    return f"The job had more than the {MAX_PROCESSES} processes it may have and was ended."


def too_long_sentence(seconds: float) -> str:
    """Say that a job was ended because of its time."""
    return (
        f"Time ran out: the job took more than the {seconds:g} s it may take and was ended. "
        f"{TIME_REMEDY}"
    )


def memory_error_sentence(error: MemoryError) -> str:
    """Say that the system refused memory."""
    detail = f": {error}" if str(error) else ""
    return f"Memory ran out{detail}. {REMEDY}"
