"""User-defined processes on a server, their parameters, and the context of a UDF."""

import numpy as np
import openeo
import pytest
from openeo.rest import OpenEoApiError

from backend import udfs
from backend.clients import around, download, load
from backend.udfs import px


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
    with pytest.raises(OpenEoApiError) as caught:
        connection.user_defined_process("five").describe()
    assert caught.value.http_status_code == 404


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
