"""Faults of user code, machine and data: each ends in a sentence, none in a hang."""

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests
import xarray as xr
from openeo.rest import OpenEoApiError

from backend import udfs
from backend.clients import around, load
from backend.conftest import TinyCollection
from lai_backend.settings import Task
from lai_backend.worker import NO_OUTCOME_EXIT


def login(server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.connect().auth.bearer}"}


def finish(job, seconds: float = 240) -> str:
    """Wait for a job; return its errors, or its status if it has none."""
    deadline = time.monotonic() + seconds
    while job.status() in {"created", "queued", "running"}:
        assert time.monotonic() < deadline, "the job is stuck"
        time.sleep(0.1)
    errors = " ".join(entry["message"] for entry in job.logs(level="error"))
    return errors or job.status()


def run(cube, form: str = "GTiff", **options) -> str:
    job = cube.create_job(out_format=form, **options)
    job.start()
    return finish(job)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (udfs.RETURNS_NONE, "DataArray"),
        (udfs.CROPS, "Return the whole window including the overlap"),
        (udfs.KILLS_ITSELF, "was killed"),
        (udfs.EATS_MEMORY, r"used more than the 1\.0 GiB it may have|memory ran out"),
    ],
)
def test_a_broken_udf_fails_the_job_with_a_sentence_and_leaves_nothing(
    connection, server, code, sentence
):
    cube = around(load(connection), code)
    job = cube.create_job(out_format="GTiff", job_options={"python-memory": "1g"})
    job.start()
    found = finish(job)
    assert re.search(sentence, found), found
    assert not (server.data / "jobs" / job.job_id / "results").exists()
    with pytest.raises(OpenEoApiError) as caught:
        job.get_results().get_metadata()
    assert caught.value.code == "JobNotFinished"


def test_a_request_that_eats_memory_is_answered_and_leaves_nothing(connection, server, tmp_path):
    cube = around(load(connection), udfs.EATS_MEMORY)
    with pytest.raises(OpenEoApiError) as caught:
        cube.download(tmp_path / "x.nc", format="netCDF", job_options={"python-memory": "1g"})
    assert caught.value.code in {"OutOfMemory", "WorkerDied"}  # ended by us or by the kernel
    assert not (tmp_path / "x.nc").exists()
    assert list((server.data / "requests").iterdir()) == []


FULL_DISKS = [*(("GTiff", size) for size in (0, 100_000, 1_500_000)), ("netCDF", 100_000)]
RUN_EACH = """
import os, resource, sys
from lai_backend.worker import run_job
import lai_backend.processes
for job, size in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        run_job(job)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Most of the time of a job is imports: each runs in a fork of one process."""


@pytest.fixture(scope="module")
def on_full_disks(
    tiny: TinyCollection, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], tuple[Path, int]]:
    """Return folder and exit code of a job, by format of its result and free space in bytes."""
    jobs = []
    for form, size in FULL_DISKS:
        load = {"request": {"id": "TINY", "bands": ["B04", "B08"]}}
        graph = {
            "l": {"process_id": "load_collection", "arguments": load, "result": False},
            "s": {
                "process_id": "save_result",
                "arguments": {"data": {"from_node": "l"}, "format": form},
                "result": True,
            },
        }
        jobs.append(tmp_path_factory.mktemp("data") / "jobs" / f"{form}-{size}")
        jobs[-1].mkdir(parents=True)
        task = Task(graph=graph, collection_dirs=[tiny.folder], readable_roots=[tiny.folder])
        (jobs[-1] / "task.json").write_text(task.model_dump_json())
    words = [
        str(word) for job, (_, size) in zip(jobs, FULL_DISKS, strict=True) for word in (job, size)
    ]
    command = [sys.executable, "-c", RUN_EACH, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    codes = [int(line) for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]
    return dict(zip(FULL_DISKS, zip(jobs, codes, strict=True), strict=True))


@pytest.mark.parametrize("case", FULL_DISKS)
def test_a_full_disk_fails_the_job_and_leaves_nothing(on_full_disks, case):
    job, code = on_full_disks[case]
    if code == 0:
        error = json.loads((job / "outcome.json").read_text())["error"]
        assert "disk" in error["message"] or "Cannot write the result" in error["message"]
    else:  # the supervisor reports it, see test_crash
        assert code == NO_OUTCOME_EXIT
    assert not (job / "results").exists()


def test_two_jobs_run_at_once_and_keep_their_archives_apart(connection, server, tiny, tmp_path):
    jobs = []
    context = {"model": "./m", "flag": str(server.seen / "go on")}
    for value in (1, 2):
        archive = tiny.folder / f"model{value}.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("value.txt", str(value))
        options = {"udf-dependency-archives": [f"{archive.as_uri()}#m"]}
        cube = around(load(connection), udfs.WAITS, context)
        jobs.append(cube.create_job(out_format="netCDF", job_options=options))
        jobs[-1].start()
    deadline = time.monotonic() + 120
    while [job.status() for job in jobs] != ["running", "running"]:
        assert time.monotonic() < deadline, "the jobs never ran at the same time"
        time.sleep(0.1)
    (server.seen / "go on").touch()
    for value, job in zip((1, 2), jobs, strict=True):
        assert finish(job) == "finished"
        path = job.get_results().download_file(tmp_path / f"{value}.nc")
        with xr.open_dataset(path) as result:
            assert np.unique(result["B04"]) == [value]


@pytest.fixture(scope="module")
def broken_item(tiny):
    """An item outside the collection whose file ends too early."""
    source = tiny.folder / "TINY" / "2024-06-01"
    home = tiny.folder / "broken"
    shutil.copytree(source, home)
    content = (home / "reflectance.tif").read_bytes()
    (home / "reflectance.tif").write_bytes(content[: len(content) // 2])
    return home / "scene-2024-06-01.json"


def test_an_unreadable_asset_fails_the_job_with_its_name(connection, broken_item):
    cube = around(connection.load_stac(str(broken_item), bands=["B04"]), udfs.IDENTITY)
    assert re.search(r"Cannot read the asset .*reflectance\.tif", run(cube))


def test_a_missing_asset_fails_the_job_with_its_name(connection, broken_item):
    (broken_item.parent / "scl.tif").unlink()
    assert "scl.tif" in run(connection.load_stac(str(broken_item), bands=["SCL"]))


def test_no_data_in_the_extent_fails_the_job_with_a_sentence(connection):
    box = {"west": 1, "south": 1, "east": 1.1, "north": 1.1}
    assert "no data in the area asked for" in run(load(connection, spatial_extent=box))
    later = ["2030-01-01", "2030-02-01"]
    assert "it holds 2024-06-01 to 2024-06-21" in run(load(connection, temporal_extent=later))


@pytest.mark.parametrize("name", ["../../x", "/etc/x", ".hidden", "a\\b", ""])
def test_file_names_do_not_leave_the_results(connection, tmp_path, name):
    cube = load(connection).save_result("netCDF", options={"filename_prefix": name})
    with pytest.raises(OpenEoApiError) as caught:
        cube.download(tmp_path / "x")
    assert caught.value.code == "ProcessParameterInvalid"


def test_formats_are_names_not_paths(connection, tmp_path):
    node = {"data": {"from_node": "l"}, "format": "../../etc/x"}
    graph = {
        "l": {"process_id": "load_collection", "arguments": {"id": "TINY", "bands": ["B04"]}},
        "s": {"process_id": "save_result", "arguments": node, "result": True},
    }
    with pytest.raises(OpenEoApiError) as caught:
        connection.download(graph, tmp_path / "x")
    assert caught.value.code == "ProcessParameterInvalid"


def test_results_of_a_job_are_its_files_only(connection, server):
    job = load(connection).create_job(out_format="netCDF")
    job.start()
    assert finish(job) == "finished"
    address = f"{server.url}/openeo/1.2/jobs/{job.job_id}/results/assets/"
    for name in ("other.nc", "..%2Ftask.json", "..%2F..%2F..%2Fsecret", "%2Fetc%2Fhostname"):
        answer = requests.get(address + name, headers=login(server), timeout=10)
        assert answer.status_code in {400, 403, 404}
    known = address + "openEO.nc"
    assert requests.get(known, headers=login(server), timeout=10).status_code == 200
    assert requests.get(known, timeout=10).status_code == 401


def test_archives_outside_the_allowed_folders_fail_the_job(connection):
    options = {"udf-dependency-archives": ["file:///etc/hostname#m"]}
    found = run(around(load(connection), udfs.IDENTITY), job_options=options)
    assert "outside the folders" in found


def post(server, graph: str) -> requests.Response:
    return requests.post(
        f"{server.url}/openeo/1.2/result",
        data=graph,
        headers={**login(server), "Content-Type": "application/json"},
        timeout=60,
    )


def test_oversized_graphs_are_refused(server):
    node = {"process_id": "add", "arguments": {"x": 1, "y": 2}}
    many = {f"n{i}": node for i in range(3000)}
    graphs = {
        "many nodes": (json.dumps({"process": {"process_graph": many}}), 400),
        "many bytes": ('{"process": "' + 9_000_000 * "x" + '"}', 413),
    }
    for graph, status in graphs.values():
        assert post(server, graph).status_code == status


def test_deeply_nested_graphs_do_not_harm_the_server(server):
    for depth in (500, 100_000):
        answer = post(server, '{"process":' * depth + "1" + "}" * depth)
        assert 400 <= answer.status_code < 600
    assert requests.get(f"{server.url}/openeo/1.2/", timeout=10).status_code == 200
