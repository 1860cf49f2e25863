"""Start the process of a UDF so that it can harm nothing but its own job.

Under bubblewrap it reads the system's programs, Python and its packages, the folders of the
operator and its archives, and writes none of them; it has a temporary file system of limited size,
no network unless the operator gives it, no environment of the server, and it ends with its job,
whatever it started.
Where bubblewrap cannot work, as in many containers, what is left is a clean environment, limits
of the process itself, and the supervisor, which ends whatever descends from a job.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
READABLE = ("/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu")
READABLE_WITH_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl")
APART = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--new-session",
    *("--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
)
LIBRARIES = ("OPENBLAS_",)  # what this machine sets for them: the same numbers in and outside
WORK = "/run/udf"  # current folder of a UDF under bubblewrap
PROBE_TIMEOUT_S = 10


@dataclass(frozen=True)
class Sandbox:
    """What the process of a UDF gets."""

    work: Path  # folder with its archives
    readable: tuple[Path, ...] = ()  # folders of the operator
    hidden: Path | None = None
    """Folder that is hidden even within a readable one: jobs, password."""
    threads: int = 1  # threads of a model (`OMP_NUM_THREADS`)
    scratch_bytes: int = 2**30  # space for temporary files
    network: bool = False  # whether it may use the network


@functools.cache
def bubblewrap() -> tuple[str, ...] | None:
    """Return the command of a bubblewrap that works here, None if there is none."""
    program = shutil.which("bwrap")
    if program is None or os.environ.get("LAI_BACKEND_WITHOUT_BUBBLEWRAP"):
        return None
    for further in (("--disable-userns",), ()):  # since 0.8
        command = (program, *APART, *further)
        probe = [*command, *_system(), "--unshare-net", "--proc", "/proc", "--dev", "/dev", "true"]
        try:
            done = subprocess.run(probe, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 0:
            return command
    return None


def sandbox_command(
    sandbox: Sandbox, arguments: Sequence[str]
) -> tuple[list[str], dict[str, str], Path]:
    """Return how to start Python in a sandbox: command, environment and current folder.

    Args:
        sandbox: what the process gets.
        arguments: of Python.
    """
    packages = [str(Path(entry).resolve()) for entry in sys.path if Path(entry or "-").is_dir()]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(sandbox.threads),
        **{name: value for name, value in os.environ.items() if name.startswith(LIBRARIES)},
    }
    # a virtual environment's own link to Python may lead through folders that are not there
    python = [os.path.realpath(sys.executable), "-su", *arguments]
    command = bubblewrap()
    if command is None:
        return python, {**environment, "HOME": str(sandbox.work)}, sandbox.work
    seen = [*packages, *(prefix for prefix in (sys.base_prefix, sys.prefix) if prefix != "/usr")]
    options = [*_system(), *_scratch("/tmp", sandbox)]
    if not sandbox.network:
        options.append("--unshare-net")
    system = (*READABLE, *(READABLE_WITH_NETWORK if sandbox.network else ()))
    hidden = sandbox.hidden
    around = [root for root in sandbox.readable if hidden and hidden.is_relative_to(root)]
    inside = [root for root in sandbox.readable if root not in around]
    for path in (*system, *sorted(set(seen)), *map(str, around)):
        options += ["--ro-bind-try", path, path]
    if around:
        options += ["--tmpfs", str(hidden)]
    for path in map(str, inside):
        options += ["--ro-bind-try", path, path]
    options += _scratch(WORK, sandbox)
    for entry in sorted(sandbox.work.iterdir()):
        options += ["--ro-bind", str(entry), f"{WORK}/{entry.name}"]
    options += ["--proc", "/proc", "--dev", "/dev", *_scratch("/dev/shm", sandbox)]
    options += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK, "--clearenv"]
    for name, value in {**environment, "HOME": WORK}.items():
        options += ["--setenv", name, value]
    return [*command, *options, "--", *python], {"PATH": os.defpath}, sandbox.work


def _system() -> list[str]:
    options = []
    for path in SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    return options


def _scratch(path: str, sandbox: Sandbox) -> list[str]:
    return ["--size", str(sandbox.scratch_bytes), "--tmpfs", path]


def weaknesses(cgroups: bool) -> Iterator[str]:
    """Yield what a back-end on this machine cannot keep UDFs from, for the log at start.

    Args:
        cgroups: whether control groups limit memory and processes.
    """
    if bubblewrap() is None:
        yield (
            "bubblewrap (bwrap) is missing or cannot make namespaces here: UDFs can read what this "
            "user can read, write where it can write, and use the network. Install bubblewrap, or "
            "let trusted users in only."
        )
    if not cgroups:
        yield (
            "No control group can be written: memory and processes of jobs are looked at five "
            "times a second, not limited by the system."
        )
