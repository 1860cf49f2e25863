"""What anybody may send costs little: sizes, depth, vertices, pictures, and what is kept."""

import errno
import json
import math
import os
import threading
from collections.abc import Callable
from dataclasses import astuple
from itertools import count
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.fake_items import TOKEN, collection, numbered_item, publish

from lai_service import Settings, create_app
from lai_service.api import timeseries
from lai_service.api.limits import MAX_DEPTH, MAX_READ_BYTES, MAX_VERTICES, check_json
from lai_service.api.places import MAX_PLACES

Make = Callable[..., Path]


def circle(vertices: int) -> dict:
    angles = [2 * math.pi * number / vertices for number in range(vertices)]
    ring = [[5 + math.cos(angle), 0.5 + math.sin(angle)] for angle in angles]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


def nested(depth: int) -> dict:
    node: object = True
    for _ in range(depth):
        node = {"op": "not", "args": [node]}
    return {"filter-lang": "cql2-json", "filter": node}


@pytest.mark.parametrize("route", ["/search", "/timeseries", "/aggregate"])
def test_body_that_needs_no_token_is_small(client: TestClient, route: str) -> None:
    body = json.dumps({"note": "x" * MAX_READ_BYTES})
    assert client.post(route, content=body).status_code == 413


@pytest.mark.parametrize(
    ("route", "member"), [("/search", "intersects"), ("/timeseries", "geometry")]
)
def test_polygon_of_very_many_vertices_is_refused(
    client: TestClient, route: str, member: str
) -> None:
    answer = client.post(route, json={member: circle(MAX_VERTICES + 1)})
    assert answer.status_code == 400


def test_a_polygon_of_400_000_vertices_is_refused_before_it_is_read(client: TestClient) -> None:
    answer = client.post("/timeseries", json={"geometry": circle(400_000)})
    assert answer.status_code in (400, 413)
    assert answer.json()["description"]


def test_thousands_of_parcels_are_refused(client: TestClient) -> None:
    place = {"type": "Feature", "properties": {}, "geometry": circle(3)}
    parcels = {"type": "FeatureCollection", "features": [place] * (MAX_PLACES + 1)}
    answer = client.post("/timeseries", json={"geometry": parcels})
    assert answer.status_code == 400


def test_polygon_of_many_vertices_finds_what_it_meets(filled: TestClient) -> None:
    found = filled.post("/search", json={"intersects": circle(5000), "limit": 50}).json()
    assert found["numberReturned"] == 3


def test_filter_of_any_depth_is_answered(filled: TestClient, subtests: pytest.Subtests) -> None:
    for depth in [20, MAX_DEPTH, 100, 190, 400, 5000]:
        with subtests.test(depth=depth):
            text = '{"op":"not","args":[' * depth + "true" + "]}" * depth
            body = '{"filter-lang":"cql2-json","filter":' + text + "}"
            answer = filled.post(
                "/search", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == (200 if depth == 20 else 400)


def test_depth_is_found_without_recursion() -> None:
    check_json(nested(MAX_DEPTH // 2 - 2))
    with pytest.raises(ValueError, match="nested"):
        check_json(nested(100_000))


def test_body_of_very_many_values_is_refused(client: TestClient, subtests: pytest.Subtests) -> None:
    for route in ["/search", "/timeseries", "/aggregate"]:
        with subtests.test(route=route):
            answer = client.post(route, json={"note": [[]] * 100_000})
            assert answer.status_code == 400


def test_page_holds_a_thousand_items_whatever_is_asked_for(writer: TestClient) -> None:
    writer.post("/collections", json=collection())
    items = {f"n{n}": {**numbered_item(n % 90), "id": f"n{n}"} for n in range(1001)}
    assert writer.post("/collections/lai/bulk_items", json={"items": items}).status_code == 200
    page = writer.get("/search?limit=9000").json()
    assert page["numberReturned"] == 1000
    assert "next" in {link["rel"] for link in page["links"]}


def test_picture_that_would_take_much_memory_is_refused(
    writer: TestClient, make_result: Make, subtests: pytest.Subtests
) -> None:
    href = publish(writer, make_result()).json()["assets"]["lai"]["href"]
    for query in [
        "preview.png?max_size=100000",
        "preview.png?width=9000&height=9000",
        "bbox/11,47,12,48/9000x9000.png?",
        "preview.png?" + "bidx=1&" * 100,
        "preview.png?expression=" + "b1*" * 100 + "b1",
        "statistics?histogram_bins=100000000",
        "preview.png?max_size=many",
    ]:
        with subtests.test(query=query):
            assert writer.get(f"/cog/{query}&url={href}").status_code in (400, 422)


def test_what_is_kept_of_a_series_holds_no_geometry_and_no_array(
    writer: TestClient, make_result: Make
) -> None:
    item = publish(writer, make_result()).json()
    west, south, east, north = item["bbox"]
    timeseries._KEPT.clear()
    step = (east - west) / 100
    for number in range(30):
        lon, lat = west + (number + 30) * step, (south + north) / 2
        assert writer.get(f"/timeseries?lon={lon}&lat={lat}").status_code == 200
    assert len(timeseries._KEPT) == 30
    for key, rows in timeseries._KEPT.items():
        assert len(key) == 32
        values = {type(value) for own in rows for row in own for value in astuple(row)}
        assert values <= {str, float, int, type(None)}
    assert timeseries._KEPT.maxsize < 10**6


def test_pipe_among_the_files_is_refused_at_once(writer: TestClient, make_result: Make) -> None:
    folder = make_result()
    (folder / "lai_sd.tif").unlink()
    os.mkfifo(folder / "lai_sd.tif")
    answers = []
    bodies = ({"directory": str(folder)}, {"cogs": str(folder)}, {"results": str(folder)})
    for body in bodies:
        ask = threading.Thread(
            target=lambda b=body: answers.append(writer.post("/publish", json=b)), daemon=True
        )
        ask.start()
        ask.join(20)
    assert [answer.status_code for answer in answers] == [422, 422, 422]


def test_raster_larger_than_any_tile_is_refused(
    writer: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lai_service.files.storage.MAX_RASTER_PIXELS", 64 * 64 - 1)
    folder = make_result()
    for kind in ("directory", "cogs", "results"):
        answer = writer.post("/publish", json={kind: str(folder)})
        assert answer.status_code == 422


@pytest.mark.parametrize("step", ["mkdir", "fsync", "rename"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_full_disk_at_any_step_is_answered_507_and_what_was_there_stays(
    writer: TestClient,
    make_result: Make,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    step: str,
    call: int,
) -> None:
    publish(writer, make_result())
    before = {path: path.read_bytes() for path in settings.data.glob("lai/**/*") if path.is_file()}
    updated, calls = make_result(offset=1.0), count(1)
    real = getattr(os, step)

    def full(*given: object, **named: object) -> object:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given, **named)

    with monkeypatch.context() as disk:
        disk.setattr(os, step, full)
        answer = publish(writer, updated)
    if answer.status_code == 200:  # fewer calls than that, or a folder that was there
        assert answer.headers["LAI-Publish-Outcome"] == "updated"
        return
    assert answer.status_code == 507
    after = {path: path.read_bytes() for path in settings.data.glob("lai/**/*") if path.is_file()}
    assert after == before
    assert publish(writer, updated).headers["LAI-Publish-Outcome"] == "updated"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_missing_rights_are_answered_in_one_sentence_without_the_path(
    writer: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: object, *given: object, **named: object) -> object:
        raise OSError(number, os.strerror(number), str(path))

    folder = make_result()
    monkeypatch.setattr(os, "mkdir", refuse)
    answer = publish(writer, folder)

    assert (answer.status_code, answer.json()["code"]) == (500, "NoPermission")
    assert "/" not in answer.json()["description"]


def test_full_disk_under_the_catalogue_is_answered_507(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", token=TOKEN, browser=tmp_path / "none")
    with TestClient(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        client.post("/collections", json=collection())
        catalogue = client.app.state.catalogue  # type: ignore[attr-defined]
        with catalogue._connections.reading() as connection:
            connection.execute("pragma max_page_count = 1")
        item = numbered_item(1, note="x" * 1_000_000)
        answer = client.post("/collections/lai/items", json=item)
        assert answer.status_code == 507
        assert client.get("/search").json()["features"] == []


def test_read_only_data_root_is_served_and_not_written(
    tmp_path: Path, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir(exist_ok=True)
    settings = Settings(
        data=tmp_path / "data",
        allowed_roots=(tmp_path / "results",),
        token=TOKEN,
        browser=tmp_path / "none",
    )
    with TestClient(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        href = publish(client, make_result()).json()["assets"]["lai"]["href"]

    def files() -> list[Path]:
        return sorted((tmp_path / "data").rglob("*"))

    before = files()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with TestClient(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        found = client.get("/search").json()["features"]
        assert [item["id"] for item in found] == ["lai_s2_32tpu_20240621"]
        assert client.get("/collections/lai").json()["extent"]["temporal"]
        assert client.get(href).status_code == 200
        refused = publish(client, make_result("other", "2024-07-01T00:00:00Z"))
        assert refused.status_code == 403
    assert files() == before


def test_raster_and_picture_may_be_kept_by_whoever_got_them(
    writer: TestClient, make_result: Make
) -> None:
    href = publish(writer, make_result()).json()["assets"]["lai"]["href"]
    raster = writer.get(href, headers={"Accept-Encoding": "gzip"})
    assert "immutable" in raster.headers["Cache-Control"]
    assert "Content-Encoding" not in raster.headers
    address = f"/cog/preview.png?rescale=0,6000&url={href}"
    picture = writer.get(address)
    assert "max-age" in picture.headers["Cache-Control"]
    again = {"If-None-Match": picture.headers["ETag"]}
    assert writer.get(address, headers=again).status_code == 304
    assert (
        writer.get(
            f"/cog/preview.png?max_size=9&rescale=0,6000&url={href}", headers=again
        ).status_code
        == 200
    )
    kept = writer.get(href, headers={"If-None-Match": raster.headers["ETag"]})
    assert kept.status_code == 304


def test_page_of_items_is_packed_for_whom_it_suits(filled: TestClient) -> None:
    packed = filled.get("/search?limit=12", headers={"Accept-Encoding": "gzip"})
    plain = filled.get("/search?limit=12", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 4


def test_landing_page_names_every_collection_as_a_child(filled: TestClient) -> None:
    links = filled.get("/").json()["links"]
    children = [link["href"] for link in links if link["rel"] == "child"]
    assert [filled.get(href).json()["id"] for href in children] == ["lai"]
