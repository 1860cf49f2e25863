"""What only the pgstac catalogue promises: other programs of pgstac share its database."""

from collections.abc import Iterator

import pytest
from service.fake_items import collection, stac_item

from lai_service.catalogue.cql2 import filter_from_text
from lai_service.catalogue.cql2_sql import INDEXED
from lai_service.catalogue.port import Catalogue, Search
from lai_service.errors import BadRequestError, InvalidItemError, SettingsError

psycopg = pytest.importorskip("psycopg", reason="the extra 'pgstac' is not installed")
pytestmark = pytest.mark.postgres

DAY = "2024-06-21T10:36:31Z"
ITEM_ASSETS = {"lai": {"title": "LAI", "roles": ["data"]}, "lai_sd": {"title": "SD"}}


@pytest.fixture(params=["pgstac"])
def database_url(request: pytest.FixtureRequest, postgres: str) -> str:
    with psycopg.connect(postgres) as connection:
        there = connection.execute("select to_regclass('pgstac.collections')").fetchone()
        if there != (None,):
            connection.execute("delete from pgstac.collections")
    return postgres


@pytest.fixture
def connection(database_url: str) -> Iterator["psycopg.Connection"]:
    with psycopg.connect(
        database_url, autocommit=True, options="-c search_path=pgstac,public"
    ) as made:
        yield made


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    catalogue.put_collection({**collection(), "item_assets": ITEM_ASSETS}, "insert")
    item = stac_item("a", DAY, **{"laiq:lai_mean": 2.5})
    item["assets"] = {"lai": {"href": "a/lai.tif", "roles": ["data"]}}
    catalogue.put_items("lai", [item], "insert")
    return catalogue


def test_pgstac_itself_finds_our_items_and_adds_no_asset(
    filled: Catalogue, connection: "psycopg.Connection"
) -> None:
    search = (
        '{"filter": {"op": ">", "args": [{"property": "laiq:lai_mean"}, 2]}, '
        '"bbox": [10, 47, 11, 48], "datetime": "2024-06-01/2024-06-30"}'
    )
    row = connection.execute("select search(%s::jsonb)", (search,)).fetchone()
    (found,) = row[0]["features"]
    ours = filled.item("lai", "a")
    assert found["assets"] == ours["assets"] == {"lai": {"href": "a/lai.tif", "roles": ["data"]}}
    assert found["properties"] == ours["properties"]


def test_items_that_pgstac_stored_are_read_with_item_assets_of_the_collection(
    filled: Catalogue, connection: "psycopg.Connection"
) -> None:
    item = {**stac_item("b", "2024-07-01T00:00:00Z"), "collection": "lai"}
    item["assets"] = {key: {**asset, "href": "b.tif"} for key, asset in ITEM_ASSETS.items()}
    connection.execute("select create_item(%s)", (psycopg.types.json.Jsonb(item),))
    assert filled.item("lai", "b") == item
    assert [i["id"] for i in filled.search(Search()).items] == ["b", "a"]
    assert filled.put_items("lai", [item], "upsert") == ["unchanged"]
    changed = {**item, "assets": {"lai": item["assets"]["lai"]}}
    assert filled.put_items("lai", [changed], "replace") == ["updated"]
    assert filled.item("lai", "b")["assets"] == changed["assets"]


def test_numbers_of_the_extension_are_queryables_and_some_are_indexed(
    filled: Catalogue, connection: "psycopg.Connection"
) -> None:
    rows = connection.execute(
        "select name, property_wrapper, property_index_type from queryables "
        "where name like 'laiq:%'"
    ).fetchall()
    assert ("laiq:lai_mean", "to_float", "BTREE") in rows
    assert ("laiq:model_id", "to_text", None) in rows
    assert {name for name, _, index in rows if index} == set(INDEXED)
    defined = connection.execute("select indexdef from pg_indexes where tablename like '_items_%'")
    assert sum("laiq:lai_mean" in text for (text,) in defined) == 1


def test_searches_are_not_written_down(filled: Catalogue, connection: "psycopg.Connection") -> None:
    query = "select (select sum(usecount) from searches), sum(usecount) from search_wheres"
    before = connection.execute(query).fetchone()
    filled.search(Search(ids=("a",)))
    assert filled.count(Search(ids=("a",))) == 1
    assert connection.execute(query).fetchone() == before


@pytest.mark.parametrize(
    "text",
    [
        "laiq:lai_mean / 0 > 3",
        "platform + 1 > 3",
        "laiq:lai_mean > 'a'",
    ],
)
def test_filter_that_pgstac_cannot_compute_is_refused(filled: Catalogue, text: str) -> None:
    item = stac_item("b", DAY, platform="sentinel-2a", **{"laiq:lai_mean": 2.5})
    filled.put_items("lai", [item], "insert")
    with pytest.raises(BadRequestError):
        filled.search(Search(filter=filter_from_text(text)))


def test_page_token_whose_item_is_gone_is_refused(filled: Catalogue) -> None:
    filled.put_items("lai", [stac_item(name, DAY) for name in "bcd"], "insert")
    page = filled.search(Search(limit=2))
    filled.remove_item("lai", page.items[-1]["id"])
    with pytest.raises(BadRequestError):
        filled.search(Search(limit=2, token=page.next_token))


def test_items_of_the_catalogue_before_pgstac_wrote_them_are_read(
    filled: Catalogue, connection: "psycopg.Connection"
) -> None:
    """They hold the whole item, a mark where it lacks what the collection has, and nulls."""
    mark = "𒍟※"
    item = {**stac_item("b", DAY, note=None), "collection": "lai"}
    item["assets"] = {"lai": {"href": "b.tif", "roles": ["data"]}}
    content = {key: item[key] for key in item.keys() - {"id", "collection", "geometry", "type"}}
    content["assets"] = {"lai": {**item["assets"]["lai"], "title": mark}, "lai_sd": mark}
    connection.execute(
        "insert into items select 'b', geometry, collection, datetime, end_datetime, %s, "
        """'{"whole": true}' from items where id = 'a'""",
        (psycopg.types.json.Jsonb(content),),
    )
    assert filled.item("lai", "b") == item
    assert filled.put_items("lai", [item], "upsert") == ["unchanged"]


def test_items_are_not_counted_where_the_planner_expects_many(
    filled: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filled.quick_count(Search()) == 1
    monkeypatch.setattr("lai_service.catalogue.pgstac._COUNTABLE", 0)
    assert filled.quick_count(Search()) is None
    assert filled.count(Search()) == 1


def test_collection_kept_by_month_takes_a_batch_of_many_months(
    filled: Catalogue, connection: "psycopg.Connection"
) -> None:
    connection.execute("update collections set partition_trunc = 'month' where id = 'lai'")
    items = [stac_item(f"m{month:02d}", f"2024-{month:02d}-28T23:59:59Z") for month in range(1, 13)]
    assert filled.put_items("lai", items, "insert") == ["created"] * 12
    assert filled.put_items("lai", items, "upsert") == ["unchanged"] * 12
    assert len(filled.count_by_month(Search())) == 12
    moved = stac_item("m01", "2025-01-01T00:00:00Z")
    assert filled.put_items("lai", [moved], "replace") == ["updated"]
    assert filled.count(Search(ids=("m01",))) == 1


def test_item_without_a_geometry_is_refused(filled: Catalogue) -> None:
    item = {**stac_item("b", DAY), "geometry": None}
    del item["bbox"]
    with pytest.raises(InvalidItemError):
        filled.put_items("lai", [item], "insert")


def test_text_where_an_indexed_number_belongs_is_refused(filled: Catalogue) -> None:
    with pytest.raises(InvalidItemError):
        filled.put_items("lai", [stac_item("b", DAY, **{"laiq:lai_mean": "abc"})], "insert")
    assert filled.count(Search()) == 1


def test_text_with_a_zero_character_is_refused(filled: Catalogue) -> None:
    with pytest.raises(InvalidItemError):
        filled.put_items("lai", [stac_item("b", DAY, note="a\x00b")], "insert")


def test_database_with_another_pgstac_is_refused(
    filled: Catalogue, connection: "psycopg.Connection", database_url: str
) -> None:
    from lai_service.catalogue.pgstac import PgstacCatalogue

    connection.execute("insert into migrations (version) values ('0.9.0')")
    try:
        with pytest.raises(SettingsError):
            PgstacCatalogue(database_url)
    finally:
        connection.execute("delete from migrations where version = '0.9.0'")


def test_database_that_does_not_answer_is_named_without_its_password() -> None:
    from lai_service.catalogue.pgstac import PgstacCatalogue

    with pytest.raises(SettingsError, match="LAI_SERVICE_DATABASE_URL") as caught:
        PgstacCatalogue("postgresql://lai:hunter22@127.0.0.1:1/lai")
    assert "hunter22" not in str(caught.value)


def test_integer_that_the_loader_cannot_write_is_refused(filled: Catalogue) -> None:
    with pytest.raises(InvalidItemError):
        filled.change_item("lai", "a", lambda item: {**item, "note": 2**64})
    assert "note" not in filled.item("lai", "a")
