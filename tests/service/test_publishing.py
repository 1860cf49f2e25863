"""An item and its rasters become public together, or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from service.fake_items import SIZE

from lai_service import Settings, storage
from lai_service.catalogue import Catalogue
from lai_service.errors import CatalogueBusyError
from lai_service.published_files import PublishedFiles
from lai_service.publishing import Publisher, PublishRequest
from lai_service.repair import repair_data

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Make = Callable[..., Path]
ITEM = "lai_s2_32tpu_20240621"


def publish(client: TestClient, folder: Path) -> Any:
    return client.post("/publish", json={"directory": str(folder)})


def stored_files(settings: Settings) -> list[Path]:
    return sorted(p for p in settings.data.glob("lai/**/*") if p.is_file())


def test_published_item_is_found_and_its_raster_is_served(
    writer: TestClient, make_result: Make
) -> None:
    answer = publish(writer, make_result(**{"laiq:lai_mean": 2.5}))

    assert answer.status_code == 201, answer.text
    assert answer.headers["LAI-Publish-Outcome"] == "created"
    item = writer.get(answer.headers["Location"]).json()
    assert item["properties"]["laiq:lai_mean"] == 2.5
    raster = writer.get(item["assets"]["lai"]["href"])
    assert raster.status_code == 200
    with rasterio.MemoryFile(raster.content).open() as opened:
        assert opened.scales == (0.001,)
        assert opened.read(1)[20, 20] == 2000


def test_raster_is_served_in_ranges(writer: TestClient, make_result: Make) -> None:
    item = publish(writer, make_result()).json()
    part = writer.get(item["assets"]["lai"]["href"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"II*\x00")


def test_publishing_twice_changes_nothing(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    folder = make_result()
    first = publish(writer, folder)
    files = {p: p.stat().st_mtime_ns for p in stored_files(settings)}

    second = publish(writer, folder)

    assert (second.status_code, second.headers["LAI-Publish-Outcome"]) == (200, "unchanged")
    assert second.json() == first.json()
    assert {p: p.stat().st_mtime_ns for p in stored_files(settings)} == files


def test_new_version_replaces_the_files_of_the_old_one(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    old = publish(writer, make_result()).json()
    new = publish(writer, make_result(offset=1.0))

    assert (new.status_code, new.headers["LAI-Publish-Outcome"]) == (200, "updated")
    assert writer.get(new.json()["assets"]["lai"]["href"]).status_code == 200
    assert writer.get(old["assets"]["lai"]["href"]).status_code == 404
    assert len(stored_files(settings)) == 5


def test_item_with_its_root_is_published_like_a_folder(
    writer: TestClient, make_result: Make
) -> None:
    folder = make_result()
    item = json.loads((folder / f"{ITEM}.json").read_text())
    answer = writer.post("/publish", json={"item": item, "root": str(folder)})
    assert answer.status_code == 201
    assert publish(writer, folder).headers["LAI-Publish-Outcome"] == "unchanged"


def test_collection_is_made_with_the_first_item_and_covers_all(
    writer: TestClient, make_result: Make
) -> None:
    publish(writer, make_result(when="2024-06-21T10:36:31Z"))
    publish(writer, make_result("lai_s2_32tpu_20240701", "2024-07-01T10:36:31Z"))
    extent = writer.get("/collections/lai").json()["extent"]
    assert extent["temporal"]["interval"] == [["2024-06-21T10:36:31Z", "2024-07-01T10:36:31Z"]]


def test_deleting_an_item_removes_its_files(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    publish(writer, make_result())
    assert writer.delete(f"/collections/lai/items/{ITEM}").status_code == 204
    assert writer.get(f"/collections/lai/items/{ITEM}").status_code == 404
    assert stored_files(settings) == []


def test_item_read_from_the_service_can_be_put_back(writer: TestClient, make_result: Make) -> None:
    item = publish(writer, make_result()).json()
    item["properties"]["laiq:lai_mean"] = 3.25
    answer = writer.put(f"/collections/lai/items/{ITEM}", json=item)
    assert answer.status_code == 204, answer.text
    again = writer.get(f"/collections/lai/items/{ITEM}").json()
    assert again["assets"] == item["assets"]
    assert again["properties"]["laiq:lai_mean"] == 3.25


def test_file_beside_the_item_that_a_link_names_is_published_with_it(
    writer: TestClient, make_result: Make
) -> None:
    folder = make_result()
    (folder / "model.json").write_text("{}")
    edit(folder, lambda item: item["links"].append({"rel": "derived_from", "href": "./model.json"}))
    links = publish(writer, folder).json()["links"]
    (link,) = [link for link in links if link["rel"] == "derived_from"]
    assert writer.get(link["href"]).text == "{}"


@pytest.mark.parametrize("href", ["/home/me/scene.tif", "file:///home/me/x.tif", "../scene.tif"])
def test_link_to_a_file_of_this_machine_is_left_out(
    writer: TestClient, make_result: Make, href: str
) -> None:
    folder = make_result()
    edit(folder, lambda item: item["links"].append({"rel": "derived_from", "href": href}))
    answer = publish(writer, folder)
    assert answer.status_code == 201, answer.text
    assert "derived_from" not in [link["rel"] for link in answer.json()["links"]]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / f"{ITEM}.json"
    item = json.loads(path.read_text())
    change(item)
    path.write_text(json.dumps(item))


def _href(value: str) -> Callable[[dict[str, Any]], object]:
    return lambda item: item["assets"]["lai"].update(href=value)


BAD_ITEMS: dict[str, tuple[Callable[[dict[str, Any]], object], int, str]] = {
    "absolute": (_href("/etc/passwd"), 403, "fetches nothing"),
    "parent": (_href("../../secret.tif"), 403, "fetches nothing"),
    "encoded parent": (_href("%2e%2e/secret.tif"), 403, "fetches nothing"),
    "http": (_href("http://169.254.169.254/x.tif"), 403, "fetches nothing"),
    "vsicurl": (_href("/vsicurl/http://127.0.0.1/x.tif"), 403, "fetches nothing"),
    "vrt": (_href("./lai.vrt"), 403, "fetches nothing"),
    "file": (_href("file:///etc/passwd"), 403, "fetches nothing"),
    "missing file": (_href("./nothing.tif"), 404, "does not exist"),
    "no assets": (lambda item: item.update(assets={}), 422, "no assets"),
    "no geometry": (lambda item: item.pop("geometry"), 422, "geometry"),
    "id with slash": (lambda item: item.update(id="../../x"), 422, "id"),
    "bad time": (lambda item: item["properties"].update(datetime="yesterday"), 422, "datetime"),
    "other crs": (
        lambda item: item["properties"].update({"proj:code": "EPSG:32633"}),
        422,
        "EPSG:32633",
    ),
    "inverted bbox": (
        lambda item: item.update(bbox=[item["bbox"][n] for n in (0, 3, 2, 1)]),
        422,
        "south above its north",
    ),
    "unknown collection id": (lambda item: item.update(collection="../lai"), 422, "dot"),
    "hidden file": (_href(".hidden.tif"), 403, "fetches nothing"),
    "elsewhere": (lambda item: item.update(bbox=[10, 10, 11, 11]), 422, "bbox"),
    "bow tie": (
        lambda item: item["geometry"].update(
            coordinates=[[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]
        ),
        422,
        "geometry",
    ),
    "wrong checksum": (
        lambda item: item["assets"]["lai"].update({"file:checksum": "1220" + "0" * 64}),
        422,
        "checksum",
    ),
    "our schema": (
        lambda item: (
            item.update(
                stac_extensions=["https://sentinel2-lai.github.io/lai-quality/v1.0.0/schema.json"]
            ),
            item["properties"].update({"laiq:valid_fraction": 7}),
        ),
        422,
        "assets",
    ),
    "unknown extension": (
        lambda item: item.update(stac_extensions=["http://127.0.0.1:9/schema.json"]),
        422,
        "nothing is fetched",
    ),
    "script link": (
        lambda item: item["links"].append({"rel": "about", "href": "javascript:alert(1)"}),
        422,
        "javascript",
    ),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_item_is_refused_with_one_sentence_and_nothing_is_stored(
    case: str, writer: TestClient, make_result: Make, settings: Settings
) -> None:
    change, status, words = BAD_ITEMS[case]
    folder = make_result()
    (folder / "lai.vrt").write_text("<VRTDataset/>")
    edit(folder, change)

    answer = publish(writer, folder)

    assert answer.status_code == status, answer.text
    assert words in answer.json()["description"]
    assert writer.get("/search").json()["features"] == []
    assert stored_files(settings) == []


def test_raster_that_is_no_cog_is_refused(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    folder = make_result()
    values = np.ones((SIZE * 20, SIZE * 20), "int16")
    profile = {"driver": "GTiff", "width": SIZE * 20, "height": SIZE * 20, "count": 1}
    with rasterio.open(
        folder / "lai.tif",
        "w",
        dtype="int16",
        crs="EPSG:32632",
        transform=rasterio.transform.from_origin(600_000, 5_300_000, 1, 1),
        **profile,
    ) as raster:
        raster.write(values, 1)
    answer = publish(writer, folder)
    assert answer.status_code == 422
    assert "cloud-optimised" in answer.json()["description"]
    assert stored_files(settings) == []


@pytest.mark.parametrize("content", [b"<VRTDataset/>", b"", b"II*\x00garbage"])
def test_file_that_is_no_raster_is_refused(
    writer: TestClient, make_result: Make, content: bytes
) -> None:
    folder = make_result()
    (folder / "lai.tif").write_bytes(content)
    answer = publish(writer, folder)
    assert (answer.status_code, "GeoTIFF" in answer.json()["description"]) == (422, True)


def test_folder_outside_the_allowed_roots_is_refused(
    writer: TestClient, make_result: Make, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(make_result(), outside)
    (tmp_path / "results" / "link").symlink_to(outside)
    for path in (outside, tmp_path / "results" / ".." / "outside", tmp_path / "results" / "link"):
        answer = writer.post("/publish", json={"directory": str(path)})
        assert answer.status_code == 403, path


def test_link_to_a_file_outside_is_not_followed(
    writer: TestClient, make_result: Make, tmp_path: Path
) -> None:
    folder = make_result()
    (tmp_path / "secret.tif").write_bytes((folder / "lai.tif").read_bytes())
    (folder / "lai.tif").unlink()
    (folder / "lai.tif").symlink_to(tmp_path / "secret.tif")
    assert publish(writer, folder).status_code == 403


def test_item_json_that_is_not_utf8_is_refused(writer: TestClient, make_result: Make) -> None:
    folder = make_result()
    (folder / f"{ITEM}.json").write_bytes(b'{"id": "\xff\xfe"}')
    answer = publish(writer, folder)
    assert (answer.status_code, "UTF-8" in answer.json()["description"]) == (422, True)


class SimulatedCrashError(BaseException):
    """Like a kill: no handler of the program may catch it."""


@pytest.mark.parametrize("step", ["copy", "rename", "record"])
def test_crash_at_any_step_leaves_nothing_or_everything(
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    make_result: Make,
    settings: Settings,
    catalogue: Catalogue,
) -> None:
    publisher = Publisher(catalogue, settings.data, settings.allowed_roots)
    publisher.publish(PublishRequest(directory=make_result()))
    before, item_before = stored_files(settings), catalogue.item("lai", ITEM)
    updated = make_result(offset=1.0)

    def die(*_: object) -> None:
        raise SimulatedCrashError

    # A real crash runs no clean-up, so the clean-up is taken away as well.
    monkeypatch.setattr(storage.shutil, "rmtree", lambda *_, **__: None)
    with monkeypatch.context() as broken:
        if step == "copy":
            broken.setattr(storage.os, "fsync", die)
        elif step == "rename":
            broken.setattr(storage.os, "rename", die)
        else:
            broken.setattr(catalogue, "put_items", die)
        with pytest.raises(SimulatedCrashError):
            publisher.publish(PublishRequest(directory=updated))
    monkeypatch.undo()

    assert catalogue.item("lai", ITEM) == item_before
    assert all(path.is_file() for path in before)
    report = repair_data(catalogue, settings.data)
    assert report.removed
    assert not report.broken
    assert stored_files(settings) == before
    assert publisher.publish(PublishRequest(directory=updated)).outcome == "updated"


def test_files_stay_where_the_item_was_stored_and_the_answer_was_lost(
    monkeypatch: pytest.MonkeyPatch, make_result: Make, settings: Settings, catalogue: Catalogue
) -> None:
    put_items = catalogue.put_items

    def store_and_lose_the_answer(*given: object) -> None:
        put_items(*given)
        raise CatalogueBusyError("the connection was lost")

    monkeypatch.setattr(catalogue, "put_items", store_and_lose_the_answer)
    publisher = Publisher(catalogue, settings.data, settings.allowed_roots)
    with pytest.raises(CatalogueBusyError):
        publisher.publish(PublishRequest(directory=make_result()))

    report = repair_data(catalogue, settings.data)
    assert (report.removed, report.broken) == ((), ())
    assert len(stored_files(settings)) == 5


def test_files_go_where_the_item_was_not_stored(
    monkeypatch: pytest.MonkeyPatch, make_result: Make, settings: Settings, catalogue: Catalogue
) -> None:
    def refuse(*_: object) -> None:
        raise CatalogueBusyError("another writer")

    monkeypatch.setattr(catalogue, "put_items", refuse)
    publisher = Publisher(catalogue, settings.data, settings.allowed_roots)
    with pytest.raises(CatalogueBusyError):
        publisher.publish(PublishRequest(directory=make_result()))
    assert stored_files(settings) == []


def test_files_of_a_replaced_version_are_not_put_back(
    writer: TestClient, make_result: Make
) -> None:
    publish(writer, make_result())
    old = writer.get(f"/collections/lai/items/{ITEM}").json()
    publish(writer, make_result(offset=1.0))
    answer = writer.put(f"/collections/lai/items/{ITEM}", json=old)
    assert (answer.status_code, "not published" in answer.json()["description"]) == (422, True)


def test_file_that_goes_after_it_was_found_is_404(
    writer: TestClient, make_result: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(writer, make_result())
    href = writer.get(f"/collections/lai/items/{ITEM}").json()["assets"]["lai"]["href"]
    find = PublishedFiles.lookup_path

    def find_and_remove(self: PublishedFiles, path: str) -> tuple[str, os.stat_result | None]:
        found = find(self, path)
        Path(found[0]).unlink()
        return found

    monkeypatch.setattr(PublishedFiles, "lookup_path", find_and_remove)
    answer = writer.get(href)
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFound")


def test_repair_finds_nothing_where_nothing_broke(
    make_result: Make, settings: Settings, catalogue: Catalogue
) -> None:
    publisher = Publisher(catalogue, settings.data, settings.allowed_roots)
    publisher.publish(PublishRequest(directory=make_result()))
    report = repair_data(catalogue, settings.data)
    assert (report.removed, report.broken) == ((), ())
