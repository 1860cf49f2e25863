"""What both catalogues promise beside the STAC API: exactness, atomicity, order, concurrency.

The whole STAC API, publishing and CQL2 are tested over both catalogues in the other modules of this
folder (see the fixture `database_url`).
"""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as configure
from hypothesis import strategies as st
from pydantic import SecretStr
from service.fake_items import collection, stac_item

from lai_service import Settings
from lai_service.catalogue.cql2 import filter_from_text
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue, Search, SortKey
from lai_service.errors import (
    BadRequestError,
    ConflictError,
    InvalidItemError,
    LaiServiceError,
    NotFoundError,
    SettingsError,
)

DAY = "2024-06-21T10:36:31Z"


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    catalogue.put_collection(collection(), "insert")
    return catalogue


def ids(catalogue: Catalogue, **search: Any) -> list[str]:
    return [item["id"] for item in catalogue.search(Search(**{"limit": 100, **search})).items]


def stored(catalogue: Catalogue, document: Document) -> Document:
    catalogue.put_items("lai", [document], "upsert")
    return catalogue.item("lai", document["id"])


ODD_VALUES = {
    "null": None,
    "nulls inside": {"a": None, "b": [None, {"c": None}]},
    "empty": {"a": {}, "b": [], "c": ""},
    "small": 1e-7,
    "large": 1.5e300,
    "long": 0.1 + 0.2,
    "integer": 2**53 + 1,
    "long negative integer": -(10**18) - 1,
    "negative zero": -0.0,
    "true": True,
    "text": "ä 𒍟 \\ ' \" % ? {} \u2028",
}


@pytest.mark.parametrize("name", ODD_VALUES)
def test_item_comes_back_as_it_was_given(filled: Catalogue, name: str) -> None:
    given_item = stac_item("a", DAY, **{name: ODD_VALUES[name]})
    assert stored(filled, given_item) == {**given_item, "collection": "lai"}


def test_null_datetime_of_an_interval_comes_back(filled: Catalogue) -> None:
    # pgstac drops it on the way; without it the item is no valid STAC item.
    item = stac_item("a", DAY, start_datetime="2024-06-01T00:00:00Z", end_datetime=DAY)
    item["properties"]["datetime"] = None
    assert stored(filled, item)["properties"] == item["properties"]


def test_coordinates_come_back_to_the_last_bit(filled: Catalogue) -> None:
    west, south = 0.012345678901234567, 1 / 3
    item = stac_item("a", DAY)
    ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south]]
    item["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    assert stored(filled, item)["geometry"] == item["geometry"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text("aé𒍟※%?'\"\\", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)


@configure(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(base=st.dictionaries(st.sampled_from("xy"), JSON), data=st.data())
def test_assets_come_back_whatever_the_collection_states(
    catalogue: Catalogue, settings: Settings, base: dict, data: st.DataObject
) -> None:
    catalogue.put_collection({**collection(), "item_assets": base}, "upsert")
    item = stac_item("a", DAY)
    item["assets"] = data.draw(st.dictionaries(st.sampled_from("xyz"), JSON))
    try:
        found = stored(catalogue, item)
    except InvalidItemError:  # what pgstac would give back otherwise, it refuses
        assume(not settings.database_url)
        raise
    assert found == {**item, "collection": "lai"}
    catalogue.put_collection({**collection(), "item_assets": {"x": {"later": 1}}}, "upsert")
    assert catalogue.item("lai", "a")["assets"] == item["assets"]


@pytest.mark.parametrize(
    ("of_collection", "of_item"),
    [
        ("text", {}),
        ([None, False], {}),
        (True, 1),
        ({"nodata": 0}, {"nodata": None}),
        ({"roles": ["data"]}, {"roles": []}),
    ],
)
def test_an_asset_is_stored_as_given_or_refused(
    catalogue: Catalogue, of_collection: object, of_item: object
) -> None:
    catalogue.put_collection({**collection(), "item_assets": {"x": of_collection}}, "upsert")
    item = {**stac_item("a", DAY), "assets": {"x": of_item}}
    try:
        catalogue.put_items("lai", [item], "insert")
    except InvalidItemError:  # pgstac would give back what the collection has
        assert ids(catalogue) == []
    else:
        assert json.dumps(catalogue.item("lai", "a")["assets"]) == json.dumps(item["assets"])


def test_writes_return_what_they_did(filled: Catalogue) -> None:
    first, second = stac_item("a", DAY), stac_item("b", DAY)
    assert filled.put_items("lai", [first, second], "insert") == ["created", "created"]
    changed = stac_item("b", DAY, note="new")
    assert filled.put_items("lai", [first, changed], "upsert") == ["unchanged", "updated"]
    assert filled.put_items("lai", [changed, second], "upsert") == ["unchanged", "updated"]
    assert filled.item("lai", "b")["properties"] == second["properties"]
    assert filled.put_collection(collection(), "upsert") == "unchanged"
    assert filled.put_collection({**collection(), "title": "T"}, "replace") == "updated"


@pytest.mark.parametrize(
    ("mode", "names", "error"),
    [
        ("insert", ["new", "old"], ConflictError),
        ("insert", ["new", "new"], ConflictError),
        ("replace", ["old", "new"], NotFoundError),
    ],
)
def test_writes_that_fail_store_nothing(
    filled: Catalogue, mode: Any, names: list[str], error: type[LaiServiceError]
) -> None:
    filled.put_items("lai", [stac_item("old", DAY)], "insert")
    with pytest.raises(error):
        filled.put_items("lai", [stac_item(name, DAY, note="x") for name in names], mode)
    assert ids(filled) == ["old"]
    assert "note" not in filled.item("lai", "old")["properties"]


def test_item_of_the_same_id_twice_in_one_upsert_is_the_last(filled: Catalogue) -> None:
    twice = [stac_item("a", DAY, note="first"), stac_item("a", DAY, note="last")]
    assert filled.put_items("lai", twice, "upsert") == ["created", "updated"]
    assert filled.item("lai", "a")["properties"]["note"] == "last"


@pytest.mark.parametrize(
    "properties",
    [{"datetime": "yesterday"}, {"datetime": None}, {"x": math.nan}, {"x": "\ud800"}],
    ids=["bad time", "no time", "nan", "half a pair"],
)
def test_item_that_cannot_be_stored_is_refused(filled: Catalogue, properties: dict) -> None:
    item = stac_item("a", DAY)
    item["properties"] |= properties
    with pytest.raises(InvalidItemError):
        filled.put_items("lai", [stac_item("b", DAY), item], "insert")
    assert ids(filled) == []


def test_unknown_collections_and_items_are_not_found(catalogue: Catalogue) -> None:
    item = stac_item("a", DAY)
    for action in (
        lambda: catalogue.collection("nothing"),
        lambda: catalogue.put_items("nothing", [item], "insert"),
        lambda: catalogue.item("nothing", "a"),
        lambda: catalogue.change_item("nothing", "a", dict),
        lambda: catalogue.remove_item("nothing", "a"),
        lambda: catalogue.remove_collection("nothing"),
        lambda: catalogue.change_collection("nothing", dict),
        lambda: catalogue.put_collection(collection("nothing"), "replace"),
    ):
        with pytest.raises(NotFoundError):
            action()


def test_collection_made_again_is_empty(filled: Catalogue) -> None:
    filled.put_items("lai", [stac_item("a", DAY)], "insert")
    filled.remove_collection("lai")
    filled.put_collection(collection(), "insert")
    assert ids(filled) == []
    assert filled.collection("lai") == collection()


# One value of each kind in the same place: a filter or a sort order must not fail on any of them.
MIXED: list[object] = [
    3,
    2.5,
    "3",
    "abc",
    "",
    True,
    None,
    [1],
    {"a": 1},
    "2024-02-30",
    "2024-02-29",
]


@pytest.fixture
def mixed(filled: Catalogue) -> Catalogue:
    items = [stac_item(f"i{n:02d}", DAY, mixed=value) for n, value in enumerate(MIXED)]
    filled.put_items("lai", [*items, stac_item("i99", DAY)], "insert")
    return filled


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mixed > 2", {"i00", "i01"}),
        ("mixed = 3", {"i00"}),
        ("mixed = '3'", {"i02"}),
        ("mixed >= 'abc'", {"i03"}),
        ("mixed LIKE 'a%'", {"i03"}),
        ("mixed IN (2.5, 'abc')", {"i01", "i03"}),
        ("mixed IS NULL", {"i06", "i99"}),
        ("mixed * 2 > 5", {"i00"}),
        ("mixed / 0 > 1", set()),
        ("mixed > TIMESTAMP('2024-01-01T00:00:00Z')", {"i10"}),
        ("mixed < DATE('2024-03-01') AND mixed > DATE('2024-02-01')", {"i10"}),
        ("assets.lai.href = 'x'", set()),
        ("datetime > '2024-06-21T10:36:30Z' AND id < 'i02'", {"i00", "i01"}),
    ],
)
def test_filter_does_not_fail_on_a_value_of_another_kind(
    mixed: Catalogue, text: str, expected: set[str]
) -> None:
    found = set(ids(mixed, filter=filter_from_text(text)))
    odd = {"i07", "i08", "i09", "i05"} - expected  # lists, objects, no such day, true: not compared
    assert found - odd == expected


@pytest.mark.sqlite_only
@pytest.mark.parametrize("descending", [False, True])
def test_items_of_every_kind_are_paged_once(mixed: Catalogue, descending: bool) -> None:
    search = Search(sort=(SortKey("mixed", descending),), limit=3)
    whole = ids(mixed, sort=search.sort)
    seen, token = [], None
    while True:
        page = mixed.search(Search(sort=search.sort, limit=3, token=token))
        seen += [item["id"] for item in page.items]
        token = page.next_token
        if token is None:
            break
    assert seen == whole
    assert len(set(whole)) == len(MIXED) + 1
    lacking = whole[-2:] if descending else whole[:2]
    assert set(lacking) == {"i06", "i99"}


@pytest.mark.sqlite_only
def test_page_goes_on_after_the_last_item_is_gone(filled: Catalogue) -> None:
    days = [stac_item(f"i{n}", f"2024-06-0{n + 1}T00:00:00Z") for n in range(6)]
    filled.put_items("lai", days, "insert")
    page = filled.search(Search(limit=2))
    assert [item["id"] for item in page.items] == ["i5", "i4"]
    filled.remove_item("lai", "i4")
    assert ids(filled, token=page.next_token) == ["i3", "i2", "i1", "i0"]


@pytest.mark.parametrize(
    "search",
    [
        {"filter": {"op": "=", "args": [{"property": "id"}, "\x00"]}},
        {"filter": {"op": "=", "args": [{"property": "x"}, "\ud800"]}},
        {"filter": {"op": ">", "args": [{"property": "x"}, 10**400]}},
        {"filter": {"op": "like", "args": [{"property": "id"}, "a\\"]}},
        {"ids": ("\x00",)},
        {"collections": ("\ud800",)},
        {"ids": ("\ud800",)},
        {"sort": (SortKey("\ud800"),), "ids": ("b",)},
    ],
)
def test_odd_text_and_numbers_find_nothing_or_are_refused(filled: Catalogue, search: dict) -> None:
    filled.put_items("lai", [stac_item("a", DAY, x=1)], "insert")
    try:
        found = ids(filled, **search)
    except BadRequestError:
        found = []
    assert found == []


def test_times_are_compared_to_the_microsecond(filled: Catalogue) -> None:
    filled.put_items("lai", [stac_item("a", "2024-06-21T10:36:31.000001Z")], "insert")
    second = 1718966191 * 1_000_000
    assert ids(filled, start_us=second + 1, end_us=second + 1) == ["a"]
    assert ids(filled, end_us=second) == []
    assert ids(filled, start_us=second + 2) == []


def test_writers_at_the_same_time_lose_nothing(filled: Catalogue) -> None:
    """Eight writers raise one counter forty times and add an item each time."""

    def write(number: int) -> None:
        item = stac_item(f"i{number:02d}", f"2024-06-{number % 28 + 1:02d}T00:00:00Z")
        filled.put_items("lai", [item], "insert")

        def add(old: Document) -> Document:
            count = old["properties"]["count"] + 1
            return {**old, "properties": {**old["properties"], "count": count}}

        filled.change_item("lai", "counter", add)

    filled.put_items("lai", [stac_item("counter", DAY, count=0)], "insert")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert filled.item("lai", "counter")["properties"]["count"] == 40
    assert len(ids(filled)) == 41
    assert filled.count(Search()) == 41


def test_one_of_two_that_insert_the_same_item_is_refused(filled: Catalogue) -> None:
    def insert(number: int) -> bool:
        try:
            filled.put_items("lai", [stac_item("a", DAY, number=number)], "insert")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(insert, range(12))) == 1


def test_two_kinds_of_database_exclude_each_other(settings: Settings) -> None:
    both = {"database": settings.data / "x.sqlite", "database_url": SecretStr("postgresql://x/y")}
    with pytest.raises(SettingsError):
        open_catalogue(settings.model_copy(update=both))
