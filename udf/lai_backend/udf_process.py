"""UDFs in a process of their own: the side of the job (`UdfProcess`), and that of the UDF (`main`).

Each thread of the job has a connection of its own. Requests go to the UDF as pickles; answers come
back as JSON and plain numbers only, because the code that answers cannot be trusted.
"""

import contextlib
import json
import logging
import os
import pickle
import queue
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import xarray as xr

from lai_backend.errors import LaiBackendError, MemoryLimitError, ParameterError, UdfError
from lai_backend.files import Json
from lai_backend.limits import become_subreaper, kill_descendants
from lai_backend.sandbox import Sandbox, sandbox_command
from lai_backend.udf_runner import LocalUdf, as_float32
from lai_backend.windows import Block

_log = logging.getLogger(__name__)
MAX_ANSWER_BYTES = 2**34
MAX_LOG_LINE = 20_000
MAX_PROCESSES = 256  # of a user who is not root, where there is no bubblewrap
ERRORS: dict[str, type[LaiBackendError]] = {
    kind.__name__: kind for kind in (MemoryLimitError, ParameterError, UdfError)
}


class UdfProcess:
    """The process that runs the UDFs of one job; started at the first call."""

    def __init__(self, sandbox: Sandbox, connections: int, output: Path) -> None:
        """Prepare.

        Args:
            sandbox: what the process gets.
            connections: calls at the same time.
            output: file that takes what the UDF prints.
        """
        self._sandbox, self._count, self._output = sandbox, connections, output
        self._connections: queue.Queue[Connection] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start the process, if it does not run yet, without waiting for it."""
        with self._lock:
            if self._process is None:
                self._start()

    def ask(self, operation: str, *arguments: object) -> tuple[Json, npt.NDArray[np.float32]]:
        """Have the process do something, and return its answer."""
        self.start()
        connection = self._connections.get()
        try:
            connection.send_bytes(pickle.dumps((operation, arguments), protocol=5))
            answer = json.loads(connection.recv_bytes(MAX_LOG_LINE * 100))
            values = np.frombuffer(connection.recv_bytes(MAX_ANSWER_BYTES), np.float32)
            if "error" in answer:
                kind = ERRORS.get(str(answer.get("kind")), UdfError)
                raise kind(str(answer["error"]))
            return answer["answer"], values.reshape(answer["shape"])
        except (EOFError, OSError) as error:
            raise UdfError(self._ending()) from error
        except (ValueError, KeyError, TypeError) as error:  # it wrote into its connection by itself
            raise UdfError(f"The process of the UDF gave a wrong answer: {error}.") from error
        finally:
            self._connections.put(connection)

    def close(self) -> None:
        """End the process and everything it started."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        kill_descendants(os.getpid())
        if self._reader is not None:
            self._reader.join(timeout=5)

    def _start(self) -> None:
        pairs = [socket.socketpair() for _ in range(self._count)]
        log_read, log_write = os.pipe()
        theirs = [pair[1].fileno() for pair in pairs]
        arguments = [
            "-m",
            "lai_backend.udf_process",
            str(self._sandbox.scratch_bytes),
            str(log_write),
        ]
        command, environment, folder = sandbox_command(
            self._sandbox, [*arguments, *map(str, theirs)]
        )
        become_subreaper()
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
                pass_fds=[*theirs, log_write],
                start_new_session=True,
            )
        os.close(log_write)
        for ours, other in pairs:
            other.close()
            self._connections.put(Connection(ours.detach()))
        self._reader = threading.Thread(target=_relay_log, args=(log_read,), daemon=True)
        self._reader.start()

    def _ending(self) -> str:
        assert self._process is not None  # it has been asked
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        if code in (-9, 137):  # bubblewrap reports the signal of its child as a shell does
            return (
                "The process of the UDF was killed (signal 9), most often because memory ran out "
                "or it had too many processes."
            )
        try:
            last = self._output.read_text(errors="replace").strip()[-500:]
        except OSError:
            last = ""
        output = f" Its last output: {last}" if last else ""
        return f"The process of the UDF ended during a call (exit code {code}).{output}"


def _relay_log(descriptor: int) -> None:
    """Pass what the UDF logs on to the log of the job."""
    with open(descriptor, errors="replace") as lines:
        while line := lines.readline(MAX_LOG_LINE):
            try:
                level, name, message, data = json.loads(line)
                extra = {"data": data} if data is not None else {}
                logging.getLogger(str(name)).log(int(level), "%s", message, extra=extra)
            except (TypeError, ValueError, KeyError):
                _log.info("The UDF wrote: %s", line.strip())


@dataclass(frozen=True)
class SandboxedUdf(LocalUdf):
    """A UDF that runs in its own process."""

    process: UdfProcess = field(repr=False, kw_only=True)  # where it runs

    def prepare(self) -> None:
        """Execute the module text once."""
        self._ask("prepare")

    def describe(self, bands: Sequence[str], other_dims: Sequence[str]) -> tuple[list[str], bool]:
        """Return band labels, and whether the dates change."""
        (names, new_dates), _ = self._ask("describe", list(bands), list(other_dims))
        return [str(name) for name in names], bool(new_dates)

    def run(self, window: xr.DataArray) -> xr.DataArray:
        """Return what the UDF makes of one window."""
        described, values = self._ask("run", window)
        labels = {name: _decode_labels(coded) for name, coded in described["coords"].items()}
        return xr.DataArray(values, dims=[str(name) for name in described["dims"]], coords=labels)

    def run_block(self, values: npt.NDArray[np.float32], block: Block) -> npt.NDArray[np.float32]:
        """Run the UDF on the windows of a block; see `windows.run_block`."""
        return self._ask("run_block", np.asarray(values), block)[1]

    def _ask(self, operation: str, *arguments: object) -> tuple[Json, npt.NDArray[np.float32]]:
        return self.process.ask(operation, self.code, self.context, *arguments)


def _decode_labels(coded: Json) -> npt.NDArray[Any]:
    kind, values = coded
    labels: npt.NDArray[Any] = np.asarray(values, {"M": "M8[ns]", "f": "f8"}.get(str(kind), "U"))
    return labels


def _encode_labels(labels: npt.NDArray[Any]) -> tuple[str, list[Any]]:
    if labels.dtype.kind == "M":
        return "M", labels.astype("datetime64[ns]").astype(np.int64).tolist()
    if labels.dtype.kind in "iuf":
        return "f", labels.astype(float).tolist()
    return "U", [str(label) for label in labels.tolist()]


class _LogSender(logging.Handler):
    """Sends log records to the job."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._file = os.fdopen(descriptor, "w")

    def emit(self, record: logging.LogRecord) -> None:
        data = getattr(record, "data", None)
        entry = (
            record.levelno,
            record.name,
            self.format(record)[: MAX_LOG_LINE // 4],
            None if data is None else repr(data)[: MAX_LOG_LINE // 4],
        )
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()


def _answer(operation: str, arguments: tuple[Any, ...]) -> tuple[Json, npt.NDArray[np.float32]]:
    code, context, *rest = arguments
    answer = getattr(LocalUdf(code, context), operation)(*rest)
    if isinstance(answer, xr.DataArray):
        coords = {
            str(name): _encode_labels(answer[name].values)
            for name in answer.dims
            if name in answer.coords and name not in ("x", "y")
        }
        return {"dims": [str(name) for name in answer.dims], "coords": coords}, as_float32(answer)
    if isinstance(answer, np.ndarray):
        return None, answer
    return answer, np.empty(0, np.float32)


def _serve(connection: Connection) -> None:
    """Answer the questions of one thread of the job until it hangs up."""
    while True:
        try:
            operation, arguments = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        values = np.empty(0, np.float32)
        try:
            answer, values = _answer(operation, arguments)
            head: Json = {"answer": answer, "shape": values.shape}
        except LaiBackendError as error:
            head = {"error": str(error), "kind": type(error).__name__}
        except BaseException as error:
            kind = "MemoryLimitError" if isinstance(error, MemoryError) else "UdfError"
            head = {"error": f"The UDF failed: {type(error).__name__}: {error}", "kind": kind}
        connection.send_bytes(json.dumps(head).encode())
        connection.send_bytes(np.ascontiguousarray(values, np.float32).tobytes())


def _limit_itself(scratch_bytes: int) -> None:
    """Give up what can be given up by the process itself, for good."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (scratch_bytes, scratch_bytes))
    if os.getuid() != 0:
        mine = 0  # processes and threads of this user
        for process in psutil.process_iter(["uids", "num_threads"]):
            uids = process.info["uids"]
            mine += process.info["num_threads"] or 0 if uids and uids.real == os.getuid() else 0
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (mine + MAX_PROCESSES,) * 2)


def main(arguments: Sequence[str]) -> None:
    """Serve the connections given by their descriptors, until the job hangs up."""
    scratch_bytes, log, *descriptors = map(int, arguments)
    _limit_itself(scratch_bytes)
    root = logging.getLogger()
    root.addHandler(_LogSender(log))
    root.setLevel(logging.DEBUG)
    for name in ("openeo.udf.run_code", "asyncio", "urllib3", "numba", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    threads = [threading.Thread(target=_serve, args=(Connection(one),)) for one in descriptors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.path = [entry for entry in sys.path if entry]  # not the folder of the job
    main(sys.argv[1:])
