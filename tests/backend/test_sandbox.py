"""UDFs that try to get out: each is stopped, and the job reports why."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.clients import around, load
from backend.conftest import Server, start_server, stop_server
from backend.udfs import HEADER, IDENTITY
from lai_backend import sandbox
from lai_backend.limits import ControlGroup, control_groups_work, family

SANDBOXED = sandbox.bubblewrap() is not None
ONE_DATE = {"temporal_extent": ["2024-06-01", "2024-06-02"]}
MARK = "a child that should be gone 4711"

TRIES = """
import os, socket, subprocess, sys, time
from pathlib import Path

def works(attempt):
    try:
        return bool(attempt())
    except OSError:
        return False

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    attempts = {
        "environment": lambda: "TEST_SECRET" in os.environ,
        "environment of others": lambda: any(
            b"TEST_SECRET" in path.read_bytes() for path in Path("/proc").glob("[0-9]*/environ")
        ),
        "passwords of the system": lambda: Path("/etc/shadow").read_text(),
        "users of the system": lambda: Path("/etc/passwd").read_text(),
        "password of the server": lambda: Path(context["data"], "password").read_text(),
        "registry": lambda: Path(context["data"], "registry.sqlite").read_bytes(),
        "signing key": lambda: Path(context["data"], "secret").read_text(),
        "jobs of others": lambda: os.listdir(Path(context["data"], "jobs")),
        "files of others": lambda: Path(context["file"]).read_text(),
        "collections": lambda: Path(context["seen"], "new").write_text("x"),
        "packages": lambda: Path(np.__file__).with_name("new").write_text("x"),
        "network": lambda: socket.create_connection(("127.0.0.1", context["port"]), 2),
        "name server": lambda: socket.getaddrinfo("example.com", 80),
        "root": lambda: Path("/new").write_text("x"),
        "devices": lambda: Path("/dev/new").write_text("x"),
        "user namespace": lambda: subprocess.run(["unshare", "-Ur", "true"]).returncode == 0,
    }
    raise ValueError("got out by: " + ", ".join(n for n, a in attempts.items() if works(a)) + ".")
"""
FORKS_AWAY = f"""
import subprocess, sys

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    code = "import time; {MARK!r}; time.sleep(900)"
    start = "subprocess.Popen([sys.executable, '-c', code], start_new_session=True)"
    again = f"import subprocess, sys; code = {{code!r}}; " + start
    subprocess.Popen([sys.executable, "-c", again], start_new_session=True).wait()
    return cube
"""
EATS_MEMORY_ELSEWHERE = """
import subprocess, sys, time

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    code = "x = [bytearray(50_000_000) for _ in range(1000)]; import time; time.sleep(900)"
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True).wait()
    time.sleep(3)
    return cube
"""
FORK_BOMB = """
import os, time

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    while True:
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            time.sleep(0.01)
"""
FILLS_DISK = """
import errno
from pathlib import Path

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    written = {}
    for folder in (".", "/tmp", "/dev/shm"):
        written[folder] = 0
        try:
            for number in range(100):
                with open(f"{folder}/junk{number}", "wb") as file:
                    file.write(bytes(10_000_000))
                    file.flush()
                    written[folder] += 10
        except OSError as error:
            written[folder] = f"{written[folder]} MB, errno {error.errno == errno.ENOSPC}"
    raise ValueError(str(written))
"""
ENDLESS = """
import time

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    while True:
        time.sleep(1)
"""
LIES = """
import os

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, b"\\0\\0\\0\\x08cos\\nsys\\n")
        except OSError:
            pass
    return cube
"""


def finish(server: Server, body: str, context: dict | None = None, **options) -> tuple[str, str]:
    """Run a UDF as a job; return its status and the errors in its log."""
    cube = around(load(server.connect(), **ONE_DATE), HEADER + body, context, size=200)
    job = cube.create_job(out_format="GTiff", job_options=options)
    job.start()
    deadline = time.monotonic() + 240
    while job.status() in {"created", "queued", "running"}:
        assert time.monotonic() < deadline, "the job is stuck"
        time.sleep(0.2)
    errors = " ".join(entry["message"] for entry in job.logs(level="error"))
    return job.status(), errors


def children_left() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if MARK.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def guarded(tiny, tmp_path_factory) -> Iterator[Server]:
    """A server whose jobs may take 15 s."""
    server = start_server(
        tmp_path_factory.mktemp("guarded") / "data",
        tiny.folder,
        *("--job-time=15", "--request-time=5", "--max-requests=1", "--scratch=64m"),
        variables={"TEST_SECRET": "hidden"},
    )
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def plain(tiny, tmp_path_factory) -> Iterator[Server]:
    """The same without bubblewrap."""
    server = start_server(
        tmp_path_factory.mktemp("plain") / "data",
        tiny.folder,
        "--job-time=15",
        variables={"TEST_SECRET": "hidden", "LAI_BACKEND_WITHOUT_BUBBLEWRAP": "1"},
    )
    yield server
    stop_server(server)


def test_bubblewrap_works_where_it_must():
    if os.environ.get("LAI_BACKEND_NEEDS_BUBBLEWRAP"):
        assert SANDBOXED


@pytest.mark.skipif(not SANDBOXED, reason="bubblewrap is missing or cannot make namespaces here")
def test_secrets_files_and_the_network_are_out_of_reach(guarded, tmp_path):
    port = int(guarded.url.rpartition(":")[2])
    context = {"data": str(guarded.data), "port": port, "seen": str(guarded.seen)}
    (tmp_path / "file").write_text("x")
    status, errors = finish(guarded, TRIES, {**context, "file": str(tmp_path / "file")})
    assert status == "error"
    assert "got out by: ." in errors, errors


def test_libraries_of_a_udf_compute_as_the_machine_sets_them(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("TEST_SECRET", "secret")
    command, environment, _ = sandbox.sandbox_command(sandbox.Sandbox(tmp_path), ["-V"])
    passed = [*command, *environment.values()]
    assert "Haswell" in passed
    assert "secret" not in passed


def test_without_bubblewrap_the_environment_is_still_hidden(plain):
    context = {"data": str(plain.data), "port": 1, "seen": "/nowhere", "file": "/nowhere"}
    _, errors = finish(plain, TRIES, context)
    assert "environment," not in errors.partition("environment of others")[0]


@pytest.mark.parametrize("kind", ["guarded", "plain"])
def test_children_in_sessions_of_their_own_end_with_the_job(kind, request):
    server = request.getfixturevalue(kind)
    status, errors = finish(server, FORKS_AWAY)
    assert (status, errors) == ("finished", "")
    deadline = time.monotonic() + 60
    while children_left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children_left() == []


@pytest.mark.parametrize("kind", ["guarded", "plain"])
def test_memory_of_children_in_sessions_of_their_own_counts(kind, request):
    options = {"python-memory": "1g"}
    status, errors = finish(request.getfixturevalue(kind), EATS_MEMORY_ELSEWHERE, **options)
    if control_groups_work() and status == "finished":
        return  # the system ended the child at the wall, and the UDF went on without it
    assert status == "error"
    assert "emory ran out" in errors


@pytest.mark.skipif(
    not SANDBOXED and not control_groups_work() and os.getuid() == 0,
    reason="nothing limits the processes of root here",
)
def test_a_fork_bomb_is_put_out(guarded):
    status, errors = finish(guarded, FORK_BOMB)
    assert status == "error"
    assert "and was ended" in errors  # processes, memory or, where all is slow, time
    assert guarded.connect().list_collection_ids() == ["TINY"]


@pytest.mark.skipif(not SANDBOXED, reason="bubblewrap is missing or cannot make namespaces here")
def test_temporary_files_have_little_room(guarded):
    _, errors = finish(guarded, FILLS_DISK)
    assert errors.count("60 MB, errno True") == 3, errors


def test_an_endless_loop_ends_with_the_time_of_the_job(guarded):
    status, errors = finish(guarded, ENDLESS)
    assert status == "error"
    assert "Time ran out" in errors


def test_a_wrong_answer_of_a_udf_is_data_not_code(guarded):
    status, errors = finish(guarded, LIES)
    assert status == "error"
    assert errors


def test_synchronous_requests_are_limited_in_number_and_time(guarded, tmp_path):
    import threading

    from openeo.rest import OpenEoApiError

    def ask(name: str) -> None:
        try:
            cube = around(load(guarded.connect(), **ONE_DATE), HEADER + ENDLESS)
            cube.download(tmp_path / name, format="netCDF")
        except OpenEoApiError as error:
            found.append((error.http_status_code, error.message))

    found: list[tuple[int, str]] = []
    threads = [threading.Thread(target=ask, args=(name,)) for name in ("a.nc", "b.nc")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in found) == [429, 500]
    assert any("Time ran out" in message for _, message in found)


def test_a_request_ends_when_its_client_hangs_up(plain):
    import requests

    graph = around(load(plain.connect(), **ONE_DATE), HEADER + ENDLESS).flat_graph()
    bearer = {"Authorization": f"Bearer {plain.connect().auth.bearer}"}
    body = {"process": {"process_graph": graph}}
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{plain.url}/openeo/1.2/result", json=body, headers=bearer, timeout=2)
    deadline = time.monotonic() + 60  # of the 600 s that it would have had
    while list((plain.data / "requests").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list((plain.data / "requests").iterdir()) == []


def test_running_jobs_wait_for_the_next_server(tiny, tmp_path):
    first = start_server(tmp_path / "data", tiny.folder)
    waits = """
import time
from pathlib import Path

def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    while not Path(context["flag"]).exists():
        time.sleep(0.05)
    return cube
"""
    context = {"flag": str(first.seen / "go")}
    job = around(load(first.connect(), **ONE_DATE), HEADER + waits, context).create_job()
    job.start()
    while job.status() != "running":
        time.sleep(0.1)
    stop_server(first)
    second = start_server(tmp_path / "data", tiny.folder)
    (second.seen / "go").touch()
    again = second.connect().job(job.job_id)
    deadline = time.monotonic() + 240
    while again.status() in {"queued", "running"} and time.monotonic() < deadline:
        time.sleep(0.2)
    assert again.status() == "finished"
    stop_server(second)


def test_weak_points_are_reported_at_start(monkeypatch):
    monkeypatch.setenv("LAI_BACKEND_WITHOUT_BUBBLEWRAP", "1")
    sandbox.bubblewrap.cache_clear()
    assert len(list(sandbox.weaknesses(cgroups=False))) == 2
    monkeypatch.delenv("LAI_BACKEND_WITHOUT_BUBBLEWRAP")
    sandbox.bubblewrap.cache_clear()
    assert len(list(sandbox.weaknesses(cgroups=True))) == (0 if SANDBOXED else 1)


def test_a_family_holds_orphans_of_the_process_that_takes_them():
    assert os.getpid() in [process.pid for process in family(os.getppid())]


@pytest.mark.skipif(not control_groups_work(), reason="control groups cannot be written here")
def test_a_control_group_ends_what_hides_in_it():
    import subprocess

    group = ControlGroup(f"test-{os.getpid()}")
    group.create(2**30, 16)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as hidden:
        group.add(hidden.pid)
        ControlGroup(f"test-{os.getpid()}").close()  # as a server after this one
        assert hidden.wait(5) == -9


def test_a_server_refuses_items_of_its_own_network(guarded, tmp_path):
    from openeo.rest import OpenEoApiError

    connection = guarded.connect()
    with pytest.raises(OpenEoApiError) as caught:
        connection.load_stac("http://127.0.0.1:9/item.json").download(tmp_path / "a.nc")
    assert caught.value.code == "PathNotAllowed"
    remote = connection.datacube_from_process("x", namespace="http://127.0.0.1:9/x.json")
    with pytest.raises(OpenEoApiError) as caught:
        remote.download(tmp_path / "a.nc", validate=False)
    assert caught.value.code == "ProcessNamespaceInvalid"


def test_jobs_that_read_archives_find_them_in_their_folder(guarded, tiny):
    import zipfile

    archive = tiny.folder / "sandboxed.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("value.json", json.dumps(1))
    body = IDENTITY.replace("return cube", 'return cube + float(open("m/value.json").read())')
    options = {"udf-dependency-archives": [f"{archive.as_uri()}#m"]}
    assert finish(guarded, body.removeprefix(HEADER), **options) == ("finished", "")
