"""stac-api-validator finds no error, over both catalogues; it waits ten seconds by itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from service.fake_items import TOKEN, footprint, stac_item

pytest.importorskip("stac_api_validator", reason="stac-api-validator is not installed")

from pystac.validation import JsonSchemaSTACValidator, RegisteredValidator
from service.offline_validator import fetch
from stac_api_validator.validations import QueryConfig, validate_api
from stac_validator import utilities

from lai_stac.validation import local_schemas

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the validator and its libraries warn of each other
]

CLASSES = [
    "core",
    "collections",
    "features",
    "item-search",
    "filter",
    "item-search#sort",
    "item-search#query",
    "item-search#fields",
    "transaction",
]
DELETED_FIRST = "S2A_47XNF_20230423_0_L2A"  # the validator expects that it is there to be deleted
QUERY = QueryConfig(
    query_comparison_field="eo:cloud_cover",
    query_eq_value=10,
    query_neq_value=10,
    query_lt_value=20,
    query_lte_value=20,
    query_gt_value=5,
    query_gte_value=10,
    query_substring_field="platform",
    query_starts_with_value="sentinel",
    query_ends_with_value="2a",
    query_contains_value="nel",
    query_in_field="grade",  # of one letter: the validator takes a text for a list of letters
    query_in_values="a,b",
)


def test_stac_api_validator_finds_no_error(
    live: str, make_result: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utilities, "fetch_and_parse_file", fetch)
    offline = JsonSchemaSTACValidator()
    offline.schema_cache.update(local_schemas())
    monkeypatch.setattr(RegisteredValidator, "_validator", offline)
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        for number, letter in enumerate("abc"):
            properties = {"platform": f"sentinel-2{letter}", "eo:cloud_cover": 10.0 * number}
            properties["grade"] = letter
            folder = make_result(f"lai_{letter}", f"2024-06-2{number + 1}T10:36:31Z", **properties)
            answer = session.post(f"{live}/publish", json={"directory": str(folder)})
            assert answer.status_code == 201, answer.text
        there = stac_item(DELETED_FIRST, "2023-04-23T06:47:03Z")
        answer = session.post(f"{live}/collections/lai/items", json=there)
        assert answer.status_code == 201, answer.text

    _, errors = validate_api(
        root_url=live,
        ccs_to_validate=CLASSES,
        collection="lai",
        geometry=json.dumps(footprint()[1]),
        auth_bearer_token=TOKEN,
        auth_query_parameter=None,
        fields_nested_property="properties.platform",
        validate_pagination=True,
        query_config=QUERY,
        transaction_collection="lai",
        headers=None,
    )
    assert list(errors) == []
