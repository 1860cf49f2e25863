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
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from lai_backend.errors import ParameterError

OPTION = "python-memory"
DEFAULT_SHARE = 0.8
MIN_BYTES = 2**29  # below this the libraries themselves do not fit
REMEDY = f"Use smaller windows, fewer dates or a smaller extent, or ask for more ({OPTION})."
MAX_PROCESSES = 512  # processes and threads of a job
KILL_ROUNDS = 50
PR_SET_CHILD_SUBREAPER = 36
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
SIZE = re.compile(r"^(\d+(?:\.\d+)?)([kmg]?)b?$", re.IGNORECASE)


def default_memory() -> int:
    """Return the limit of an operator who sets none, in bytes."""
    return int(DEFAULT_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def parse_memory(value: object, name: str = OPTION, least: int = MIN_BYTES) -> int | None:
    """Read an amount of memory.

    Args:
        value: bytes, or a text such as `4200m` or `4g`; None or `disable`: no limit of its own.
        name: of the option, for messages.
        least: bytes below which nothing works.
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


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that descend from it; nothing if it is gone.

    Whatever leaves its group or session stays a descendant: orphans go to the next subreaper.
    """
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def memory_of(processes: Iterable[psutil.Process]) -> int:
    """Return the memory that processes hold, in bytes, without pages of files they share.

    Pages that they share after a fork count once for each.
    """
    held = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            held += memory.rss - getattr(memory, "shared", 0)
    return held


def process_start(pid: int) -> str:
    """Return when the system started a process, empty if there is none or it is a zombie."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"{process.create_time():.2f}"
    return ""


def become_subreaper() -> None:
    """Make orphans that descend from this process its children (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(pid: int) -> None:
    """End everything that descends from a process, however it tries to get away."""
    for _ in range(KILL_ROUNDS):
        descendants = family(pid)[1:]
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] if pid == os.getpid() else False:
                pass
        if not descendants:
            return
        time.sleep(0.02)


class ControlGroup:
    """A control group of one job: hard limits of memory and processes, where they can be set."""

    def __init__(self, name: str) -> None:
        """Name the group; `create` makes it, where an earlier server has not."""
        with contextlib.suppress(OSError):
            self._roots = _group_roots()
        self._name = f"lai-backend-{name}"

    _roots: Mapping[str, Path] = {}  # no control groups here

    @property
    def _folders(self) -> list[Path]:
        return [root / self._name for root in dict.fromkeys(self._roots.values())]

    def create(self, memory_bytes: int | None, processes: int) -> None:
        """Make the group; an `OSError` where groups cannot be written.

        Args:
            memory_bytes: most memory; None: no limit.
            processes: most processes and threads.
        """
        if not self._roots:
            raise OSError("no control groups of memory and processes")
        limits: dict[str, dict[str, int | None]] = {
            "memory": {"memory.max": memory_bytes, "memory.limit_in_bytes": memory_bytes},
            "pids": {"pids.max": processes},
        }
        try:
            for folder in self._folders:
                folder.mkdir()
            for controller, root in self._roots.items():
                for file, limit in limits[controller].items():
                    path = root / self._name / file
                    if limit is not None and path.exists():
                        path.write_text(str(limit))
        except OSError:
            self.close()
            raise

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
    """Return the folders of the memory and the pids controller, version 1 or 2; {}: not both."""
    found: dict[str, Path] = {}
    for line in OWN_GROUPS.read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in {"memory", "pids"} & set(names.split(",")):  # version 1
            found[name] = CGROUPS / names / path.lstrip("/")
            if not found[name].is_dir():  # a container may show its own group as the root
                found[name] = CGROUPS / names
        here = CGROUPS / path.lstrip("/")
        # version 2 limits no group beside whose processes there are groups: a sibling does
        for root in (here, here.parent) if not names else ():
            control = root / "cgroup.subtree_control"
            if control.is_file() and {"memory", "pids"} <= set(control.read_text().split()):
                return {"memory": root, "pids": root}
    return found if len(found) == 2 else {}


def control_groups_work() -> bool:
    """Return whether control groups can be made here."""
    group = ControlGroup(f"probe-{os.getpid()}")
    try:
        group.create(None, 8)
    except OSError:
        return False
    group.close()
    return True


def memory_error_sentence(error: MemoryError) -> str:
    """Return what a job reports to whom the system refused memory."""
    detail = f": {error}" if str(error) else ""
    return f"Memory ran out{detail}. {REMEDY}"
