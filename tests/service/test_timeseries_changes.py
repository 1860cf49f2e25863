"""Time series of rasters that change, go or are damaged while they are read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.fake_items import lonlat, parcel

from lai_service import Settings
from lai_service.api import timeseries
from lai_service.files import observations
from lai_service.files.observations import observe

Make = Callable[..., Path]


def test_date_all_under_cloud_opens_flags_and_lai_only(
    published: TestClient, settings: Settings
) -> None:
    for raster in settings.data.glob("lai/*/*/lai_[slu]?*.tif"):
        raster.unlink()
    found = published.post("/timeseries", json={"geometry": parcel(57, 57, 63, 63)}).json()
    assert [(o["lai"], o["sd"], o["pixels"]) for o in found["observations"]] == [
        (None, None, 0)
    ] * 3


def test_parcel_is_read_from_the_files_once_and_a_new_version_anew(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"geometry": parcel(20, 30, 22.5, 33.25)}
    first = published.post("/timeseries", json=body).json()
    with monkeypatch.context() as blind:
        blind.delattr(observations, "physical")
        assert published.post("/timeseries", json=body).json() == first
    folder = make_result("lai_s2_32tpu_20240601", "2024-06-01T10:00:00Z", offset=5.0)
    published.post("/publish", json={"directory": str(folder)})
    second = published.post("/timeseries", json=body).json()["observations"]
    assert second[0]["lai"] == pytest.approx(first["observations"][0]["lai"] + 5)
    assert second[1:] == first["observations"][1:]


def test_item_that_is_replaced_or_deleted_while_it_is_read_is_read_again(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def change_first(results: list, *given: object) -> object:
        looked.append(len(results))
        if len(looked) == 1:
            item = results[0].item
            folder = make_result(item["id"], item["properties"]["datetime"], offset=2.5)
            published.post("/publish", json={"directory": str(folder)})
            published.delete(f"/collections/lai/items/{results[1].item['id']}")
        return observe(results, *given)

    monkeypatch.setattr(timeseries, "observe", change_first)
    lon, lat = lonlat(20.5, 30.5)
    found = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert sorted(o["lai"] for o in found) == pytest.approx([4.0, 4.5])
    assert looked == [3, 2]


def test_item_that_is_replaced_whenever_it_is_read_is_read_all_the_same(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def change_first(results: list, *given: object) -> object:
        looked.append(len(results))
        item = results[0].item
        folder = make_result(item["id"], item["properties"]["datetime"], offset=len(looked))
        published.post("/publish", json={"directory": str(folder)})
        return observe(results, *given)

    monkeypatch.setattr(timeseries, "observe", change_first)
    lon, lat = lonlat(20.5, 30.5)
    answer = published.get(f"/timeseries?lon={lon}&lat={lat}")
    assert (answer.status_code, looked) == (200, [3])


def test_what_was_read_of_a_newer_version_is_not_kept_for_the_older(
    published: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def replace_first(results: list, *given: object) -> object:
        item = results[0].item
        looked.append(len(results))
        if len(looked) == 1:
            folder = make_result(item["id"], item["properties"]["datetime"], offset=9.0)
            published.post("/publish", json={"directory": str(folder)})
        return observe(results, *given)

    lon, lat = lonlat(20.5, 30.5)
    (before, *_) = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    timeseries._KEPT.clear()
    monkeypatch.setattr(timeseries, "observe", replace_first)
    (newer, *_) = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert newer["lai"] > 9
    folder = make_result(newer["item"], newer["datetime"])
    published.post("/publish", json={"directory": str(folder)})
    (after, *_) = published.get(f"/timeseries?lon={lon}&lat={lat}").json()["observations"]
    assert after["lai"] == pytest.approx(before["lai"])


def test_raster_that_is_damaged_is_reported_without_its_path(
    published: TestClient, settings: Settings
) -> None:
    for raster in settings.data.glob("lai/*/*/lai_sd.tif"):
        raster.write_bytes(b"II*\x00garbage")
    lon, lat = lonlat(20.5, 30.5)
    answer = published.get(f"/timeseries?lon={lon}&lat={lat}")
    assert answer.status_code == 500
    assert "lai-service repair" in answer.json()["description"]
    assert str(settings.data) not in answer.text
