"""Polygons over cubes, from the process to the file that a client downloads."""

import json

import geopandas as gpd
import numpy as np
import openeo
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from openeo.rest import OpenEoApiError
from rasterio.warp import transform_geom

from backend.clients import load
from backend.conftest import NORTH, STEP, WEST
from backend.udfs import IDENTITY

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def square(left: float, top: float, size: float, holes=()) -> dict:
    """Return a polygon in degrees, given in pixels of the collection."""

    def ring(x, y, side):
        return [(x, y), (x, y + side), (x + side, y + side), (x + side, y)]

    polygon = shapely.Polygon(ring(left, top, size), [ring(*hole) for hole in holes])
    placed = shapely.transform(polygon, lambda xy: [WEST, NORTH] + xy * [STEP, -STEP])
    return transform_geom("EPSG:32633", "EPSG:4326", shapely.geometry.mapping(placed))


def fields(*geometries: dict) -> dict:
    features = [
        {"type": "Feature", "properties": {"name": f"field {n}"}, "geometry": geometry}
        for n, geometry in enumerate(geometries)
    ]
    return {"type": "FeatureCollection", "features": features}


SQUARES = [(40, 50, 10), (60.3, 70.2, 8), (100, 100, 6)]
FIELDS = fields(*(square(*one) for one in SQUARES))


def centres_inside(left, top, size):
    rows = [row for row in range(131) if top <= row + 0.5 < top + size]
    columns = [column for column in range(150) if left <= column + 0.5 < left + size]
    return np.ix_(rows, columns)


@pytest.fixture(scope="module")
def means(tiny):
    """Expected means, shape (t, field, band)."""
    return np.array(
        [
            [
                [layer[centres_inside(*one)].mean(dtype=float) for layer in date[:2]]
                for one in SQUARES
            ]
            for date in tiny.reflectance
        ]
    )


def zonal(connection, form: str, tmp_path, **options):
    path = tmp_path / "result"
    cube = load(connection).aggregate_spatial(FIELDS, reducer="mean")
    cube.save_result(format=form, options=options).download(path)
    return path


def test_csv_has_a_row_per_date_and_field(connection, means, tmp_path):
    table = pd.read_csv(zonal(connection, "CSV", tmp_path))
    assert list(table) == ["date", "feature_index", "B04", "B08"]
    found = table[["B04", "B08"]].to_numpy().reshape(3, 3, 2)
    np.testing.assert_allclose(found, means, rtol=1e-6)


def test_json_is_that_of_the_cloud_backends(connection, means, tmp_path):
    content = json.loads(zonal(connection, "JSON", tmp_path).read_text())
    assert list(content) == [f"2024-06-{day}T00:00:00Z" for day in ("01", "11", "21")]
    np.testing.assert_allclose(list(content.values()), means, rtol=1e-6)


def test_netcdf_and_parquet_and_geojson_hold_the_same(connection, means, tmp_path):
    with xr.open_dataset(zonal(connection, "netCDF", tmp_path)) as dataset:
        found = np.stack([dataset[band].transpose("t", "feature") for band in ("B04", "B08")], -1)
        np.testing.assert_allclose(found, means, rtol=1e-6)
    table = gpd.read_parquet(zonal(connection, "Parquet", tmp_path))
    np.testing.assert_allclose(table[["B04", "B08"]].to_numpy().reshape(3, 3, 2), means, rtol=1e-6)
    assert table["name"].tolist()[:3] == ["field 0", "field 1", "field 2"]
    frame = gpd.read_file(zonal(connection, "GeoJSON", tmp_path))
    np.testing.assert_allclose(frame["2024-06-11T00:00:00Z~B08"], means[1, :, 1], rtol=1e-6)
    assert frame["name"].tolist() == ["field 0", "field 1", "field 2"]


@pytest.mark.timeout(240)  # the loky processes of upstream took five minutes
def test_a_job_of_fifty_fields_ends_in_a_file_described_with_its_place(connection, tmp_path):
    many = fields(*(square(5 + 12 * (n % 10), 3 + 20 * (n // 10), 9) for n in range(50)))
    cube = load(connection).aggregate_spatial(many, reducer="median")
    job = cube.create_job(out_format="CSV")
    job.start_and_wait(
        print=lambda text: None, connection_retry_interval=0.5, max_poll_interval=0.5
    )
    (asset,) = job.get_results().get_assets()
    table = pd.read_csv(asset.download(tmp_path / asset.key))
    assert len(table) == 150
    assert table.notna().all(None)
    west, south, east, north = job.get_results().get_metadata()["extent"]["spatial"]["bbox"][0]
    assert (east > west, north > south) == (True, True)


def test_a_cube_without_dates_gives_a_value_per_field(connection, tiny, tmp_path):
    cube = load(connection).reduce_dimension("t", "max").aggregate_spatial(FIELDS, reducer="count")
    path = tmp_path / "counts.csv"
    cube.save_result(format="CSV").download(path)
    table = pd.read_csv(path)
    assert table["B04"].tolist() == [100, 64, 36]


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:32633"])
def test_polygons_lie_where_the_projection_that_they_name_puts_them(connection, name, tmp_path):
    features = [
        {**one, "geometry": transform_geom("EPSG:4326", name, one["geometry"])}
        for one in FIELDS["features"]
    ]
    named = {"type": "name", "properties": {"name": name}}
    polygons = {"type": "FeatureCollection", "crs": named, "features": features}
    cube = load(connection).aggregate_spatial(polygons, reducer="count")
    cube.save_result(format="JSON").download(tmp_path / "r.json")
    first = next(iter(json.loads((tmp_path / "r.json").read_text()).values()))
    assert [counts[0] for counts in first] == [100, 64, 36]


def test_values_of_intervals_with_names_are_written_as_a_table(connection, tmp_path):
    halves = [["2024-06-01", "2024-06-15"], ["2024-06-15", "2024-07-01"]]
    cube = load(connection).aggregate_temporal(halves, "mean", labels=["early", "late"])
    cube.aggregate_spatial(FIELDS, reducer="mean").download(tmp_path / "t.csv", format="CSV")
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["date"].unique().tolist() == ["early", "late"]


def test_a_field_of_which_nothing_is_left_has_no_values(connection, tmp_path):
    inner = connection.load_geojson(FIELDS).process(
        "vector_buffer", geometries=openeo.rest.datacube.THIS, distance=-3.5 * STEP
    )
    cube = load(connection).aggregate_spatial(inner, reducer="count")
    cube.save_result(format="CSV").download(tmp_path / "t.csv")
    counts = pd.read_csv(tmp_path / "t.csv")["B04"].to_numpy().reshape(3, 3)
    assert (counts[:, 0] > 0).all()
    assert np.isnan(counts[:, 2]).all()


def test_formats_that_polygons_are_read_from_are_listed(connection):
    assert set(connection.list_file_formats()["input"]) == {"GeoJSON", "Parquet"}


def test_holes_are_no_part_of_a_field(connection, tmp_path):
    ring = fields(square(40, 50, 10, [(43, 53, 4)]))
    cube = load(connection).aggregate_spatial(ring, reducer="count")
    cube.save_result(format="JSON").download(tmp_path / "r.json")
    assert set(np.ravel(list(json.loads((tmp_path / "r.json").read_text()).values()))) == {84}


def test_masks_and_cuts_by_polygons_keep_what_lies_inside(connection, tiny, tmp_path):
    polygon = square(40, 50, 10, [(43, 53, 4)])
    for cube, size in (
        (load(connection).mask_polygon(polygon), (131, 150)),
        (load(connection).filter_spatial(fields(polygon)), (10, 10)),
    ):
        cube.download(tmp_path / "r.nc", format="netCDF")
        with xr.open_dataset(tmp_path / "r.nc") as dataset:
            band = dataset["B04"]
            assert band.shape[1:] == size
            assert int(band[0].notnull().sum()) == 84
            x = float(band["x"][0]) - STEP / 2
            assert x in (WEST, WEST + 40 * STEP)


@pytest.mark.parametrize("with_udf", [True, False])
def test_a_process_runs_on_the_pixels_of_each_polygon(connection, tiny, tmp_path, with_udf):
    process = openeo.UDF(IDENTITY, runtime="Python") if with_udf else (lambda data: data * 1)
    cube = load(connection).apply_polygon(geometries=FIELDS, process=process, mask_value=-1)
    cube.download(tmp_path / "r.nc", format="netCDF")
    with xr.open_dataset(tmp_path / "r.nc") as dataset:
        found = dataset["B04"][0].values
    assert int((found != -1).sum()) == 200
    where = centres_inside(*SQUARES[1])
    np.testing.assert_array_equal(found[where], tiny.reflectance[0, 0][where])


def test_buffers_are_metres(connection, tmp_path):
    shrunk = connection.load_geojson(FIELDS).process(
        "vector_buffer", geometries=openeo.rest.datacube.THIS, distance=-2 * STEP
    )
    cube = load(connection).aggregate_spatial(shrunk, reducer="count")
    cube.save_result(format="JSON").download(tmp_path / "r.json")
    first = next(iter(json.loads((tmp_path / "r.json").read_text()).values()))
    assert [count for count, _ in first] == [36, 16, 4]


def test_polygons_come_from_allowed_files_only(connection, tiny, tmp_path):
    inside = tiny.folder / "fields.geojson"
    inside.write_text(json.dumps(FIELDS))
    outside = tmp_path / "fields.geojson"
    outside.write_text(json.dumps(FIELDS))
    polygons = connection.load_url(inside.as_uri(), format="GeoJSON")
    cube = load(connection).aggregate_spatial(polygons, reducer="count")
    cube.save_result(format="JSON").download(tmp_path / "r.json")
    refused = connection.load_url(outside.as_uri(), format="GeoJSON")
    for argument in (refused, outside.as_uri(), "/etc/passwd", "file:///etc/passwd"):
        if isinstance(argument, str):
            cube = load(connection).process(
                "aggregate_spatial",
                data=load(connection),
                geometries=argument,
                reducer={
                    "process_graph": {
                        "m": {
                            "process_id": "mean",
                            "arguments": {"data": {"from_parameter": "data"}},
                            "result": True,
                        }
                    }
                },
            )
        else:
            cube = load(connection).aggregate_spatial(argument, reducer="mean")
        with pytest.raises(OpenEoApiError) as caught:
            cube.download(tmp_path / "x")
        assert caught.value.http_status_code in (400, 403)


def test_every_save_result_is_written(connection, tmp_path):
    cube = load(connection)
    both = cube.aggregate_spatial(FIELDS, reducer="mean").save_result(format="CSV")
    graph = both.flat_graph()
    graph.update(
        {
            "first": {
                "process_id": "save_result",
                "arguments": {"data": {"from_node": "loadcollection1"}, "format": "netCDF"},
            },
            "second": {
                "process_id": "save_result",
                "arguments": {
                    "data": {"from_node": "loadcollection1"},
                    "format": "GTiff",
                    "options": {"filename_prefix": "dn", "overviews": "OFF"},
                },
            },
        }
    )
    job = connection.create_job(graph)
    job.start_and_wait(
        print=lambda text: None, connection_retry_interval=0.5, max_poll_interval=0.5
    )
    names = {asset.key for asset in job.get_results().get_assets()}
    dates = {f"dn_2024-06-{day}Z.tif" for day in ("01", "11", "21")}
    assert names == {"timeseries.csv", "openEO.nc", *dates}
    assert any("overviews" in entry["message"] for entry in job.logs())
    for path in job.get_results().download_files(tmp_path / "all", include_stac_metadata=False):
        if path.suffix == ".tif":
            with rasterio.open(path) as dataset:
                assert dataset.count == 2


def test_polygons_that_overlap_are_refused_by_apply_polygon(connection, tmp_path):
    overlapping = fields(square(40, 50, 10), square(45, 55, 10))
    cube = load(connection).apply_polygon(geometries=overlapping, process=lambda data: data * 1)
    with pytest.raises(OpenEoApiError) as caught:
        cube.download(tmp_path / "x.nc", format="netCDF")
    assert caught.value.code == "ProcessParameterInvalid"
