"""Batch jobs, from their making to their results."""

import time
import zipfile

import numpy as np
import openeo
import pytest
import rasterio
import requests
from openeo.rest import JobFailedException, OpenEoApiError

from backend import udfs
from backend.clients import BOX, JUNE, around, download, load, read_job_files, run_job, wait
from backend.conftest import DATES, product_name
from backend.udfs import px
from lai_stac.job_results import read_job_results


def test_batch_job_writes_one_cog_per_date_and_tiling_leaves_no_seam(connection, tmp_path):
    cube = load(connection)
    job, status = run_job(around(cube, udfs.BOX_MEAN), title="box mean")
    assert status == "finished"
    whole = cube.apply_neighborhood(
        process=openeo.UDF(udfs.BOX_MEAN, runtime="Python"), size=px(400), overlap=px(16)
    )
    expected = download(whole, tmp_path).transpose("t", "bands", "y", "x").values
    layers = read_job_files(job, tmp_path)
    np.testing.assert_array_equal(layers, expected)
    path = tmp_path / "openEO_2024-06-01Z.tif"
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_job_results_are_stac(connection):
    job, status = run_job(load(connection, spatial_extent=BOX, temporal_extent=JUNE))
    assert status == "finished"
    metadata = job.get_results().get_metadata()
    assert metadata["type"] == "Collection"
    assert metadata["extent"]["temporal"]["interval"] == [
        ["2024-06-01T00:00:00Z", "2024-06-11T00:00:00Z"]
    ]
    asset = metadata["assets"]["openEO_2024-06-01Z.tif"]
    assert asset["proj:epsg"] == 32633
    assert [band["name"] for band in asset["bands"]] == ["B04", "B08"]
    links = [link["href"] for link in metadata["links"] if link["rel"] == "item"]
    item = requests.get(links[0], timeout=10).json()
    assert item["properties"]["datetime"] == "2024-06-01T00:00:00Z"
    assert requests.get(asset["href"], timeout=10).status_code == 200  # signed


def test_results_name_the_scenes_they_were_made_from(connection, tiny, tmp_path):
    job, status = run_job(load(connection, spatial_extent=BOX, temporal_extent=JUNE))
    assert status == "finished"
    metadata = job.get_results().get_metadata()
    links = [link for link in metadata["links"] if link["rel"] == "derived_from"]
    scenes = [tiny.folder / "TINY" / date / f"scene-{date}.json" for date in DATES[:2]]
    assert [link["href"] for link in links] == [scene.as_uri() for scene in scenes]
    assert [link["title"] for link in links] == [product_name(date) for date in DATES[:2]]
    job.get_results().download_files(tmp_path)
    described = read_job_results(tmp_path, metadata=metadata, job=job.describe())
    assert [len(date.metadata["links"]) for date in described.dates] == [1, 1]
    assert described.dates[0].datetime.isoformat() == "2024-06-01T10:20:30+00:00"


def patch(server, job, change) -> requests.Response:
    headers = {"Authorization": f"Bearer {server.connect().auth.bearer}"}
    address = f"{server.url}/openeo/1.2/jobs/{job.job_id}"
    return requests.patch(address, json=change, headers=headers, timeout=10)


def test_a_job_is_changed_and_run_again(connection, server, tmp_path):
    dates = {"temporal_extent": ["2024-06-01", "2024-06-02"]}
    job, status = run_job(load(connection, **dates), title="before", description="kept")
    assert status == "finished"
    after = load(connection, spatial_extent=BOX, **dates).save_result("netCDF")
    change = {"title": "after", "process": {"process_graph": after.flat_graph()}, "plan": None}
    assert patch(server, job, change).status_code == 204
    described = job.describe()
    assert (described["title"], described["description"]) == ("after", "kept")
    assert described["status"] == "finished"  # until it is started again
    job.start()
    assert wait(job) == "finished"
    assert [asset.key for asset in job.get_results().get_assets()] == ["openEO.nc"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "NoDataForUpdate"),
        ([1], "NoDataForUpdate"),
        ({"title": "new", "status": "finished"}, "PropertyNotEditable"),
        ({"title": "new", "process": {}}, "ProcessGraphMissing"),
        ({"title": "new", "process": None}, "ProcessGraphMissing"),
        ({"title": 7}, "BadRequest"),
        ({"log_level": "loud"}, "BadRequest"),
    ],
)
def test_a_wrong_change_of_a_job_is_refused_whole(connection, server, change, code):
    job = load(connection).create_job(title="old")
    answer = patch(server, job, change)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert job.describe()["title"] == "old"


def test_a_running_job_is_locked(connection, server, tmp_path):
    context = {"flag": str(server.seen / "go"), "model": "."}
    job = around(load(connection), udfs.WAITS, context).create_job()
    job.start()
    answer = patch(server, job, {"title": "new"})
    assert (answer.status_code, answer.json()["code"]) == (400, "JobLocked")
    job.start()  # no effect
    (server.seen / "go").touch()
    assert wait(job) == "finished"
    assert patch(server, job, {"title": "new", "log_level": "debug"}).status_code == 204


def test_archives_are_unpacked_beside_the_udf(connection, server, tiny, tmp_path):
    archive = tiny.folder / "model.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("value.txt", "42")
    options = {"udf-dependency-archives": [f"{archive.as_uri()}#lai_model"]}
    cube = around(load(connection), udfs.READS_ARCHIVE, context={"model": "./lai_model"})
    job, status = run_job(cube, job_options=options)
    assert status == "finished"
    assert np.unique(read_job_files(job, tmp_path)) == [42]


def test_a_failing_udf_fails_the_job_with_its_sentence_in_the_log(connection):
    job = around(load(connection), udfs.RAISES).create_job(out_format="GTiff")
    with pytest.raises(JobFailedException):
        job.start_and_wait(print=lambda *_: None, max_poll_interval=0.2)
    messages = [entry["message"] for entry in job.logs(level="error")]
    assert messages == ["The UDF failed: ValueError: Band B12 is missing; pass it to the UDF."]
    with pytest.raises(OpenEoApiError) as caught:
        job.get_results().get_metadata()
    assert caught.value.code == "JobNotFinished"


def test_a_canceled_job_stops(connection):
    job = around(load(connection), udfs.SLEEPS).create_job(out_format="GTiff")
    job.start()
    while job.status() != "running":
        time.sleep(0.05)
    job.stop()
    assert job.status() == "canceled"
    job.delete()
    with pytest.raises(OpenEoApiError) as caught:
        job.status()
    assert caught.value.code == "JobNotFound"


def ask(server, path: str) -> dict:
    headers = {"Authorization": f"Bearer {server.connect().auth.bearer}"}
    answer = requests.get(f"{server.url}/openeo/1.2/{path}", headers=headers, timeout=10)
    assert answer.status_code == 200
    return answer.json()


def test_logs_go_on_after_the_entry_last_seen_and_start_at_the_first(connection, server):
    job, status = run_job(load(connection, spatial_extent=BOX, temporal_extent=JUNE))
    assert status == "finished"
    everything = ask(server, f"jobs/{job.job_id}/logs?offset=")["logs"]  # as the web editor asks
    assert len(everything) > 1
    rest = ask(server, f"jobs/{job.job_id}/logs?offset={everything[0]['id']}")["logs"]
    assert rest == everything[1:]


@pytest.mark.parametrize(
    "path", ["jobs?limit=x", "jobs?limit=0", "jobs/{}/logs?limit=-1", "jobs/{}/logs?level=loud"]
)
def test_a_limit_or_level_that_is_none_is_refused(connection, server, path):
    job = load(connection).create_job(title="not run").job_id
    answer = requests.get(
        f"{server.url}/openeo/1.2/{path.format(job)}",
        headers={"Authorization": f"Bearer {server.connect().auth.bearer}"},
        timeout=10,
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "ProcessParameterInvalid")


def test_jobs_are_listed_page_by_page(connection, server):
    jobs = [load(connection).create_job(title=f"page {n}").job_id for n in range(5)]
    found, path = [], "jobs?limit=2"
    while path:
        page = ask(server, path)
        assert len(page["jobs"]) <= 2
        found += [job["id"] for job in page["jobs"]]
        links = [link["href"] for link in page["links"] if link["rel"] == "next"]
        path = links[0].partition("/openeo/1.2/")[2] if links else ""
    assert found[:5] == jobs[::-1]
    assert len(found) == len(set(found)) == len(ask(server, "jobs")["jobs"])


def test_a_job_has_an_estimate(connection, server):
    job = load(connection).create_job(title="what it costs")
    assert ask(server, f"jobs/{job.job_id}/estimate")["costs"] == 0
    assert job.estimate()["duration"].startswith("PT")


def test_results_contain_the_statistics_of_their_bands(connection, tiny):
    job, status = run_job(load(connection))
    assert status == "finished"
    asset = job.get_results().get_metadata()["assets"]["openEO_2024-06-11Z.tif"]
    for band, values in zip(asset["raster:bands"], tiny.reflectance[1], strict=False):
        statistics = band["statistics"]
        known = values[np.isfinite(values)].astype(float)
        expected = {
            "minimum": known.min(),
            "maximum": known.max(),
            "mean": known.mean(),
            "stddev": known.std(),
            "valid_percent": 100 * known.size / values.size,
        }
        assert statistics == pytest.approx(expected)
