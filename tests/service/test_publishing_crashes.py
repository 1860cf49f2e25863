"""A crash at any point of publishing leaves nothing or everything, and repair the rest."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.fake_items import publish, stored_files

from lai_service import Settings
from lai_service.catalogue.port import Catalogue
from lai_service.errors import CatalogueBusyError
from lai_service.files import storage
from lai_service.files.published_files import PublishedFiles
from lai_service.files.publishing import Publisher
from lai_service.ops import upkeep
from lai_service.ops.upkeep import repair_data

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Make = Callable[..., Path]
ITEM = "lai_s2_32tpu_20240621"


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
    publisher.publish(make_result())
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
            publisher.publish(updated)
    monkeypatch.undo()

    assert catalogue.item("lai", ITEM) == item_before
    assert all(path.is_file() for path in before)
    report = repair_data(catalogue, settings.data)
    assert report.removed
    assert not report.broken
    assert stored_files(settings) == before
    assert publisher.publish(updated).outcome == "updated"


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
        publisher.publish(make_result())

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
        publisher.publish(make_result())
    assert stored_files(settings) == []


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
    publisher.publish(make_result())
    report = repair_data(catalogue, settings.data)
    assert (report.removed, report.broken) == ((), ())


def test_repair_goes_on_where_an_item_was_deleted_meanwhile(
    make_result: Make,
    settings: Settings,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher = Publisher(catalogue, settings.data, settings.allowed_roots)
    publisher.publish(make_result())
    held = storage.locked

    @contextmanager
    def late(data: Path, collection_id: str, item_id: str) -> Iterator[None]:
        with held(data, collection_id, item_id):
            catalogue.remove_item(collection_id, item_id)
            storage.remove_item_files(data, collection_id, item_id)
            yield

    monkeypatch.setattr(upkeep, "locked", late)
    report = repair_data(catalogue, settings.data)
    assert (report.removed, report.broken) == ((), ())
