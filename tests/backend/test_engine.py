"""The same cube from threads, from worker processes and from an existing Dask cluster."""

import threading
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import LocalCluster
from fake_cubes import fake_cube

from backend import udfs
from backend.udfs import px
from lai_backend.engine import open_engine
from lai_backend.errors import ClusterError, UdfError
from lai_backend.neighborhood import apply_neighborhood
from lai_backend.settings import Task
from lai_backend.udf_runner import UdfCall
from lai_udf import predict
from lai_udf.bundle import default_bundle_path

pytestmark = pytest.mark.filterwarnings(
    # distributed 2026.8 leaves sockets of dead workers to the garbage collector
    "ignore::ResourceWarning",
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """An existing cluster: two processes of one thread, in a folder of their own."""
    folder = tmp_path_factory.mktemp("cluster")
    patience = {"distributed.scheduler.allowed-failures": 1}
    with (
        dask.config.set(patience),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=folder,
        ) as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def _many_blocks(monkeypatch):
    monkeypatch.setattr("lai_backend.windows.BLOCK_PX", 32)


@pytest.fixture
def work(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make_cube(rng, side: int = 96) -> xr.DataArray:
    cube = fake_cube(rng, side, dates=2).chunk({"y": 40, "x": 40})
    return cube.rio.write_crs("EPSG:32633")


def compute(cube, code, context, task, work, size=32, overlap=16) -> np.ndarray:
    reports = []
    with open_engine(task, work, lambda *done: reports.append(done)) as engine:
        call = UdfCall(code, context, engine.place)
        result = apply_neighborhood(cube, call, px(size), px(overlap), None)
        values = np.empty(result.shape, np.float32)
        engine.store(da.asarray(result.data), values)
    assert reports[-1][0] <= reports[-1][1]
    return values


def tasks(cluster) -> dict[str, Task]:
    return {
        "one thread": Task(graph={}, threads=1),
        "two threads": Task(graph={}, threads=2),
        "remote scheduler": Task(graph={}, scheduler=cluster.scheduler_address),
    }


def test_lai_is_identical_on_threads_and_on_a_cluster(rng, cluster, work):
    (work / "lai_model").write_bytes(default_bundle_path().read_bytes())
    code = Path(predict.__file__).read_text()
    context = {"model": "./lai_model", "samples": 3, "seed": 5, "overlap": 16}
    cube = make_cube(rng)
    results = {
        name: compute(cube, code, context, task, work) for name, task in tasks(cluster).items()
    }
    first = results["one thread"]
    assert np.isfinite(first).all()
    assert first[:, 1].min() > 0  # LAI_SD
    for result in results.values():
        np.testing.assert_array_equal(result, first)


def test_worker_processes_of_the_job_give_the_same(rng, work):
    cube = make_cube(rng, 64)
    own = compute(cube, udfs.BOX_MEAN, {}, Task(graph={}, workers=2, threads=1), work)
    np.testing.assert_array_equal(
        own, compute(cube, udfs.BOX_MEAN, {}, Task(graph={}, threads=1), work)
    )


@pytest.mark.parametrize("where", ["two threads", "remote scheduler"])
def test_a_process_loads_its_model_once(rng, cluster, work, where):
    loads = compute(make_cube(rng), udfs.COUNTS_LOADS, {}, tasks(cluster)[where], work)
    assert np.unique(loads) == [1]


def test_jobs_with_different_archives_do_not_mix_on_a_cluster(rng, cluster, work):
    (work / "m").mkdir()
    for value in (1, 2, 1):
        (work / "m" / "value.txt").write_text(str(value))
        task = tasks(cluster)["remote scheduler"]
        result = compute(make_cube(rng), udfs.READS_ARCHIVE, {"model": "./m"}, task, work)
        assert np.unique(result) == [value]


def test_a_killed_cluster_worker_costs_time_but_no_pixel(rng, cluster, work):
    context = {"flag": str(work / "flag")}
    cube = make_cube(rng)
    task = tasks(cluster)["remote scheduler"]
    np.testing.assert_array_equal(compute(cube, udfs.DIES_ONCE, context, task, work), cube)


def test_a_udf_that_kills_every_worker_ends_the_job(rng, cluster, work):
    with pytest.raises(ClusterError, match="lost 2 worker processes"):
        compute(make_cube(rng, 32), udfs.KILLS_ITSELF, {}, tasks(cluster)["remote scheduler"], work)


def test_the_sentence_of_a_udf_comes_back_from_a_cluster(rng, cluster, work):
    with pytest.raises(UdfError, match="Band B12 is missing"):
        compute(make_cube(rng, 32), udfs.RAISES, {}, tasks(cluster)["remote scheduler"], work)


def test_a_cluster_that_is_not_there_is_named(rng, work, monkeypatch):
    monkeypatch.setattr("lai_backend.engine.CONNECT_TIMEOUT_S", 0.5)
    task = Task(graph={}, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:9 cannot be used"):
        compute(make_cube(rng, 32), udfs.IDENTITY, {}, task, work)


def test_a_cluster_that_goes_away_ends_the_job(rng, work, tmp_path):
    away = LocalCluster(
        n_workers=1, dashboard_address="127.0.0.1:0", local_directory=tmp_path / "away"
    )
    task = Task(graph={}, scheduler=away.scheduler_address)
    timer = threading.Timer(1.5, away.close)
    timer.start()
    with pytest.raises(ClusterError, match="went away"):
        compute(make_cube(rng, 32), udfs.SLEEPS, {"seconds": 20}, task, work)
    timer.join()
