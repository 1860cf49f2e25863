"""The SQLite catalogue over a long life: extents, connections, files of older programs."""

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.fake_items import collection, numbered_item, stac_item

from lai_service.catalogue import sqlite as catalogue_sqlite
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Search, SortKey
from lai_service.catalogue.sqlite import SqliteCatalogue
from lai_service.catalogue.sqlite_file import compute_extent, extent_document
from lai_service.errors import CatalogueBusyError


def item(number: int, west: float, day: int, *, placed: bool = True) -> Document:
    made = stac_item(f"item-{number}", f"2024-06-{day:02d}T10:00:00Z")
    ring = [[west, 47.0], [west + 0.5, 47.0], [west + 0.5, west % 7 + 48], [west, 47.0]]
    made["geometry"] = {"type": "Polygon", "coordinates": [ring]} if placed else None
    return made


def extent_read(catalogue: SqliteCatalogue) -> Document:
    return catalogue.collection("lai")["extent"]


def extent_of_all(catalogue: SqliteCatalogue) -> Document:
    """Return the extent made anew from every item."""
    with catalogue._connections.reading() as connection:
        return extent_document(compute_extent(connection, "lai"))


WRITES = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove"]),
        st.integers(0, 4),
        st.integers(-20, 20),
        st.integers(1, 30),
        st.booleans(),
    ),
    max_size=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(writes=WRITES, read_between=st.booleans())
def test_extent_is_that_of_all_items_whatever_was_written(
    sqlite_catalogue: SqliteCatalogue,
    writes: list[tuple[str, int, int, int, bool]],
    read_between: bool,
) -> None:
    sqlite_catalogue.put_collection(collection(), "upsert")
    there: set[int] = set()
    for kind, number, west, day, placed in writes:
        if kind == "put":
            made = item(number, west, day, placed=placed)
            sqlite_catalogue.put_items("lai", [made], "upsert")
            there.add(number)
        elif number in there:
            sqlite_catalogue.remove_item("lai", f"item-{number}")
            there.remove(number)
        if read_between:
            extent_read(sqlite_catalogue)
    found, expected = extent_read(sqlite_catalogue), extent_of_all(sqlite_catalogue)
    if there:
        assert found["temporal"] == expected["temporal"]
    if "spatial" in expected:  # the R*Tree rounds outwards, to 32 bits
        assert found["spatial"]["bbox"][0] == pytest.approx(expected["spatial"]["bbox"][0], 1e-5)
    else:
        assert found["spatial"] == collection()["extent"]["spatial"]
    sqlite_catalogue.remove_collection("lai")


def test_extent_is_kept_and_not_made_anew_after_a_write(
    sqlite_catalogue: SqliteCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_catalogue.put_collection(collection(), "insert")
    sqlite_catalogue.put_items("lai", [item(1, 5, 1), item(2, 9, 9)], "insert")
    monkeypatch.delattr("lai_service.catalogue.sqlite.compute_extent")
    assert extent_read(sqlite_catalogue)["spatial"]["bbox"][0][2] == 9.5
    sqlite_catalogue.put_items("lai", [item(3, 12, 4)], "insert")
    assert extent_read(sqlite_catalogue)["spatial"]["bbox"][0][2] == 12.5


def test_file_of_the_first_schema_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    catalogue = SqliteCatalogue(path)
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [item(1, 5, 1)], "insert")
    catalogue.close()
    with sqlite3.connect(path) as connection:
        connection.execute("drop table extents")
        connection.execute("pragma user_version = 1")
    connection.close()

    again = SqliteCatalogue(path)
    assert extent_read(again)["spatial"]["bbox"][0] == pytest.approx([5, 47, 5.5, 53], 1e-5)
    again.close()


def test_threads_that_come_and_go_leave_no_connections(sqlite_catalogue: SqliteCatalogue) -> None:
    def open_files() -> int:
        name = "catalogue.sqlite"
        links = [Path("/proc/self/fd") / number.name for number in Path("/proc/self/fd").iterdir()]
        return sum(name in str(link.readlink()) for link in links if link.is_symlink())

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files are counted in /proc")
    before = open_files()  # catalogues of other tests may still be open
    for _ in range(40):
        reader = threading.Thread(target=sqlite_catalogue.search, args=(Search(),))
        reader.start()
        reader.join()
    assert open_files() <= before + 3  # one connection: the file, its WAL, its shared memory


def test_writer_that_waits_too_long_is_refused_and_readers_continue(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    catalogue = SqliteCatalogue(path, busy_timeout_s=0.05)
    catalogue.put_collection(collection(), "insert")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(CatalogueBusyError):
        catalogue.put_items("lai", [item(1, 5, 1)], "insert")
    assert catalogue.search(Search()).items == []
    other.execute("rollback")
    other.close()
    assert catalogue.put_items("lai", [item(1, 5, 1)], "insert") == ["created"]
    catalogue.close()


def test_count_that_takes_too_long_is_left_out(
    sqlite_catalogue: SqliteCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_catalogue.put_collection(collection(), "insert")
    sqlite_catalogue.put_items("lai", [item(n, 5, 1) for n in range(300)], "insert")
    assert sqlite_catalogue.quick_count(Search()) == 300
    monkeypatch.setattr("lai_service.catalogue.sqlite.QUICK_MS", 0)
    slow = Search(filter={"op": "=", "args": [{"property": "eo:cloud_cover"}, 1]})
    assert sqlite_catalogue.quick_count(slow) is None
    assert sqlite_catalogue.count(slow) == 0


def test_catalogue_survives_a_restart(tmp_path: Path) -> None:
    first = SqliteCatalogue(tmp_path / "c.sqlite")
    first.put_collection(collection(), "insert")
    first.put_items("lai", [numbered_item(1)], "insert")
    first.backup(tmp_path / "copy.sqlite")
    first.close()
    for name in ("c.sqlite", "copy.sqlite"):
        again = SqliteCatalogue(tmp_path / name)
        assert again.item("lai", "item-001")["properties"] == numbered_item(1)["properties"]
        again.close()


@pytest.mark.parametrize("sort", [(), (SortKey("laiq:lai_mean"),)])
def test_crowded_places_are_searched_with_the_same_result(
    sqlite_catalogue: SqliteCatalogue, monkeypatch: pytest.MonkeyPatch, sort: tuple
) -> None:
    sqlite_catalogue.put_collection(collection(), "insert")
    items = [numbered_item(n, **{"laiq:lai_mean": (n * 7) % 5}) for n in range(20)]
    sqlite_catalogue.put_items("lai", items, "insert")
    search = Search(bbox=(2.5, 0.2, 14.5, 0.8), limit=5, sort=sort)

    def pages() -> list[str]:
        found, token = [], None
        while True:
            page = sqlite_catalogue.search(replace(search, token=token))
            found += [i["id"] for i in page.items]
            token = page.next_token
            if token is None:
                return found

    by_index = pages()
    monkeypatch.setattr(catalogue_sqlite, "_CROWD", 3)
    assert pages() == by_index
    assert len(by_index) == 13
