"""Extents of collections follow their items, in both catalogues, round the world as well."""

import sqlite3
from contextlib import closing

import pytest
from service.fake_items import collection, numbered_item, stac_item

from lai_service import Settings
from lai_service.catalogue.databases import open_catalogue
from lai_service.catalogue.items import Document
from lai_service.catalogue.port import Catalogue

DAY = "2024-06-21T10:36:31Z"


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    catalogue.put_collection(collection(), "insert")
    return catalogue


def test_extent_follows_the_items_whoever_writes_them(
    catalogue: Catalogue, settings: Settings
) -> None:
    other = open_catalogue(settings)
    catalogue.put_collection(collection(), "insert")
    catalogue.put_items("lai", [numbered_item(1)], "insert")

    def east() -> float:
        return catalogue.collection("lai")["extent"]["spatial"]["bbox"][0][2]

    assert east() == pytest.approx(1.9)
    other.put_items("lai", [numbered_item(5)], "insert")
    assert east() == pytest.approx(5.9)
    other.remove_item("lai", "item-005")
    assert east() == pytest.approx(1.9)
    other.close()


def item_between(item_id: str, *spans: tuple[float, float]) -> Document:
    """Return an item whose footprint lies between these longitudes, cut at ±180°."""
    parts = [[[[w, 0], [e, 0], [e, 1], [w, 1], [w, 0]]] for w, e in spans]
    return {**stac_item(item_id, DAY), "geometry": {"type": "MultiPolygon", "coordinates": parts}}


@pytest.mark.parametrize(
    ("spans", "west", "east"),
    [
        ([[(179, 180), (-180, -178)]], 179, -178),
        ([[(175, 180)], [(-180, -178)], [(170, 171)]], 170, -178),
        ([[(179, 180), (-180, -178)], [(-20, 10)]], 179, 10),
        ([[(-180, 180)], [(179, 180), (-180, -178)]], -180, 180),
        ([[(-180, -90)], [(-90, 0)], [(0, 90)], [(90, 180)]], -180, 180),
        ([[(-150, -140)], [(170, 175)]], -150, 175),
    ],
)
def test_extent_goes_the_shorter_way_round_the_world(
    filled: Catalogue, spans: list, west: float, east: float
) -> None:
    items = [item_between(f"i{number}", *each) for number, each in enumerate(spans)]

    def edges() -> tuple[float, ...]:
        return tuple(filled.collection("lai")["extent"]["spatial"]["bbox"][0])

    for item in items:
        filled.put_items("lai", [item], "insert")
        assert edges()
    assert edges() == pytest.approx((west, 0, east, 1))
    filled.put_items("lai", [item_between("beside", (12, 13))], "insert")
    assert edges()[0] in (west, pytest.approx(12))
    filled.remove_item("lai", "beside")
    assert edges() == pytest.approx((west, 0, east, 1))


@pytest.mark.sqlite_only
def test_extent_of_an_earlier_release_becomes_the_shorter_one(
    filled: Catalogue, settings: Settings
) -> None:
    filled.put_items("lai", [item_between("a", (179, 180), (-180, -178))], "insert")
    with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as file:
        file.execute("insert or replace into extents values ('lai', 0, 1, -180, 180, 0, 1)")
    later = open_catalogue(settings)
    assert later.collection("lai")["extent"]["spatial"]["bbox"] == [[179, 0, -178, 1]]
    later.close()
