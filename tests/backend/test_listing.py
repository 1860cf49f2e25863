"""What the back-end lists, it can do."""

import json

import pytest

from backend.smoke import OFFERED, candidates, failure

pytestmark = pytest.mark.filterwarnings(
    "ignore"  # warnings of numpy on logarithms and roots of random numbers are not at stake
)
DOCUMENTS = {
    "add_dimension",
    "apply",
    "apply_dimension",
    "apply_neighborhood",
    "array_element",
    "divide",
    "filter_bands",
    "filter_bbox",
    "filter_labels",
    "filter_temporal",
    "load_collection",
    "load_stac",
    "lte",
    "mask",
    "merge_cubes",
    "multiply",
    "ndvi",
    "reduce_dimension",
    "rename_labels",
    "resample_cube_spatial",
    "resample_spatial",
    "run_udf",
    "save_result",
    "subtract",
}
"""Processes of the README, the guides, the notebooks and the snippets for the CDSE."""
SERIES = {
    "aggregate_spatial",
    "aggregate_temporal",
    "aggregate_temporal_period",
    "array_interpolate_linear",
    "filter_spatial",
    "load_geojson",
    "load_url",
    "mask_polygon",
    "vector_buffer",
}
"""Processes of series of fields."""
APEX = {
    "biopar": {"add_dimension", "mask", "reduce_dimension", "run_udf", "to_scl_dilation_mask"},
    "leaf_area_index": {
        *("add", "apply_dimension", "array_element", "cos", "divide", "first", "lte", "multiply"),
        *("pi", "reduce_dimension", "save_result", "subtract", "tanh"),
    },
    "parcel_delineation": {"apply_neighborhood", "lte", "mask", "ndvi", "to_scl_dilation_mask"},
    "udp_obsgession_w23_lai": {
        *("add", "aggregate_temporal_period", "apply", "apply_dimension", "array_create"),
        *("array_element", "divide", "drop_dimension", "eq", "gt", "if", "linear_scale_range"),
        *("load_url", "lt", "lte", "mask", "mask_polygon", "max", "mean", "median", "merge_cubes"),
        *("min", "multiply", "not", "or", "rename_labels", "resample_spatial", "save_result"),
        *("subtract", "to_scl_dilation_mask"),
    },
    "other masks": {"mask_scl_dilation", "apply_polygon", "apply_kernel"},
}
"""Processes of ESA-APEx/apex_algorithms (at 9d0198f) that work on Sentinel-2, not on radar."""


def test_what_passes_on_a_real_cube_is_offered_and_nothing_else(tiny):
    reasons = {name: failure(name, tiny.folder) for name in candidates()}
    passing = sorted(name for name, reason in reasons.items() if reason is None)
    assert passing == json.loads(OFFERED.read_text()), (
        "run `python -m backend.smoke` in tests/ with udf/ on the path",
        {name: reason for name, reason in reasons.items() if reason not in (None, "no case")},
    )


@pytest.mark.parametrize("needed", [DOCUMENTS, SERIES, *APEX.values()])
def test_processes_that_our_documents_and_those_of_others_use_are_offered(needed):
    assert needed - set(json.loads(OFFERED.read_text())) == set()


def test_an_unknown_process_is_refused(connection, tmp_path):
    from openeo.rest import OpenEoApiError

    cube = connection.load_collection("TINY").process("no_such_process")
    with pytest.raises(OpenEoApiError) as caught:
        cube.download(tmp_path / "x.nc")
    assert caught.value.code == "ProcessUnsupported"
    assert caught.value.http_status_code == 400
