"""Requests for time series that are taken and refused, and what they are answered in."""

import csv
import io

import geopandas
import pytest
from fastapi.testclient import TestClient
from service.fake_items import lonlat, parcel


def test_place_without_items_is_404_with_the_reason(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    nowhere = published.get("/timeseries?lon=0&lat=0")
    swapped = published.get(f"/timeseries?lon={lat}&lat={lon}")
    late = published.get(f"/timeseries?lon={lon}&lat={lat}&datetime=2030-01-01/..")
    assert [answer.status_code for answer in (nowhere, swapped, late)] == [404, 404, 404]
    assert "swapped" in swapped.json()["description"]
    assert nowhere.json()["description"].startswith("no item meets [0.0, 0.0, 0.0, 0.0] (west")
    assert "swapped" not in nowhere.json()["description"]
    assert "time" in late.json()["description"]


def test_whole_world_is_refused(published: TestClient) -> None:
    ring = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    world = {"type": "Polygon", "coordinates": [ring]}
    assert published.post("/timeseries", json={"geometry": world}).status_code == 400


def test_many_parcels_are_one_table(published: TestClient) -> None:
    features = [
        {"type": "Feature", "id": "a", "properties": {}, "geometry": parcel(20, 30, 22, 33)},
        {"type": "Feature", "properties": {"name": "b"}, "geometry": parcel(40, 30, 42, 33)},
    ]
    body: dict = {"geometry": {"type": "FeatureCollection", "features": features}}
    series = published.post("/timeseries", json=body).json()["series"]
    assert [one["place"] for one in series] == ["a", "b"]
    alone = published.post("/timeseries", json={"geometry": features[1]}).json()["observations"]
    assert [row["lai"] for row in series[1]["observations"]] == pytest.approx(
        [row["lai"] for row in alone]
    )

    text = published.post("/timeseries", json=body | {"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["place"] for row in rows] == ["a"] * 3 + ["b"] * 3
    binary = published.post("/timeseries", json=body | {"format": "parquet"}).content
    table = geopandas.read_parquet(io.BytesIO(binary))
    assert list(table.lai) == [float(row["lai"]) for row in rows]
    assert (table.crs.to_epsg(), table.datetime.dt.day.tolist()) == (4326, [1, 11, 21] * 2)
    assert published.post("/timeseries", json=body | {"format": "png"}).status_code == 400


def test_csv_and_plot_show_the_same(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    table = published.get(f"/timeseries?lon={lon}&lat={lat}&format=csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [float(row["lai"]) for row in rows] == pytest.approx([2.0, 3.0, 4.0])
    plot = published.get(f"/timeseries?lon={lon}&lat={lat}&format=png")
    assert (plot.headers["Content-Type"], plot.content[:4]) == ("image/png", b"\x89PNG")


def test_bad_request_is_400(published: TestClient, subtests: pytest.Subtests) -> None:
    for body in [
        {},
        {"geometry": {}},
        {"geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}},
        {"geometry": {"type": "Point", "coordinates": ["a", 0]}},
        {"geometry": {"type": "Point", "coordinates": [600000, 5300000]}},
        {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}},
        {"geometry": {"type": "FeatureCollection", "features": []}},
        {"geometry": {"type": "Polygon", "coordinates": []}},
        {"geometry": {"type": "Feature", "geometry": None}},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "format": "xlsx"},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "exclude_flags": 256},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "datetime": "x"},
        {"geometry": {"type": "Point", "coordinates": [0, 0]}, "unknown": 1},
    ]:
        with subtests.test(body=body):
            answer = published.post("/timeseries", json=body)
            assert (answer.status_code, len(answer.json()["description"]) > 5) == (400, True)


def test_bad_query_is_400(published: TestClient, subtests: pytest.Subtests) -> None:
    for query in [
        "",
        "lon=1",
        "lon=1&lat=91",
        "lon=1&lat=1&geometry={}",
        "geometry={",
        "geometry=[]",
    ]:
        with subtests.test(query=query):
            assert published.get(f"/timeseries?{query}").status_code == 400


def test_a_smoothed_curve_lies_on_a_regular_grid_of_dates(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    found = published.get(f"/timeseries?lon={lon}&lat={lat}&smooth=5").json()

    dates = [row["date"] for row in found["smoothed"]]
    assert dates == ["2024-06-01", "2024-06-06", "2024-06-11", "2024-06-16", "2024-06-21"]
    lai = [row["lai"] for row in found["smoothed"]]
    assert lai == sorted(lai)
    assert lai[::2] == pytest.approx([2.0, 3.0, 4.0], abs=0.2)
    assert [row["gap_days"] for row in found["smoothed"]] == [0, 5, 0, 5, 0]
    assert all(row["lower"] < row["lai"] < row["upper"] for row in found["smoothed"])
    assert [row["rejected"] for row in found["observations"]] == [False] * 3


def test_tables_and_plots_of_a_smoothed_curve(published: TestClient) -> None:
    places = [parcel(10, 10, 14, 14), parcel(20, 20, 24, 24)]
    features = [{"type": "Feature", "properties": {}, "geometry": place} for place in places]
    body = {"geometry": {"type": "FeatureCollection", "features": features}, "smooth": 10}

    table = list(
        csv.DictReader(
            io.StringIO(published.post("/timeseries", json=body | {"format": "csv"}).text)
        )
    )
    assert list(table[0]) == ["place", "date", "lai", "sd", "lower", "upper", "gap_days"]
    assert len(table) == 6
    parquet = published.post("/timeseries", json=body | {"format": "parquet"})
    assert len(geopandas.read_parquet(io.BytesIO(parquet.content))) == 6
    lon, lat = lonlat(20.5, 30.5)
    plot = published.get(f"/timeseries?lon={lon}&lat={lat}&smooth=5&format=png")
    assert plot.content[:4] == b"\x89PNG"
    assert published.get(f"/timeseries?lon={lon}&lat={lat}&smooth=0").status_code == 400


def test_parameter_that_a_request_lacks_is_refused_and_not_ignored(published: TestClient) -> None:
    lon, lat = lonlat(20.5, 30.5)
    body = {"geometry": parcel(20, 30, 22, 33)}
    refused = [
        published.get(f"/timeseries?lon={lon}&lat={lat}&variable=FAPAR"),
        published.post("/timeseries?variable=FAPAR", json=body),
        published.post("/timeseries", json=body | {"variable": "FAPAR"}),
        published.get("/mosaic/tilejson.json?collection=lai&date=2024-06&variable=fapar"),
        published.get("/mosaic/tiles/12/2168/1420.png?collection=lai&date=2024-06&assets=lai_sd"),
        published.post("/publish?collection=other", json={"directory": "x"}),
    ]
    assert [answer.status_code for answer in refused] == [400] * len(refused)
    names = ["variable"] * 4 + ["assets", "collection"]
    for answer, name in zip(refused, names, strict=True):
        assert name in answer.json()["description"]
