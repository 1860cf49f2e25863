"""Synchronous requests of the unmodified openEO client to a real server process."""

import numpy as np
import pytest
import rasterio
from openeo.rest import OpenEoApiError

from backend import udfs
from backend.clients import BOX, JUNE, around, download, load


def test_client_finds_collection_processes_formats_and_runtimes(connection):
    assert connection.list_collection_ids() == ["TINY"]
    names = {process["id"] for process in connection.list_processes()}
    assert {"apply_neighborhood", "load_stac", "run_udf", "save_result", "mask"} <= names
    assert set(connection.list_output_formats()) == {
        "GTiff",
        "netCDF",
        "JSON",
        "GeoJSON",
        "CSV",
        "Parquet",
    }
    assert "numpy" in connection.list_udf_runtimes()["Python"]["versions"]["3"]["libraries"]


def test_synchronous_netcdf_holds_extents_bands_and_raw_values(connection, tiny, tmp_path):
    result = download(load(connection, spatial_extent=BOX, temporal_extent=JUNE), tmp_path)
    expected = tiny.reflectance[:2, :2, 40:100, 30:100]
    np.testing.assert_array_equal(result.transpose("t", "bands", "y", "x"), expected)


def test_an_answered_request_leaves_nothing_on_the_server(connection, server, tmp_path):
    download(load(connection, spatial_extent=BOX, temporal_extent=JUNE), tmp_path)
    assert list((server.data / "requests").iterdir()) == []


def test_capabilities_are_those_of_this_back_end(connection):
    capabilities = connection.capabilities()
    assert capabilities.supports_endpoint("/jobs/{job_id}", method="PATCH")
    relations = {link["rel"] for link in capabilities.capabilities["links"]}
    assert not relations & {"terms-of-service", "privacy-policy"}  # of the driver's makers


def test_synchronous_geotiff_names_its_bands(connection, tiny, tmp_path):
    cube = load(connection, temporal_extent=["2024-06-11", "2024-06-12"])
    cube.download(tmp_path / "a.tif", format="GTiff")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.descriptions == ("B04", "B08")
        assert dataset.crs.to_epsg() == 32633
        assert np.isnan(dataset.nodata)
        np.testing.assert_array_equal(dataset.read(), tiny.reflectance[1, :2])


def test_synchronous_geotiff_of_several_dates_is_refused(connection, tmp_path):
    with pytest.raises(OpenEoApiError) as caught:
        load(connection).download(tmp_path / "a.tif", format="GTiff")
    assert caught.value.code == "ProcessParameterInvalid"


def test_a_result_that_is_no_cube_is_json(connection):
    node = {"process_id": "mean", "arguments": {"data": [1, 2, 6]}, "result": True}
    assert connection.execute({"m": node}) == 3
    node = {"process_id": "gte", "arguments": {"x": 3, "y": 4}, "result": True}
    assert connection.execute({"m": node}) is False


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


def test_a_cube_is_resampled_onto_another_grid(connection, tiny, tmp_path):
    item = tiny.folder / "TINY" / "2024-06-21" / "scene-2024-06-21.json"
    cube = connection.load_stac(str(item), bands=["SCL"]).resample_spatial(resolution=10)
    assert connection.validate_process_graph(cube.save_result("netCDF")) == []
    result = download(cube, tmp_path)
    expected = tiny.reflectance[2, 2].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(result[0, 0], expected)


def test_user_code_runs_in_another_process(connection, server, tmp_path):
    result = download(around(load(connection), udfs.RETURNS_PROCESS_ID), tmp_path)
    assert server.process.pid not in np.unique(result)


def test_a_failing_udf_answers_a_synchronous_request_with_its_sentence(connection, tmp_path):
    with pytest.raises(OpenEoApiError, match="Band B12 is missing") as caught:
        around(load(connection), udfs.RAISES).download(tmp_path / "a.nc")
    assert caught.value.code == "UdfFailed"
    assert caught.value.http_status_code == 400
    assert not (tmp_path / "a.nc").exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"spatial_extent": {**BOX, "west": 100_000, "east": 100_500}}, "NoDataAvailable"),
        ({"temporal_extent": ["2020-01-01", "2020-02-01"]}, "NoDataAvailable"),
        ({"spatial_extent": {**BOX, "crs": "EPSG:99999"}}, "ProcessParameterInvalid"),
    ],
)
def test_an_empty_extent_is_a_clear_error(connection, tmp_path, options, code):
    with pytest.raises(OpenEoApiError) as caught:
        load(connection, **options).download(tmp_path / "a.nc")
    assert caught.value.code == code
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
        "There is no process 'order'": load(connection).apply_dimension("order", dimension="t"),
    }
    for sentence, graph in graphs.items():
        [problem] = connection.validate_process_graph(graph)
        assert sentence in problem["message"]


def test_items_of_a_collection_are_found_by_time(server):
    import requests

    address = f"{server.url}/openeo/1.2/collections/TINY/items"
    everything = requests.get(address, timeout=10).json()["features"]
    assert [item["id"][-10:] for item in everything] == ["2024-06-01", "2024-06-11", "2024-06-21"]
    some = requests.get(f"{address}?datetime=2024-06-05/2024-06-20&limit=5", timeout=10).json()
    assert [item["properties"]["datetime"][:10] for item in some["features"]] == ["2024-06-11"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("datetime=2024-06-11", 1),
        ("datetime=2024-06-11T10:20:30Z", 1),
        ("datetime=2024-06-11T10:20:31Z", 0),
        ("datetime=2024-06-01/2024-06-11", 2),
        ("datetime=../2024-06-11T10:20:30Z", 2),
        ("datetime=2024-06-02/..", 2),
        ("bbox=15,50,16,51", 3),
        ("bbox=0,0,1,1", 0),
        ("limit=2", 2),
        *(("limit=x", None), ("limit=0", None), ("limit=-1", None)),
        *(("bbox=1,2", None), ("bbox=a,b,c,d", None), ("datetime=zz", None)),
    ],
)
def test_items_are_those_asked_for_or_the_request_is_refused(server, query, count):
    import requests

    answer = requests.get(f"{server.url}/openeo/1.2/collections/TINY/items?{query}", timeout=10)
    if count is None:
        assert (answer.status_code, answer.json()["code"]) == (400, "ProcessParameterInvalid")
    else:
        assert len(answer.json()["features"]) == count


ADD = {"process_graph": {"a": {"process_id": "add", "arguments": {"x": 1, "y": 2}}}}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/process_graphs/odd", [1]),
        ("PUT", "/process_graphs/odd", {"process_graph": [1]}),
        ("PUT", "/process_graphs/odd", {**ADD, "parameters": [{"label": "x"}]}),
        ("PUT", "/process_graphs/odd", {**ADD, "default_job_options": 5}),
        ("POST", "/jobs", {"process": ADD, "title": [1]}),
        ("POST", "/jobs", {"process": ADD, "job_options": "x"}),
        ("POST", "/result", {"process": ADD, "job_options": "x"}),
    ],
)
def test_bodies_of_a_wrong_form_are_refused(connection, method, path, body):
    answer = connection.request(method, path, json=body, check_error=False)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("body", ["[" * 50_000 + "]" * 50_000, '{"process_graph": "x"}'])
def test_validation_answers_whatever_the_body(server, body):
    import requests

    address = f"{server.url}/openeo/1.2/validation"
    answer = requests.post(address, body, headers={"Content-Type": "application/json"}, timeout=10)
    assert "ProcessGraphInvalid" in answer.text
