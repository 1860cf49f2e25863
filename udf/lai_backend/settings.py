"""What the operator decides when the server starts, and the task of a worker.

`BackendSettings` lives in the server; `Task` is the border to the worker: one JSON file per job.
"""

import ipaddress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from lai_backend.errors import SettingsError


class WorkerSettings(BaseModel):
    """What the operator decides for all workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    collection_dirs: tuple[Path, ...] = ()  # folders that are searched for `collection.json` files
    threads: int = 2  # threads of one worker process
    scratch_bytes: int = 2**30  # space for temporary files of a UDF
    network: bool = False  # whether UDFs may use the network
    private_network: bool = False  # whether requests may name addresses of private networks


class BackendSettings(WorkerSettings):
    """Settings of one server."""

    data_dir: Path  # folder of the back-end: registry, jobs, password; made if absent
    allowed_roots: tuple[Path, ...] = ()
    """Folders below which `load_stac` and archives may read, besides collections and results."""
    host: str = "127.0.0.1"  # address to listen on
    port: int = 8081  # port to listen on; 0 lets the system choose
    user: str = "lai"  # name of the one account
    password: str | None = None
    """Password of the account; None: one is drawn and kept in `data_dir/password`."""
    max_jobs: int = 1  # batch jobs that run at the same time; others wait as `queued`
    memory_bytes: int | None = None
    """Memory that one job may use; None: see `limits.default_memory`."""
    job_seconds: float = 86_400  # time that one batch job may take
    request_seconds: float = 600  # time that one synchronous request may take
    max_requests: int = 4  # synchronous requests at the same time; others are refused

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what cannot work, and a public address without a password."""
        if not is_loopback(self.host) and not self.password:
            raise SettingsError(
                f"Refusing to listen on {self.host} without a password, because clients of this "
                "back-end run their own code on this machine: set LAI_BACKEND_PASSWORD, or "
                "listen on 127.0.0.1."
            )
        for folder in (*self.collection_dirs, *self.allowed_roots):
            if not folder.is_dir():
                raise SettingsError(f"{folder} is not a folder.")

    @property
    def readable_roots(self) -> tuple[Path, ...]:
        """All folders below which a worker may read local files, resolved."""
        folders = (*self.collection_dirs, *self.allowed_roots, self.data_dir / "jobs")
        return tuple(folder.resolve() for folder in folders)


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Task(WorkerSettings):
    """What a worker process has to do; `task.json` in its job folder."""

    graph: dict[str, Any]  # resolved and lowered process graph (see `graphs`)
    job_options: dict[str, Any] = {}
    """Options of the user; those meant for other back-ends are ignored."""
    readable_roots: tuple[Path, ...] = ()  # folders below which local files may be read
    threads_per_call: int = 1  # threads that one call of the UDF may use (job option `task-cpus`)
    memory_bytes: int | None = None
    """Memory that all processes of the job may use together; None: no limit."""
    seconds: float | None = None  # time that the job may take; None: no limit
    log_level: str = "info"  # lowest level that goes into the job log
    single_file: bool = False  # A synchronous request: the result must be one file

    @property
    def parallel_calls(self) -> int:
        """Calls of the UDF at the same time."""
        return max(1, self.threads // self.threads_per_call)
