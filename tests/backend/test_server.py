"""The unmodified openEO client against a real server process."""

import functools
import os
import signal
import subprocess
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import openeo
import pytest
import rasterio
import requests
import xarray as xr
from openeo.rest import JobFailedException, OpenEoApiError
from zarr.storage import ZipStore

from backend import udfs
from backend.conftest import LAI_BACKEND, NORTH, STEP, WEST, Server, start_server, stop_server
from backend.udfs import px

BOX = {
    "west": WEST + 30 * STEP,
    "south": NORTH - 100 * STEP,
    "east": WEST + 100 * STEP,
    "north": NORTH - 40 * STEP,
    "crs": "EPSG:32633",
}
JUNE = ["2024-06-01", "2024-06-15"]


def load(connection: openeo.Connection, **options):
    return connection.load_collection("TINY", **{"bands": ["B04", "B08"], **options})


def around(cube, code: str, context: dict | None = None, size: int = 96, overlap: int = 16, **more):
    udf = openeo.UDF(code, runtime="Python", context=context)
    return cube.apply_neighborhood(process=udf, size=px(size), overlap=px(overlap), **more)


def download(cube, folder: Path) -> xr.DataArray:
    path = folder / "result.nc"
    cube.download(path, format="netCDF")
    with xr.open_dataset(path) as dataset:
        bands = [name for name in dataset.data_vars if name != "spatial_ref"]
        return dataset[bands].to_dataarray("bands").load()


def wait(job, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while job.status() in {"created", "queued", "running"} and time.monotonic() < deadline:
        time.sleep(0.1)
    return job.status()


def run_job(cube, **options):
    job = cube.create_job(out_format="GTiff", **options)
    job.start()
    return job, wait(job)


def read_job_files(job, folder: Path) -> list[np.ndarray]:
    layers = []
    for path in sorted(job.get_results().download_files(folder, include_stac_metadata=False)):
        with rasterio.open(path) as dataset:
            layers.append(dataset.read())
    return layers


def test_client_finds_collection_processes_formats_and_runtimes(connection):
    assert connection.list_collection_ids() == ["TINY"]
    names = {process["id"] for process in connection.list_processes()}
    assert {"apply_neighborhood", "load_stac", "run_udf", "save_result", "mask"} <= names
    assert set(connection.list_output_formats()) == {"GTiff", "netCDF", "Zarr"}
    assert "numpy" in connection.list_udf_runtimes()["Python"]["versions"]["3"]["libraries"]


def test_synchronous_netcdf_holds_extents_bands_and_raw_values(connection, tiny, tmp_path):
    result = download(load(connection, spatial_extent=BOX, temporal_extent=JUNE), tmp_path)
    expected = tiny.reflectance[:2, :2, 40:100, 30:100]
    np.testing.assert_array_equal(result.transpose("t", "bands", "y", "x"), expected)


def test_synchronous_geotiff_names_its_bands(connection, tiny, tmp_path):
    cube = load(connection, temporal_extent=["2024-06-11", "2024-06-12"])
    cube.download(tmp_path / "a.tif", format="GTiff")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.descriptions == ("B04", "B08")
        assert dataset.crs.to_epsg() == 32633
        assert np.isnan(dataset.nodata)
        np.testing.assert_array_equal(dataset.read(), tiny.reflectance[1, :2])


def test_synchronous_geotiff_of_several_dates_says_what_to_do(connection, tmp_path):
    with pytest.raises(OpenEoApiError, match="use netCDF, reduce t, or run a batch job"):
        load(connection).download(tmp_path / "a.tif", format="GTiff")


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


def test_neighbours_beyond_the_extent_are_real(connection, tiny, tmp_path):
    cube = load(connection, spatial_extent=BOX, temporal_extent=JUNE)
    result = download(around(cube, udfs.BOX_MEAN), tmp_path)
    whole = download(around(load(connection, temporal_extent=JUNE), udfs.BOX_MEAN), tmp_path)
    expected = whole[..., 40:100, 30:100]
    np.testing.assert_array_equal(result, expected)
    assert result.notnull().mean() > 0.9


def test_relabelling_survives_the_way_to_the_file(connection, tmp_path):
    cube = load(connection, temporal_extent=["2024-06-01", "2024-06-02"])
    around(cube, udfs.TWO_BANDS).download(tmp_path / "a.tif", format="GTiff")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.descriptions == ("SUM", "COUNT")


def test_mixed_graph_scales_predicts_and_reduces(connection, tiny, tmp_path):
    cube = load(connection).apply(lambda x: x * 0.0001)
    reduced = around(cube, udfs.IDENTITY).reduce_dimension(dimension="t", reducer="mean")
    result = download(reduced, tmp_path)
    expected = np.mean(tiny.reflectance[:, :2] * np.float32(0.0001), axis=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_context_comes_from_the_parent_by_reference(connection, tmp_path):
    udf = openeo.UDF(udfs.CONTEXT_VALUE, runtime="Python", context={"from_parameter": "context"})
    cube = load(connection).apply_neighborhood(
        process=udf, size=px(96), overlap=px(16), context={"value": 4}
    )
    assert np.unique(download(cube, tmp_path)) == [4]


def test_user_defined_process_is_stored_described_and_executed(connection, tmp_path):
    value = openeo.api.process.Parameter.number("value", description="A number.", default=5)
    cube = around(load(connection), udfs.CONTEXT_VALUE, context={"value": value})
    connection.save_user_defined_process("five", cube, parameters=[value])
    assert "five" in [process["id"] for process in connection.list_user_defined_processes()]
    for arguments, expected in ({}, 5), ({"value": 8}, 8):
        result = connection.datacube_from_process("five", **arguments)
        assert connection.validate_process_graph(result.save_result("netCDF")) == []
        assert np.unique(download(result, tmp_path)) == [expected]
    connection.user_defined_process("five").delete()
    with pytest.raises(OpenEoApiError, match="five"):
        connection.user_defined_process("five").describe()


def test_a_parameter_of_a_stored_process_reaches_the_udf_through_its_parent(connection, tmp_path):
    value = openeo.api.process.Parameter.number("value", description="A number.", default=5)
    udf = openeo.UDF(udfs.CONTEXT_VALUE, runtime="Python", context={"from_parameter": "context"})
    cube = load(connection, temporal_extent=["2024-06-01", "2024-06-02"]).apply_neighborhood(
        process=udf, size=px(96), overlap=px(16), context={"value": value}
    )
    connection.save_user_defined_process("six", cube, parameters=[value])
    result = connection.datacube_from_process("six", value=6)
    assert np.unique(download(result, tmp_path)) == [6]
    connection.user_defined_process("six").delete()


def test_items_are_filtered_by_cloud_cover(connection, tiny, tmp_path):
    item = tiny.folder / "TINY" / "2024-06-21" / "scene-2024-06-21.json"
    clear = {"eo:cloud_cover": lambda value: value <= 20}
    assert download(load(connection, max_cloud_cover=20), tmp_path).sizes["t"] == 2
    with pytest.raises(OpenEoApiError, match="no item whose eo:cloud_cover is as asked for"):
        download(connection.load_stac(str(item), properties=clear), tmp_path)


def test_a_cube_is_resampled_onto_another_grid(connection, tiny, tmp_path):
    item = tiny.folder / "TINY" / "2024-06-21" / "scene-2024-06-21.json"
    cube = connection.load_stac(str(item), bands=["SCL"]).resample_spatial(resolution=10)
    assert connection.validate_process_graph(cube.save_result("netCDF")) == []
    result = download(cube, tmp_path)
    expected = tiny.reflectance[2, 2].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(result[0, 0], expected)


def test_a_result_that_is_no_cube_is_json(connection):
    node = {"process_id": "mean", "arguments": {"data": [1, 2, 6]}, "result": True}
    assert connection.execute({"m": node}) == 3
    node = {"process_id": "gte", "arguments": {"x": 3, "y": 4}, "result": True}
    assert connection.execute({"m": node}) is False


def test_zarr_holds_what_netcdf_holds(connection, tmp_path):
    cube = load(connection)
    cube.download(tmp_path / "a.zarr.zip", format="Zarr")
    with ZipStore(tmp_path / "a.zarr.zip", mode="r") as store, xr.open_zarr(store) as zarred:
        values = zarred[["B04", "B08"]].to_dataarray("bands").load()
        assert zarred["spatial_ref"].attrs["crs_wkt"].startswith("PROJCS")
    xr.testing.assert_equal(values, download(cube, tmp_path))


def test_load_stac_reads_a_local_item(connection, tiny, tmp_path):
    item = tiny.folder / "TINY" / "2024-06-11" / "scene-2024-06-11.json"
    cube = connection.load_stac(str(item), bands=["B08"], spatial_extent=BOX)
    result = download(cube, tmp_path)
    np.testing.assert_array_equal(result[0, 0], tiny.reflectance[1, 1, 40:100, 30:100])


def test_load_stac_reads_an_item_over_http(connection, tiny, tmp_path):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tiny.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}/TINY/2024-06-11/scene-2024-06-11.json"
        result = download(connection.load_stac(address, bands=["B04"]), tmp_path)
        web.shutdown()
    np.testing.assert_array_equal(result[0, 0], tiny.reflectance[1, 0])


def test_load_stac_does_not_leave_the_allowed_folders(connection, tmp_path):
    cube = connection.datacube_from_process("load_stac", url="file:///etc/hostname")
    with pytest.raises(OpenEoApiError, match="outside the folders") as caught:
        cube.download(tmp_path / "a.nc", format="netCDF")
    assert caught.value.http_status_code == 403


def test_archives_are_unpacked_beside_the_udf(connection, server, tiny, tmp_path):
    archive = tiny.folder / "model.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("value.txt", "42")
    options = {"udf-dependency-archives": [f"{archive.as_uri()}#lai_model"]}
    cube = around(load(connection), udfs.READS_ARCHIVE, context={"model": "./lai_model"})
    job, status = run_job(cube, job_options=options)
    assert status == "finished"
    assert np.unique(read_job_files(job, tmp_path)) == [42]


def test_user_code_runs_in_another_process(connection, server, tmp_path):
    result = download(around(load(connection), udfs.TELLS_PROCESS), tmp_path)
    assert server.process.pid not in np.unique(result)


def test_a_failing_udf_fails_the_job_with_its_sentence_in_the_log(connection):
    job = around(load(connection), udfs.RAISES).create_job(out_format="GTiff")
    with pytest.raises(JobFailedException):
        job.start_and_wait(print=lambda *_: None, max_poll_interval=0.2)
    messages = [entry["message"] for entry in job.logs(level="error")]
    assert messages == ["The UDF failed: ValueError: Band B12 is missing; pass it to the UDF."]
    with pytest.raises(OpenEoApiError, match="JobNotFinished"):
        job.get_results().get_metadata()


def test_a_failing_udf_answers_a_synchronous_request_with_its_sentence(connection, tmp_path):
    with pytest.raises(OpenEoApiError, match="Band B12 is missing") as caught:
        around(load(connection), udfs.RAISES).download(tmp_path / "a.nc")
    assert caught.value.http_status_code == 400
    assert not (tmp_path / "a.nc").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"spatial_extent": {**BOX, "west": 100_000, "east": 100_500}}, "NoDataAvailable"),
        ({"temporal_extent": ["2020-01-01", "2020-02-01"]}, "it holds 2024-06-01 to 2024-06-21"),
        ({"spatial_extent": {**BOX, "crs": "EPSG:99999"}}, "not a coordinate reference system"),
    ],
)
def test_an_empty_extent_is_a_clear_error(connection, tmp_path, options, sentence):
    with pytest.raises(OpenEoApiError, match=sentence) as caught:
        load(connection, **options).download(tmp_path / "a.nc")
    assert caught.value.http_status_code == 400


def test_validation_finds_mistakes_without_running_anything(connection):
    good = around(load(connection), udfs.IDENTITY).save_result("GTiff")
    assert connection.validate_process_graph(good) == []
    graphs = {
        "larger than size": around(load(connection), udfs.IDENTITY, size=16, overlap=32),
        "syntax error in line": around(load(connection), "def apply_datacube(:\n    pass\n"),
        "no band B99": connection.datacube_from_process(
            "load_collection", id="TINY", bands=["B99"], spatial_extent=None, temporal_extent=None
        ),
        "There is no process 'nothing'": connection.datacube_from_process("nothing"),
    }
    for sentence, graph in graphs.items():
        [problem] = connection.validate_process_graph(graph)
        assert sentence in problem["message"]


def test_the_wrong_password_is_refused(server):
    with pytest.raises(OpenEoApiError, match="CredentialsInvalid"):
        openeo.connect(server.url).authenticate_basic("lai", "wrong")


def test_a_forged_token_is_refused(server):
    headers = {"Authorization": "Bearer basic//bGFp"}  # the user name, as openeo-driver makes it
    answer = requests.get(f"{server.url}/openeo/1.2/jobs", headers=headers, timeout=10)
    assert answer.status_code == 403
    assert requests.get(f"{server.url}/openeo/1.2/jobs", timeout=10).status_code == 401


def test_a_public_address_needs_a_password(tmp_path, tiny):
    command = [LAI_BACKEND, "serve", "--host=0.0.0.0", f"--collections={tiny.folder}"]
    environment = {k: v for k, v in os.environ.items() if k != "LAI_BACKEND_PASSWORD"}
    done = subprocess.run(
        [*command, f"--data={tmp_path}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert "without a password" in done.stderr


def test_a_canceled_job_stops(connection):
    job = around(load(connection), udfs.SLEEPS).create_job(out_format="GTiff")
    job.start()
    while job.status() != "running":
        time.sleep(0.05)
    job.stop()
    assert job.status() == "canceled"
    job.delete()
    with pytest.raises(OpenEoApiError, match="JobNotFound"):
        job.status()


def start_long_job(server: Server, flag: Path, *, runs: bool = True):
    connection = server.connect()
    cube = load(connection, temporal_extent=["2024-06-01", "2024-06-02"])
    context = {"flag": str(flag), "model": "."}
    job = around(cube, udfs.WAITS, context=context, size=200).create_job()
    job.start()
    folder = server.data / "jobs" / job.job_id
    while runs and not (folder / "work").is_dir():
        time.sleep(0.05)
    return job


@pytest.fixture(scope="module")
def after_a_crash(tiny, tmp_path_factory):
    """Return a strict server in the place of a killed one, and the identifiers of three jobs.

    One lost its worker with the server, one goes on, one was waiting for a place.
    """
    folder = tmp_path_factory.mktemp("crash")
    first = start_server(folder, tiny.folder, "--max-jobs=2")
    dead = start_long_job(first, folder / "never")
    alive = start_long_job(first, folder / "go")
    waiting = start_long_job(first, folder / "go", runs=False)
    assert waiting.status() == "queued"
    first.process.kill()
    first.process.wait()
    assert first.process.stdout is not None
    first.process.stdout.close()
    _kill_worker_of(folder / "jobs" / dead.job_id)
    second = start_server(folder, tiny.folder, "--strict")
    (folder / "go").touch()
    yield second.connect(), dead.job_id, alive.job_id, waiting.job_id
    stop_server(second)


def test_after_a_crash_jobs_go_on_or_fail_with_a_reason_but_none_is_lost(after_a_crash):
    connection, *identifiers = after_a_crash
    dead, alive, waiting = (connection.job(identifier) for identifier in identifiers)
    assert wait(dead, 20) == "error"
    assert "Start the job again" in dead.logs(level="error")[0]["message"]
    for job in (alive, waiting):
        assert wait(job, 40) == "finished"
        assert job.get_results().get_assets()


def test_strict_mode_gives_the_same_pixels(after_a_crash, tmp_path):
    connection, *_ = after_a_crash
    result = download(around(load(connection), udfs.BOX_MEAN), tmp_path)
    whole = load(connection).apply_neighborhood(
        process=openeo.UDF(udfs.BOX_MEAN, runtime="Python"), size=px(400), overlap=px(16)
    )
    np.testing.assert_array_equal(result, download(whole, tmp_path))


def _kill_worker_of(job_folder: Path) -> None:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == job_folder / "work":
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
