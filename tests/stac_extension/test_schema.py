"""The published schema: examples pass, every listed mutation fails, and names stay in step."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft7Validator

import lai_stac
from lai_stac import fields
from lai_stac.errors import InvalidItemError, UnknownSchemaError
from lai_stac.fields import RENAMED, migrated
from lai_stac.validation import local_schemas, validate_collection, validate_item

HOME = Path(__file__).parents[2] / "stac_extension"
Document = dict[str, Any]


def example(name: str) -> Document:
    document: Document = json.loads((HOME / "examples" / f"{name}.json").read_text("utf-8"))
    return document


def test_schemas_are_valid_draft_07():
    for uri, schema in local_schemas().items():
        Draft7Validator(schema)  # refuses a schema that is none
        assert schema["$schema"] == "http://json-schema.org/draft-07/schema#", uri


def test_examples_are_valid():
    for name in ("item", "snap_lai", "uncertainty_only"):
        validate_item(example(name))
    validate_collection(example("collection"))


UNCERTAINTY = {
    "uncertainty_type": "unc:type",
    "uncertainty_method": "unc:method",
    "uncertainty_components": "unc:components",
    "mc_samples": "unc:samples",
    **{
        name: f"unc:{name}"
        for name in (
            "of",
            "coverage_factor",
            "confidence_level",
            "dropout_rate",
            "random_seed",
            "error_correlation",
            "calibration",
        )
    },
}


def field(name: str) -> str:
    return UNCERTAINTY.get(name, f"laiq:{name}")


def of_item(**changes: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for name, value in changes.items():
            if value is None:
                document["properties"].pop(field(name))
            else:
                document["properties"][field(name)] = value

    return change


def of_asset(key: str, **changes: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for name, value in changes.items():
            if value is None:
                document["assets"][key].pop(field(name))
            else:
                document["assets"][key][field(name)] = value

    return change


REQUIREMENT = {
    "id": "x",
    "relative": 0.2,
    "coverage_factor": 2,
    "fraction": 0.5,
    "basis": "predicted",
}

ITEM_MUTATIONS: dict[str, Callable[[Document], None]] = {
    "the schema is not declared": lambda d: d["stac_extensions"].__setitem__(0, "https://x.org/y"),
    "quantity is unknown": of_item(quantity="apparent"),
    "elements are unknown": of_item(elements="twigs"),
    "target has capitals": of_item(target="SL2P"),
    "method is unknown": of_item(uncertainty_method="guess"),
    "components are empty": of_item(uncertainty_components=[]),
    "components repeat": of_item(uncertainty_components=["input", "input"]),
    "component is unknown": of_item(uncertainty_components=["luck"]),
    "model id is empty": of_item(model_id=""),
    "model version is not semantic": of_item(model_version="v1"),
    "model version is latest": of_item(model_version="latest"),
    "checksum is not hexadecimal": of_item(model_checksum="sha256:xyz"),
    "valid fraction is a percentage": of_item(valid_fraction=93.0),
    "valid fraction is negative": of_item(valid_fraction=-0.1),
    "cloud fraction above one": of_item(cloud_fraction=1.2),
    "no-data fraction is text": of_item(nodata_fraction="0.1"),
    "out of domain above one": of_item(input_out_of_domain_fraction=2),
    "out of range above one": of_item(output_out_of_range_fraction=2),
    "goal fraction above one": of_item(gcos_goal_fraction=1.01),
    "threshold fraction negative": of_item(gcos_threshold_fraction=-1),
    "uncertainty is negative": of_item(uncertainty_mean=-0.1),
    "mean is text": of_item(lai_mean="3.1"),
    "pixel count is zero": of_item(pixel_count=0),
    "pixel count is broken": of_item(pixel_count=12.5),
    "one Monte-Carlo sample": of_item(mc_samples=1),
    "Monte-Carlo dropout without samples": of_item(
        uncertainty_method="mc_dropout", mc_samples=None
    ),
    "dropout rate of one": of_item(dropout_rate=1.0),
    "seed is text": of_item(random_seed="7"),
    "coverage factor of zero": of_item(coverage_factor=0),
    "interval without level": of_item(uncertainty_type="ci_half_width"),
    "expanded without factor": of_item(uncertainty_type="expanded", coverage_factor=None),
    "level of 95": of_item(confidence_level=95),
    "range of three": of_item(valid_range=[0, 4, 8]),
    "requirements are empty": of_item(requirements=[]),
    "requirement without basis": of_item(
        requirements=[{k: v for k, v in REQUIREMENT.items() if k != "basis"}]
    ),
    "requirement without limit": of_item(
        requirements=[{k: v for k, v in REQUIREMENT.items() if k != "relative"}]
    ),
    "requirement with a foreign key": of_item(requirements=[{**REQUIREMENT, "note": "x"}]),
    "calibration without applied": of_item(calibration={"method": "conformal"}),
    "calibration coverage in percent": of_item(
        calibration={"applied": True, "coverage": {"95": 0.9}}
    ),
    "uncertainty of nothing": of_asset("lai_lower", of=""),
    "unknown degree of correlation": of_asset(
        "lai_lower", error_correlation={"space": {"degree": "some"}}
    ),
    "correlation without degree": of_asset(
        "lai_lower", error_correlation={"space": {"length": 100}}
    ),
    "foreign unc field": lambda d: d["assets"]["lai_lower"].update({"unc:unit": "m2"}),
    "unknown variable": of_asset("lai", variable="NDVI"),
    "foreign laiq field": of_item(quality="good"),
    "validation on an item": of_item(validation={"stage": 1}),
    "statistic on an asset": of_asset("lai", lai_mean=3.0),
    "lower bound without level": of_asset("lai_lower", confidence_level=None),
    "unknown type on an asset": of_asset("lai_sd", uncertainty_type="sigma"),
    "dropout asset without samples": of_asset("lai_sd", mc_samples=None),
    "foreign laiq field on an asset": of_asset("lai", unit="m2"),
    "foreign laiq field on a band": lambda d: d["assets"]["lai"]["bands"][0].update({"laiq:x": 1}),
    "percentiles are out of order": of_item(lai_p05=9.0),
    "valid and no data exceed one": of_item(valid_fraction=0.9, nodata_fraction=0.2),
}


@pytest.mark.parametrize("name", ITEM_MUTATIONS)
def test_mutated_item_is_refused(name: str):
    document = copy.deepcopy(example("item"))
    ITEM_MUTATIONS[name](document)
    with pytest.raises((InvalidItemError, UnknownSchemaError)):
        validate_item(document)


COLLECTION_MUTATIONS: dict[str, Callable[[Document], None]] = {
    "stage of five": lambda d: d["laiq:validation"].update(stage=5),
    "stage is missing": lambda d: d["laiq:validation"].pop("stage"),
    "negative error": lambda d: d["laiq:validation"].update(rmse=-1),
    "r2 above one": lambda d: d["laiq:validation"].update(r2=1.5),
    "doi with resolver": lambda d: d["laiq:validation"].update(doi="https://doi.org/10.1/x"),
    "foreign key in validation": lambda d: d["laiq:validation"].update(verdict="good"),
    "item field at the top": lambda d: d.update({"laiq:valid_fraction": 0.5}),
    "summary outside the range": lambda d: d["summaries"].update(
        {"laiq:valid_fraction": {"minimum": 0, "maximum": 7}}
    ),
    "summary of an unknown value": lambda d: d["summaries"].update({"laiq:quantity": ["x"]}),
    "foreign summary": lambda d: d["summaries"].update({"laiq:quality": ["good"]}),
    "summary is a bare value": lambda d: d["summaries"].update({"laiq:quantity": "true"}),
    "interval without level": lambda d: d["item_assets"]["lai_upper"].pop("unc:confidence_level"),
}


@pytest.mark.parametrize("name", COLLECTION_MUTATIONS)
def test_mutated_collection_is_refused(name: str):
    document = copy.deepcopy(example("collection"))
    COLLECTION_MUTATIONS[name](document)
    with pytest.raises(InvalidItemError):
        validate_collection(document)


@pytest.mark.parametrize("name", ["snap_lai", "uncertainty_only"])
def test_item_without_a_field_of_its_extension_is_refused(name: str):
    document = example(name)
    for holder in (document["properties"], *document["assets"].values()):
        for key in [key for key in holder if key.startswith(("laiq:", "unc:"))]:
            del holder[key]
    with pytest.raises(InvalidItemError):
        validate_item(document)


def test_items_and_collections_of_1_0_0_are_migrated():
    for name, validate in (("item", validate_item), ("collection", validate_collection)):
        old = json.loads(json.dumps(example(name)).replace('"unc:of": ', '"of": '))
        text = json.dumps(old).replace("lai-quality/v0.1.0", "lai-quality/v1.0.0")
        for former, today in RENAMED.items():
            text = text.replace(f'"{today}"', f'"{former}"')
        document = json.loads(text)
        document["stac_extensions"].remove(fields.UNCERTAINTY_URI)
        new = migrated(document)
        validate(new)
        assert set(fields.SCHEMA_URIS) <= set(new["stac_extensions"])
        assert not set(RENAMED) & set(re.findall(r'"([a-z]+:[a-z_0-9]+)"', json.dumps(new)))
        assert migrated(new) == new


def test_collection_without_a_field_of_lai_quality_is_refused():
    document = example("collection")
    del document["laiq:validation"]
    for holder in (document["summaries"], *document["item_assets"].values()):
        for name in [name for name in holder if name.startswith(("laiq:", "unc:"))]:
            del holder[name]
    with pytest.raises(InvalidItemError):
        validate_collection(document)


def test_error_names_item_field_and_schema():
    document = example("item")
    document["properties"]["laiq:valid_fraction"] = 93
    with pytest.raises(InvalidItemError, match=r"laiq:valid_fraction: 93 .*lai-quality") as caught:
        validate_item(document)
    assert caught.value.field == "properties.laiq:valid_fraction"
    assert document["id"] in str(caught.value)


NEIGHBOUR_MUTATIONS: dict[str, Callable[[Document], None]] = {
    "raster": lambda d: d["assets"]["lai"].update({"raster:scale": "0.001"}),
    "projection": lambda d: d["assets"]["lai"].update({"proj:shape": [96]}),
    "classification": lambda d: d["assets"]["lai_flags"]["classification:bitfields"][0].pop(
        "classes"
    ),
    "processing": lambda d: d["properties"].update({"processing:expression": {"format": "openeo"}}),
    "file": lambda d: d["assets"]["lai"].update({"file:checksum": "SHA"}),
    "grid": lambda d: d["properties"].update({"grid:code": "32TQM"}),
    "core": lambda d: d["properties"].pop("datetime"),
}


@pytest.mark.parametrize("name", NEIGHBOUR_MUTATIONS)
def test_fault_in_a_neighbouring_extension_is_found(name: str):
    document = example("item")
    NEIGHBOUR_MUTATIONS[name](document)
    with pytest.raises(InvalidItemError):
        validate_item(document)


def test_unknown_extension_is_refused_or_skipped_never_fetched():
    document = example("item")
    document["stac_extensions"].append("https://example.com/other/v1.0.0/schema.json")
    with pytest.raises(UnknownSchemaError):
        validate_item(document)
    validate_item(document, unknown="skip")
    never = {"https://example.com/other/v1.0.0/schema.json": {"not": {}}}
    with pytest.raises(InvalidItemError):
        validate_item(document, schemas=never)


def test_item_nested_deeper_than_any_reader_follows_is_read():
    document = example("item")
    nested: object = 1
    for _ in range(600):
        nested = {"a": nested}
    document["properties"]["nested"] = nested
    validate_item(document)


@pytest.mark.parametrize(
    ("href", "valid"),
    [
        ("https://example.com/{z}/{x}/{y}.png", True),  # as the service links its tiles
        ("../s2/item.json", True),
        ("https://exa mple.com/item.json", False),
        ("C:\\item.json", False),
    ],
)
def test_a_link_is_a_reference_or_a_template_of_one(href: str, valid: bool):
    item = example("item")
    item["links"].append({"rel": "derived_from", "href": href})
    if valid:
        validate_item(item)
    else:
        with pytest.raises(InvalidItemError) as refused:
            validate_item(item)
        assert refused.value.field == f"links.{len(item['links']) - 1}.href"


def test_not_a_number_is_refused():
    document = example("item")
    document["properties"]["laiq:lai_mean"] = float("nan")
    with pytest.raises(InvalidItemError):
        validate_item(document)


SCHEMAS = {
    "laiq": local_schemas()[fields.SCHEMA_URI],
    "unc": local_schemas()[fields.UNCERTAINTY_URI],
}
PLACES = {"I": "item_fields", "A": "band_fields", "S": "summaries", "C": "collection_fields"}


def declared(prefix: str, place: str) -> Document:
    """Return the rules of a schema for the fields of a place."""
    properties = SCHEMAS[prefix]["definitions"][PLACES[place]]["properties"]
    return {name: rule for name, rule in properties.items() if name.startswith(prefix)}


def of_schema(prefix: str, rule: Document) -> str:
    """Return the type of a rule as `fields.csv` writes it."""
    if "$ref" in rule:
        name = rule["$ref"].rpartition("/")[2]
        return of_schema(prefix, SCHEMAS[prefix]["definitions"][name])
    if rule["type"] == "array":
        return f"[{of_schema(prefix, rule['items'])}]"
    return " | ".join(rule["type"]) if isinstance(rule["type"], list) else str(rule["type"])


def of_table(field: fields.Field) -> str:
    """Return the type of a field in JSON, where our objects are objects."""
    return re.sub(r"[A-Z]\w+(<.*>)?", "object", field.type)


@pytest.mark.parametrize("prefix", SCHEMAS)
@pytest.mark.parametrize("place", PLACES)
def test_schema_and_table_name_the_same_fields_of_the_same_type(prefix: str, place: str):
    rules = declared(prefix, place)
    table = {n: f for n, f in fields.FIELDS.items() if n.startswith(prefix) and place in f.where}
    assert set(rules) == set(table)
    if place != "S":
        assert {n: of_schema(prefix, r) for n, r in rules.items()} == {
            n: of_table(f) for n, f in table.items()
        }


def test_readme_and_table_are_the_same():
    rows = []
    for field in fields.FIELDS.values():
        kind = re.sub(r"[A-Z]\w+$", r"[\g<0> Object](#\g<0>-object)", field.type.strip("[]"))
        kind = kind.replace("<", "\\<").replace(" | ", " \\| ")
        kind = f"\\[{kind}]" if field.type.startswith("[") else kind
        rows.append(f"| {field.name} | {kind} | {', '.join(field.where)} | {field.description} |")
    readme = (HOME / "README.md").read_text()
    assert [row.lower() for row in rows if row.lower() not in readme.lower()] == []
    assert len(re.findall(r"^\| (?:laiq|unc):", readme, re.M)) == len(rows)


def test_every_field_has_a_name_in_code():
    named = {v for n, v in vars(fields).items() if n.isupper() and isinstance(v, str) and ":" in v}
    assert {name for name in named if not name.startswith("http")} == set(fields.FIELDS)


def test_public_names_are_sorted_and_there():
    assert lai_stac.__all__ == sorted(lai_stac.__all__)
    for name in lai_stac.__all__:
        assert getattr(lai_stac, name).__name__ == name
