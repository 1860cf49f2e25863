"""Jobs of a table are made once, followed and downloaded, whatever the back-end answers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import openeo
import pandas as pd
import pytest
from udf.stub_backend import RESULT, StubBackend, serve

from lai_udf.errors import OutputNotWritableError, ProductionError
from lai_udf.produce.manager import MAX_ATTEMPTS, Producer
from lai_udf.produce.table import JobTable, locked

# What the openEO client's manager does to its own table.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def create(connection: openeo.Connection, row: "pd.Series", title: str) -> openeo.BatchJob:
    graph = {"one": {"process_id": "load_collection", "arguments": {}, "result": True}}
    return connection.create_job(graph, title=title)


def make_table(path: Path, count: int) -> JobTable:
    rows = [{"title": f"tile_{number}", "attempt": 1, "settings": "s"} for number in range(count)]
    table = JobTable(path)
    table.add(pd.DataFrame(rows))
    return table


def run(table: JobTable, *backends: StubBackend):
    manager = Producer(table, create, poll_s=0.01, pause_s=0.01)
    for backend in backends:
        manager.add_backend(backend.url, connection=backend.connect(), parallel_jobs=4)
    return manager.run()


@pytest.mark.parametrize("name", ["jobs.parquet", "jobs.csv"])
def test_all_jobs_end_up_on_disk_with_their_description(name: str, tmp_path: Path) -> None:
    with serve() as one, serve() as other:
        outcome = run(make_table(tmp_path / name, 10), one, other)

        assert sorted(outcome.finished) == sorted(f"tile_{number}" for number in range(10))
        assert sorted(one.titles() + other.titles()) == sorted(outcome.finished)
        assert one.jobs
        assert other.jobs
    for title in outcome.finished:
        assert (tmp_path / title / "lai.tif").read_bytes() == RESULT
        assert len(list((tmp_path / title).glob("job_*.json"))) == 1
    assert not list(tmp_path.glob(".*.partial"))
    assert JobTable(tmp_path / name).read()["costs"].astype(float).sum() == 20


def test_bad_answers_neither_lose_nor_double_a_job(tmp_path: Path) -> None:
    with serve(failing_share=0.05) as backend:
        outcome = run(make_table(tmp_path / "jobs.parquet", 30), backend)
        assert len(outcome.finished) == 30
        assert len(backend.titles()) == 30


def test_failed_jobs_are_tried_again_under_another_title(tmp_path: Path) -> None:
    with serve(failing_jobs=2) as backend:
        outcome = run(make_table(tmp_path / "jobs.parquet", 3), backend)
        assert len(outcome.finished) == 3
        assert len(set(backend.titles())) == len(backend.titles()) == 5


def test_a_job_that_always_fails_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    with serve(failing_jobs=1000) as backend:
        outcome = run(make_table(tmp_path / "jobs.parquet", 2), backend)
        assert list(outcome.failed) == ["tile_0", "tile_1"]
        assert all("no more memory" in reason for reason in outcome.failed.values())
        assert len(backend.jobs) == 2 * MAX_ATTEMPTS


def test_what_failed_is_tried_once_more_by_the_next_command(tmp_path: Path) -> None:
    with serve(failing_jobs=MAX_ATTEMPTS) as backend:
        run(make_table(tmp_path / "jobs.parquet", 1), backend)
        manager = Producer(JobTable(tmp_path / "jobs.parquet"), create, poll_s=0.01, pause_s=0.01)
        manager.add_backend(backend.url, connection=backend.connect(), parallel_jobs=4)

        assert manager.retry_failed(settings="others") == 0
        assert manager.retry_failed(settings="s") == 1

        assert manager.run().finished == ["tile_0"]
        assert len(backend.titles()) == MAX_ATTEMPTS + 1


def test_failed_jobs_of_a_lost_table_are_not_taken_for_its_results(tmp_path: Path) -> None:
    with serve(failing_jobs=MAX_ATTEMPTS) as backend:
        run(make_table(tmp_path / "jobs.parquet", 1), backend)
        outcome = run(make_table(tmp_path / "anew" / "jobs.parquet", 1), backend)
        assert outcome.finished == ["tile_0"]


@pytest.mark.parametrize("path", ["/jobs/j-0", "/jobs/j-0/results"])
def test_what_is_gone_from_the_back_end_is_made_anew(path: str, tmp_path: Path) -> None:
    with serve(refused={path: 404}) as backend:
        outcome = run(make_table(tmp_path / "jobs.parquet", 2), backend)
        assert sorted(outcome.finished) == ["tile_0", "tile_1"]
        assert sorted(backend.titles()) == ["tile_0", "tile_0_2", "tile_1"]


def test_a_file_that_cannot_be_fetched_stops_no_other_job(tmp_path: Path) -> None:
    with serve(refused={"/lai.tif": 404}) as backend:
        outcome = run(make_table(tmp_path / "jobs.parquet", 2), backend)
        assert sorted(outcome.failed) == ["tile_0", "tile_1"]
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tile")]


def test_an_expired_login_ends_the_run_and_the_next_one_resumes(tmp_path: Path) -> None:
    with serve(refused={"/jobs/j-0": 403}) as backend:
        with pytest.raises(ProductionError):
            run(make_table(tmp_path / "jobs.parquet", 1), backend)
        backend.refused.clear()
        assert run(JobTable(tmp_path / "jobs.parquet"), backend).finished == ["tile_0"]
        assert backend.titles() == ["tile_0"]


@pytest.mark.parametrize("status", ["running", "finished"])
def test_jobs_of_a_back_end_that_is_not_named_are_refused(status: str, tmp_path: Path) -> None:
    table = make_table(tmp_path / "jobs.parquet", 1)
    rows = table.df.astype(object)
    rows.loc[0, ["id", "backend_name", "status"]] = ["j-0", "https://elsewhere", status]
    table.persist(rows)
    with serve() as backend, pytest.raises(ProductionError) as caught:
        run(JobTable(tmp_path / "jobs.parquet"), backend)
    assert caught.value.parameter == "backend"


def test_a_second_run_makes_no_job(tmp_path: Path) -> None:
    with serve() as backend:
        run(make_table(tmp_path / "jobs.parquet", 3), backend)
        outcome = run(JobTable(tmp_path / "jobs.parquet"), backend)
        assert len(outcome.finished) == len(backend.jobs) == 3


def test_a_job_whose_answer_was_lost_is_found_by_its_title(tmp_path: Path) -> None:
    table = make_table(tmp_path / "jobs.parquet", 1)
    with serve() as backend:
        create(backend.connect(), table.df.loc[0], "tile_0")  # and then the manager was killed
        outcome = run(JobTable(tmp_path / "jobs.parquet"), backend)
        assert outcome.finished == ["tile_0"]
        assert backend.titles() == ["tile_0"]


def test_a_job_is_found_on_whichever_back_end_it_was_made(tmp_path: Path) -> None:
    table = make_table(tmp_path / "jobs.parquet", 4)
    with serve() as one, serve() as other:
        for number in range(4):  # and then the manager was killed
            create(other.connect(), table.df.loc[number], f"tile_{number}")
        outcome = run(JobTable(tmp_path / "jobs.parquet"), one, other)
        assert len(outcome.finished) == 4
        assert one.titles() == []
        assert len(other.titles()) == 4


def test_a_job_that_was_to_be_started_when_the_manager_was_killed_is_started(
    tmp_path: Path,
) -> None:
    table = make_table(tmp_path / "jobs.parquet", 1)
    with serve() as backend:
        job = create(backend.connect(), table.df.loc[0], "tile_0")
        rows = table.df.astype(object)
        rows.loc[0, ["id", "backend_name", "status"]] = [
            job.job_id,
            backend.url,
            "queued_for_start",
        ]
        table._df = rows
        table.persist(rows)

        outcome = run(JobTable(tmp_path / "jobs.parquet"), backend)

        assert outcome.finished == ["tile_0"]
        assert backend.titles() == ["tile_0"]


def test_half_downloaded_results_are_fetched_again(tmp_path: Path) -> None:
    with serve() as backend:
        run(make_table(tmp_path / "jobs.parquet", 1), backend)
        table = JobTable(tmp_path / "jobs.parquet")
        rows = table.df
        rows["folder"] = None
        table.persist(rows)
        half = tmp_path / ".tile_0.partial"
        half.mkdir()
        (half / "rest").write_text("of a killed run")

        outcome = run(JobTable(tmp_path / "jobs.parquet"), backend)

        assert outcome.finished == ["tile_0"]
        assert not half.exists()


def test_one_manager_works_on_a_table(tmp_path: Path) -> None:
    table = tmp_path / "jobs.parquet"
    with locked(table), pytest.raises(ProductionError), locked(table):
        pass
    with locked(table):
        pass


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "jobs.parquet")
    with pytest.raises(ProductionError):
        JobTable(tmp_path / "jobs.parquet").read()


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    table = make_table(tmp_path / "jobs.parquet", 1)
    (tmp_path / ".tile_0.partial").write_text("a file where the folder should be")
    (tmp_path / "tile_0").write_text("and another")
    with serve() as backend, pytest.raises(OutputNotWritableError):
        run(table, backend)


@pytest.mark.slow
def test_a_thousand_jobs_through_bad_answers_are_done_once(tmp_path: Path) -> None:
    with serve(failing_share=0.05) as backend:
        table = make_table(tmp_path / "jobs.parquet", 1000)
        manager = Producer(table, create, poll_s=0.01, pause_s=0.01)
        manager.add_backend(backend.url, connection=backend.connect(), parallel_jobs=10)
        outcome = manager.run()
        assert len(outcome.finished) == len(backend.titles()) == len(set(backend.titles())) == 1000


KILLED = """
import sys
from pathlib import Path
import openeo
from lai_udf.produce.manager import Producer
from lai_udf.produce.table import JobTable, locked
from udf.test_produce_jobs import create

table, url = Path(sys.argv[1]), sys.argv[2]
with locked(table):
    manager = Producer(JobTable(table), create, poll_s=0.1, pause_s=0.01)
    connection = openeo.connect(url).authenticate_basic("lai", "x")
    manager.add_backend(url, connection=connection, parallel_jobs=3)
    print(len(manager.run().finished))
"""


@pytest.mark.slow
def test_a_manager_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    table = tmp_path / "jobs.parquet"
    make_table(table, 24)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with serve() as backend:
        command = [sys.executable, "-W", "ignore", "-c", KILLED, str(table), backend.url]
        for pause in (4, 5, 6):
            process = subprocess.Popen(command, env=environment)
            time.sleep(pause)
            process.kill()
            process.wait()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split()[-1] == "24"
        assert sorted(backend.titles()) == sorted(f"tile_{number}" for number in range(24))
        assert set(backend.started.values()) == {1}
