"""The Fields extension: what was asked for is shown, and what identifies the item."""

import pytest
from fastapi.testclient import TestClient

IDENTITY = {"type", "stac_version", "id", "collection"}
DEFAULT = IDENTITY | {"geometry", "bbox", "links", "assets", "properties"}
ALL_PROPERTIES = {"datetime", "laiq:lai_mean"}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("id", IDENTITY),
        ("properties.laiq:lai_mean,bbox", IDENTITY | {"properties", "bbox"}),
        ("", DEFAULT),
        ("-geometry,-assets", DEFAULT - {"geometry", "assets"}),
        ("-properties,-id", DEFAULT - {"properties", "id"}),
        ("+bbox,-id", {"type", "stac_version", "collection", "bbox"}),
        ("nothing,properties.nothing", IDENTITY | {"properties"}),
    ],
)
def test_only_the_parts_asked_for_and_the_identity_are_shown(
    filled: TestClient, fields: str, shown: set[str]
) -> None:
    (feature,) = filled.get("/search", params={"fields": fields, "limit": 1}).json()["features"]
    assert set(feature) == shown


@pytest.mark.parametrize(
    ("fields", "shown", "properties"),
    [
        ({}, DEFAULT, {"datetime"}),
        ({"include": None, "exclude": []}, DEFAULT, {"datetime"}),
        ({"exclude": ["bbox"]}, DEFAULT - {"bbox"}, ALL_PROPERTIES),
        ({"include": [], "exclude": ["bbox"]}, DEFAULT - {"bbox"}, {"datetime"}),
        ({"include": None, "exclude": ["bbox"]}, DEFAULT - {"bbox"}, {"datetime"}),
        ({"include": ["id", "properties"], "exclude": ["id"]}, IDENTITY | {"properties"}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_missing_include_is_everything_and_an_empty_one_the_default(
    filled: TestClient, fields: dict, shown: set[str], properties: set[str] | None
) -> None:
    (feature,) = filled.post("/search", json={"limit": 1, "fields": fields}).json()["features"]
    assert set(feature) == shown
    assert set(feature["properties"]) == (properties or ALL_PROPERTIES)


def test_item_is_whole_where_no_fields_are_asked_for(filled: TestClient) -> None:
    for answer in (filled.get("/search?limit=1"), filled.post("/search", json={"limit": 1})):
        (feature,) = answer.json()["features"]
        assert (set(feature), set(feature["properties"])) == (DEFAULT, ALL_PROPERTIES)


def test_nested_fields_are_shown_and_hidden_alone(filled: TestClient) -> None:
    body = {"limit": 1, "fields": {"include": ["properties.laiq:lai_mean"]}}
    (feature,) = filled.post("/search", json=body).json()["features"]
    assert feature["properties"] == {"laiq:lai_mean": 2.75}
    body = {"limit": 1, "fields": {"exclude": ["properties.laiq:lai_mean"]}}
    (feature,) = filled.post("/search", json=body).json()["features"]
    assert list(feature["properties"]) == ["datetime"]
    assert "geometry" in feature


@pytest.mark.parametrize(
    ("include", "exclude", "properties"),
    [
        (["properties"], ["properties.datetime"], ["laiq:lai_mean"]),
        (["properties.datetime"], ["properties"], ["datetime"]),
        (["properties.datetime"], ["properties.datetime"], ["datetime"]),
    ],
)
def test_longer_path_wins_where_fields_are_included_and_excluded(
    filled: TestClient, include: list, exclude: list, properties: list
) -> None:
    body = {"limit": 1, "fields": {"include": include, "exclude": exclude}}
    (feature,) = filled.post("/search", json=body).json()["features"]
    assert feature.keys() == IDENTITY | {"properties"}
    assert sorted(feature["properties"]) == properties


@pytest.mark.parametrize("text", ["", ",", "+,-", "%C2%A0", "%C2%A0,%E3%80%80"])
def test_names_without_a_letter_show_the_default(filled: TestClient, text: str) -> None:
    answer = filled.get(f"/search?limit=1&fields={text}")
    assert answer.status_code == 200
    (feature,) = answer.json()["features"]
    assert set(feature) == DEFAULT
