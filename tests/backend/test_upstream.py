"""What openeo-processes-dask gets wrong comes out right here, against numpy and openeo-driver."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform_bounds

from backend.conftest import NORTH, STEP, WEST
from backend.cubes import cube_of
from backend.smoke import BOX, child, node, run
from lai_backend import upstream
from lai_backend.errors import NoDataError, ParameterError
from lai_backend.processes import evaluate

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:pkg_resources is deprecated",
    # array_element of openeo_processes_dask imports it
    "ignore:numpy.core is deprecated:DeprecationWarning",
    "ignore:'A-DEC' is deprecated:FutureWarning",
)
LOAD = node("load_collection", id="TINY", spatial_extent=BOX, temporal_extent=None)
X, Y, DATA, VALUE = ({"from_parameter": name} for name in ("x", "y", "data", "value"))


def execute(tiny, process_id, **arguments):
    graph = {"c": {**LOAD, "arguments": {**LOAD["arguments"], "bands": ["B04", "B08"]}}}
    case = node(process_id, data={"from_node": "c"}, **arguments)
    return run({**graph, "case": {**case, "result": True}}, tiny.folder)


def test_rows_of_a_kernel_lie_along_y():
    image = np.zeros((5, 5))
    image[2, 2] = 1
    found = upstream.apply_kernel(cube_of(image), [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    expected = np.zeros((5, 5))
    expected[1, 2] = 1  # one pixel towards the first row
    np.testing.assert_array_equal(found[0, 0], expected)


def test_finer_cubes_are_merged_on_the_grid_of_the_first(caplog):
    fine = cube_of(np.arange(64).reshape(8, 8), bands=("fine",), step=10)
    coarse = cube_of(np.arange(16).reshape(4, 4), bands=("coarse",))
    merged = upstream.merge_cubes(coarse, fine)
    assert merged.shape == (1, 2, 4, 4)
    assert merged["bands"].values.tolist() == ["coarse", "fine"]
    assert merged.rio.transform() == coarse.rio.transform()
    assert merged.notnull().all()
    assert merged["y"][0] > merged["y"][-1]
    assert "resample_spatial" in caplog.text
    other = upstream.merge_cubes(fine, coarse)
    np.testing.assert_array_equal(other[0, 1], coarse[0, 0].values.repeat(2, 0).repeat(2, 1))


def test_cubes_that_lie_apart_are_refused():
    here, there = cube_of(np.ones((4, 4))), cube_of(np.ones((4, 4)), bands="C", shift=9000)
    with pytest.raises(ParameterError):
        upstream.merge_cubes(here, there)
    with pytest.raises(ParameterError):
        upstream.mask(here, there)


def test_dates_of_merged_bands_are_joined():
    one = cube_of(np.ones((2, 2)), bands=("A",), dates=("2024-06-01", "2024-06-03"))
    two = cube_of(np.full((2, 2), 2), bands=("B",), dates=("2024-06-02", "2024-06-03"))
    merged = upstream.merge_cubes(one, two)
    expected = [[1, np.nan], [np.nan, 2], [1, 2]]
    np.testing.assert_array_equal(merged[:, :, 0, 0], expected)


@pytest.mark.parametrize(
    ("resolver", "expected"),
    [
        (child("max", data=[X, Y]), 3),
        (child("subtract", x=X, y=Y), -1),
        (child("add", x=X, y=Y), 5),
    ],
)
def test_a_resolver_combines_what_overlaps_and_leaves_the_rest(tiny, resolver, expected):
    function = {}

    def keep(**arguments):
        function.update(arguments)
        return upstream.merge_cubes(*pair, arguments["overlap_resolver"])

    pair = (
        cube_of(np.full((2, 2), 2), bands=("C", "A")),
        cube_of(np.full((2, 2), 3), bands=("C", "B")),
    )
    from openeo_pg_parser_networkx import ProcessRegistry
    from openeo_pg_parser_networkx.process_registry import Process

    from lai_backend.processes import plain_registry

    registry: ProcessRegistry = plain_registry()
    registry["merge_cubes"] = Process(spec={}, implementation=keep)
    graph = {"m": {**node("merge_cubes", overlap_resolver=resolver), "result": True}}
    merged = evaluate(graph, registry).compute()
    assert merged["bands"].values.tolist() == ["C", "A", "B"]
    assert merged[0, :, 0, 0].values.tolist() == [expected, 2, 3]


def test_an_overlap_without_a_resolver_is_refused():
    with pytest.raises(ParameterError):
        upstream.merge_cubes(
            cube_of(np.ones((2, 2)), bands="AB"), cube_of(np.ones((2, 2)), bands="BC")
        )


def test_a_coarse_mask_of_one_band_hides_its_pixels_in_all_bands():
    cube = cube_of(np.ones((4, 4)), bands=("A", "B"), step=10)
    hidden = cube_of([[1, 0], [0, np.nan]], bands=("SCL",))
    masked = upstream.mask(cube, hidden)
    assert np.isnan(masked[0, :, :2, :2]).all()
    assert int(masked.isnull().sum()) == 8


def test_a_mask_of_other_dates_is_refused():
    with pytest.raises(ParameterError):
        upstream.mask(cube_of(np.ones((2, 2))), cube_of(np.ones((2, 2)), dates=("2024-07-01",)))


@pytest.mark.parametrize("period", ["day", "week", "dekad", "month", "season", "tropical-season"])
@settings(deadline=None)  # the first import of openeo-driver takes seconds
@given(day=st.dates(pd.Timestamp("2015-07-01").date(), pd.Timestamp("2030-01-01").date()))
def test_periods_start_where_those_of_openeo_driver_do(period, day):
    from openeo_driver.ProcessGraphDeserializer import _period_to_intervals

    date = pd.Timestamp(day)
    intervals = _period_to_intervals(date.replace(day=1), date + pd.Timedelta(days=1), period)
    (expected,) = {start for start, end in intervals if start <= date < end}
    assert upstream.period_start(date, period) == expected.to_datetime64()


@pytest.mark.parametrize(
    ("period", "start"),
    [
        ("hour", "2024-08-27T13:00"),
        ("year", "2024-01-01"),
        ("decade", "2020-01-01"),
        ("decade-ad", "2021-01-01"),
    ],
)
def test_periods_that_openeo_driver_lacks_start_as_openeo_defines(period, start):
    assert upstream.period_start(pd.Timestamp("2024-08-27T13:45"), period) == np.datetime64(start)


def test_months_and_dekads_are_labelled_by_their_first_day(tiny):
    for period, labels in (
        ("month", ["2024-06-01"]),
        ("dekad", ["2024-06-01", "2024-06-11", "2024-06-21"]),
    ):
        found = execute(
            tiny, "aggregate_temporal_period", period=period, reducer=child("mean", data=DATA)
        )
        assert [str(label)[:10] for label in found["t"].values] == labels
        assert found["t"].dtype.kind == "M"


def test_every_interval_gets_its_own_value(tiny):
    intervals = [["2024-06-01", "2024-06-02"], ["2024-06-11", "2024-07-01"], ["2024-07-01", None]]
    intervals[2][1] = "2024-08-01"
    found = execute(
        tiny, "aggregate_temporal", intervals=intervals, reducer=child("max", data=DATA)
    )
    cube = tiny.reflectance[:, :2, 16:40, 20:44]
    np.testing.assert_array_equal(found[0], cube[0])
    known = np.isfinite(cube).all(0)
    np.testing.assert_array_equal(found[1].values[known], cube[1:].max(0)[known])
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize("labels", [["spring", "summer"], [1, 2]])
def test_intervals_may_have_names_and_numbers(tiny, labels):
    intervals = [["2024-06-01", "2024-06-15"], ["2024-06-15", "2024-07-01"]]
    mean = child("mean", data=DATA)
    found = execute(tiny, "aggregate_temporal", intervals=intervals, reducer=mean, labels=labels)
    assert found["t"].values.tolist() == labels
    plain = execute(tiny, "aggregate_temporal", intervals=intervals, reducer=mean)
    np.testing.assert_array_equal(found, plain)


def test_intervals_that_would_have_the_same_label_are_refused(tiny):
    intervals = [["2024-06-01", "2024-06-02"], ["2024-06-01", "2024-07-01"]]
    with pytest.raises(ParameterError):
        execute(tiny, "aggregate_temporal", intervals=intervals, reducer=child("mean", data=DATA))


def test_a_box_in_any_projection_keeps_the_pixels_whose_centres_it_holds(tiny):
    west, north = WEST + 24 * STEP, NORTH - 20 * STEP
    extent = {"west": west - 9, "east": west + 49, "south": north - 29, "north": north + 9}
    metres = execute(tiny, "filter_bbox", extent={**extent, "crs": 32633})
    assert metres.shape[2:] == (1, 2)  # the second row begins at -30 m
    corners = transform_bounds(
        32633, 4326, *(extent[s] for s in ("west", "south", "east", "north"))
    )
    degrees = dict(zip(("west", "south", "east", "north"), corners, strict=True))
    np.testing.assert_array_equal(execute(tiny, "filter_bbox", extent=degrees), metres)
    row = execute(tiny, "filter_bbox", extent={**extent, "crs": 32633, "east": west + 19})
    assert row.rio.bounds() == (west, north - STEP, west + STEP, north)


@pytest.mark.parametrize(
    ("crs", "error"), [(4326, NoDataError), ("EPSG:99999", ParameterError)], ids=str
)
def test_a_box_that_holds_no_pixel_is_refused(tiny, crs, error):
    extent = {"west": 3, "south": 50, "east": 3.1, "north": 50.1, "crs": crs}
    with pytest.raises(error):
        execute(tiny, "filter_bbox", extent=extent)


def test_labels_that_meet_a_condition_are_kept_dates_too(tiny):
    late = child("text_contains", data=VALUE, pattern="-06-1")
    assert execute(tiny, "filter_labels", dimension="t", condition=late).sizes["t"] == 1
    both = child("text_begins", data=VALUE, pattern="B0")
    assert execute(tiny, "filter_labels", dimension="bands", condition=both).sizes["bands"] == 2
    unknown = child("nan")
    assert execute(tiny, "filter_labels", dimension="t", condition=unknown).sizes["t"] == 0


def test_a_property_meets_no_condition_that_is_unknown(tiny):
    arguments = LOAD["arguments"] | {"properties": {"eo:cloud_cover": child("nan")}}
    with pytest.raises(NoDataError):
        run({"c": {**LOAD, "arguments": arguments, "result": True}}, tiny.folder)


@pytest.mark.parametrize(("process_id", "numpy"), [("sum", np.nansum), ("product", np.nanprod)])
def test_nothing_adds_up_to_no_data(tiny, process_id, numpy):
    reducer = child(process_id, data=DATA)
    found = execute(tiny, "reduce_dimension", dimension="t", reducer=reducer)
    cube = tiny.reflectance[:, :2, 16:40, 20:44]
    empty = np.isnan(cube).all(0)
    assert empty.any()
    np.testing.assert_array_equal(np.isnan(found), empty)
    np.testing.assert_allclose(found.values[~empty], numpy(cube, axis=0)[~empty], rtol=1e-5)
    assert np.isnan(run({"r": {**node(process_id, data=[]), "result": True}}, tiny.folder))


def test_a_condition_on_no_data_is_not_met(tiny):
    bright = {"bright": node("gt", x=X, y=5000)}
    chosen = node("if", value={"from_node": "bright"}, accept=1, reject=2)
    process = {"process_graph": {**bright, "child": {**chosen, "result": True}}}
    found = execute(tiny, "apply", process=process)
    cube = tiny.reflectance[:, :2, 16:40, 20:44]
    assert np.isnan(cube).any()
    np.testing.assert_array_equal(found, np.where(cube > 5000, 1, 2))


def test_bands_of_an_index_are_found_by_name(tiny):
    red, near_infrared = tiny.reflectance[:, :2, 16:40, 20:44].swapaxes(0, 1)
    found = execute(tiny, "ndvi", nir="B08", red="B04")
    np.testing.assert_allclose(found, (near_infrared - red) / (near_infrared + red), rtol=1e-5)
    with pytest.raises(ParameterError):
        execute(tiny, "ndvi")


def test_texts_that_look_like_dates_are_texts(tiny):
    condition = child("text_begins", data=VALUE, pattern="2024-06-11")
    assert execute(tiny, "filter_labels", dimension="t", condition=condition).sizes["t"] == 1
    named = execute(tiny, "add_dimension", name="year", label="2024", type="other")
    assert named["year"].values.tolist() == ["2024"]
    labels = execute(tiny, "dimension_labels", dimension="t")
    assert labels == [f"2024-06-{day}T00:00:00Z" for day in ("01", "11", "21")]


def test_the_label_of_a_new_dimension_of_time_is_a_date():
    still = cube_of(np.ones((4, 4))).isel(t=0, drop=True)
    dated = upstream.add_dimension(still, "t", "2024-06-11", "temporal")
    assert dated["t"].values == np.datetime64("2024-06-11")
    assert dated.rio.transform() == still.rio.transform()


def test_a_cube_of_which_nothing_is_left_is_not_written(tmp_path):
    from lai_backend.saving import SavedResult, write_result

    empty = cube_of(np.ones((4, 4))).isel(t=slice(0))
    with pytest.raises(NoDataError):
        write_result(SavedResult(empty, "netCDF"), tmp_path, True)


def test_gaps_are_filled_along_the_dates():
    values = np.array([1.0, np.nan, np.nan, 7.0, np.nan])
    labels = np.array(
        ["2024-06-01", "2024-06-02", "2024-06-05", "2024-06-07", "2024-06-09"], "M8[ns]"
    )
    found = upstream.array_interpolate_linear(da.asarray(values), 0, labels)
    np.testing.assert_allclose(np.asarray(found), [1, 2, 5, 7, np.nan])


@pytest.mark.parametrize(("source", "target"), [("t", "time"), ("bands", "spectrum")])
def test_a_cube_with_renamed_dimensions_can_be_saved(tiny, tmp_path, source, target):
    from lai_backend.saving import SavedResult, write_result

    renamed = execute(tiny, "rename_dimension", source=source, target=target).chunk()
    (asset,) = write_result(SavedResult(renamed, "netCDF"), tmp_path, True)
    with xr.open_dataset(tmp_path / asset["name"]) as dataset:
        assert dataset["B04"].sizes["t"] == 3


def _elements(result):
    """Return a child process: the first and second label as `a` and `b`, then `result`."""
    taken = {name: node("array_element", data=DATA, index=index) for index, name in enumerate("ab")}
    return {"process_graph": {**taken, "child": {**result, "result": True}}}


A, B = {"from_node": "a"}, {"from_node": "b"}


@pytest.mark.parametrize("dates", [2, 3])
@pytest.mark.parametrize(
    ("process_id", "expected"), [("max", np.max), ("sum", np.sum), ("mean", np.mean)]
)
def test_a_list_of_elements_is_reduced_over_the_list_not_over_dates(
    tiny, dates, process_id, expected
):
    reducer = _elements(result=node(process_id, data=[A, B, 500]))
    extent = ["2024-06-01", "2024-06-20" if dates == 2 else "2024-06-30"]
    load = node("load_collection", id="TINY", spatial_extent=BOX, temporal_extent=extent)
    load["arguments"]["bands"] = ["B04", "B08"]
    cube = {"from_node": "c"}
    found = run(
        {
            "c": load,
            "r": {
                **node("reduce_dimension", data=cube, dimension="bands", reducer=reducer),
                "result": True,
            },
        },
        tiny.folder,
    )
    plain = run({"c": {**load, "result": True}}, tiny.folder).transpose("t", "y", "x", "bands")
    assert len(found["t"]) == dates
    three = np.stack([*np.moveaxis(plain.values, -1, 0), np.full(plain.shape[:-1], 500)])
    seen = np.isfinite(plain.values).all(-1)
    got = found.transpose("t", "y", "x").values
    np.testing.assert_allclose(got[seen], expected(three, axis=0)[seen], rtol=1e-5)


def test_an_array_of_elements_makes_bands(tiny):
    process = _elements(result=node("array_create", data=[B, A, 5]))
    found = execute(tiny, "apply_dimension", dimension="bands", process=process)
    plain = execute(tiny, "filter_bands", bands=["B04", "B08"])
    values = found.transpose("bands", "t", "y", "x").values
    first, second = plain.transpose("bands", "t", "y", "x").values
    np.testing.assert_array_equal(values[:2], [second, first])
    assert (values[2] == 5).all()


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("values", [[B, B], [7]])
def test_elements_of_an_array_are_replaced(tiny, values, length):
    result = node("array_modify", data=DATA, values=values, index=0, length=length)
    found = execute(
        tiny, "apply_dimension", dimension="bands", process=_elements(result=result)
    ).transpose("bands", "t", "y", "x")
    plain = execute(tiny, "filter_bands", bands=["B04", "B08"]).transpose("bands", "t", "y", "x")
    second = plain.values[1]
    new = [second, second] if len(values) == 2 else [np.full_like(second, 7)]
    np.testing.assert_array_equal(found.values, [*new, *plain.values[length:]])
