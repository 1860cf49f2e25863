"""The pystac classes: fields as attributes where they live, hooks, summaries."""

import datetime as dt
from pathlib import Path

import pystac
import pytest
from pydantic import ValidationError

from lai_stac import fields
from lai_stac.collection import build_collection, write_collection
from lai_stac.errors import DescriptionError
from lai_stac.extension import (
    LAIQ_EXTENSION_HOOKS,
    SCHEMA_URI,
    UNC_EXTENSION_HOOKS,
    LaiQualityExtension,
    UncertaintyExtension,
)
from lai_stac.fields import Calibration, Requirement, Validation
from lai_stac.validation import validate_collection, validate_item

HOME = Path(__file__).parents[2] / "stac_extension"


def test_hooks_are_found_through_the_entry_point():
    pystac.EXTENSION_HOOKS._discover()
    assert pystac.EXTENSION_HOOKS.hooks[SCHEMA_URI] is LAIQ_EXTENSION_HOOKS
    assert pystac.EXTENSION_HOOKS.hooks[fields.UNCERTAINTY_URI] is UNC_EXTENSION_HOOKS


def test_item_fields_read_and_write_the_properties(item):
    laiq = LaiQualityExtension.ext(item)
    assert laiq.quantity == "effective"
    assert laiq.valid_fraction == item.properties[fields.VALID_FRACTION]
    laiq.valid_fraction = 0.5
    assert item.properties[fields.VALID_FRACTION] == 0.5
    laiq.valid_fraction = None
    assert fields.VALID_FRACTION not in item.properties


def test_objects_round_trip(item):
    laiq = LaiQualityExtension.ext(item)
    requirements = laiq.requirements
    assert [entry.id for entry in requirements] == ["GCOS-2022-goal", "GCOS-2022-threshold"]
    laiq.requirements = requirements
    uncertainty = UncertaintyExtension.ext(item)
    uncertainty.calibration = Calibration(applied=False)
    assert item.properties[fields.CALIBRATION] == {"applied": False}
    assert uncertainty.calibration == Calibration(applied=False)
    assert LaiQualityExtension.ext(item).requirements == requirements


def test_apply_sets_several_fields_and_refuses_unknown_ones(item):
    laiq = LaiQualityExtension.ext(item)
    laiq.apply(quantity="true", lai_mean=2.0)
    assert item.properties[fields.LAI_MEAN] == 2.0
    with pytest.raises(AttributeError):
        laiq.apply(lai_average=2.0)


def test_a_field_is_written_only_where_it_belongs(item):
    laiq = LaiQualityExtension.ext(item.assets["lai"])
    with pytest.raises(AttributeError):
        laiq.lai_mean = 2.0
    assert fields.LAI_MEAN not in item.assets["lai"].extra_fields


def test_asset_fields_fall_back_on_the_item(item):
    upper = LaiQualityExtension.ext(item.assets["lai_upper"])
    assert UncertaintyExtension.ext(item.assets["lai_upper"]).confidence_level == 0.95
    assert upper.quantity == "effective"  # stated by the item
    assert fields.QUANTITY not in item.assets["lai_upper"].extra_fields


def test_extension_is_added_only_when_asked_for(item):
    LaiQualityExtension.remove_from(item)
    with pytest.raises(pystac.ExtensionNotImplemented):
        LaiQualityExtension.ext(item)
    LaiQualityExtension.ext(item, add_if_missing=True)
    assert SCHEMA_URI in item.stac_extensions
    with pytest.raises(pystac.ExtensionTypeError):
        LaiQualityExtension.ext("item")


def test_collection_sums_up_its_items(item):
    other = item.clone()
    other.properties[fields.VALID_FRACTION] = 0.25
    other.properties[fields.MODEL_VERSION] = "0.2.0"
    other.bbox = [9.0, 44.0, 9.5, 44.5]
    collection = build_collection([item, other], validation=Validation(stage=1, rmse=1.09))
    validate_collection(collection)
    summaries = LaiQualityExtension.summaries(collection)
    assert summaries.valid_fraction.minimum == 0.25
    assert summaries.model_version == ["0.1.0", "0.2.0"]
    assert summaries.components == sorted(["epistemic", "aleatoric", "input", "representativeness"])
    assert collection.extent.spatial.bboxes[0][:2] == [9.0, 44.0]
    assert collection.extra_fields[fields.VALIDATION] == {"stage": 1, "rmse": 1.09}
    upper = UncertaintyExtension.ext(collection.item_assets["lai_upper"])
    assert upper.type == "interval_upper"
    summaries.valid_fraction = None
    assert summaries.valid_fraction is None


def test_collection_states_target_pixel_licence_providers_and_shows_its_latest_item(item):
    other = item.clone()
    other.datetime += dt.timedelta(days=5)
    for each, href in ((item, "./thumbnail.png"), (other, "https://x.org/2/thumbnail.png")):
        each.assets["thumbnail"].href = href
    collection = build_collection([other, item])
    assert collection.title == "Leaf area index from Sentinel-2, as SL2P estimates it, 20 m"
    assert [link.rel for link in collection.links if link.rel == "license"] == ["license"]
    assert {role for one in collection.providers for role in one.roles} >= {"producer", "licensor"}
    assert collection.assets["thumbnail"].href == "https://x.org/2/thumbnail.png"
    other.properties["gsd"] = 10
    assert build_collection([other, item]).title.endswith("as SL2P estimates it")
    assert "thumbnail" not in build_collection([item]).assets


def test_collection_states_only_what_its_items_share(item):
    other = item.clone()
    other.assets["lai_sd"].extra_fields[fields.MC_SAMPLES] = 30
    other.assets["lai_upper"].extra_fields[fields.CONFIDENCE_LEVEL] = 0.8
    other.assets["lai"].extra_fields["bands"][0]["raster:scale"] = 0.01
    collection = build_collection([item, other])
    shared = {key: each.properties for key, each in collection.item_assets.items()}
    assert fields.MC_SAMPLES not in shared["lai_sd"]
    assert fields.UNCERTAINTY_METHOD not in shared["lai_sd"]
    assert fields.CONFIDENCE_LEVEL not in shared["lai_upper"]
    assert shared["lai_lower"][fields.CONFIDENCE_LEVEL] == 0.95
    assert "raster:scale" not in shared["lai"]["bands"][0]
    assert not any("95" in str(each["title"]) for each in shared.values())


def test_collection_without_items_is_refused():
    with pytest.raises(DescriptionError):
        build_collection([])


@pytest.mark.parametrize(
    ("boxes", "extent"),
    [
        ([[1, 2, 3, 4], [5, 1, 6, 2]], [1, 1, 6, 4]),
        ([[-150, 0, -140, 1], [170, 0, 175, 1]], [-150, 0, 175, 1]),
        ([[179, 0, -179, 1], [175, 2, 176, 3]], [175, 0, -179, 3]),
    ],
)
def test_the_extent_of_a_collection_crosses_the_antimeridian_where_an_item_does(
    item, boxes, extent
):
    items = [item.clone() for _ in boxes]
    for each, box in zip(items, boxes, strict=True):
        each.bbox = box
    assert build_collection(items).extent.spatial.bboxes == [pytest.approx(extent)]


def test_collection_reads_back(item, tmp_path):
    path = write_collection(build_collection([item]), tmp_path / "collection.json")
    validate_collection(pystac.Collection.from_file(str(path)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Requirement(id="x", coverage_factor=2, fraction=0.5, basis="predicted"),
        lambda: Requirement(id="x", relative=0.1, coverage_factor=2, fraction=3, basis="predicted"),
        lambda: Calibration(applied=True, coverage={"95": 0.9}),
        lambda: Calibration(applied=True, sigma=1),
        lambda: Validation(stage=7),
        lambda: Validation(stage=1, doi="https://doi.org/10.1000/x"),
    ],
)
def test_impossible_objects_are_refused_when_built(build):
    with pytest.raises(ValidationError):
        build()


def test_collection_states_at_its_top_how_it_was_validated_and_calibrated(item):
    collection = build_collection([item])
    laiq, uncertainty = LaiQualityExtension.ext(collection), UncertaintyExtension.ext(collection)
    assert (laiq.validation, uncertainty.calibration) == (None, None)
    period = ("2017-06-01T00:00:00Z", None)
    laiq.apply(validation=Validation(stage=1, rmse=1.09, period=period), valid_range=[0.0, 8.0])
    uncertainty.calibration = Calibration(applied=True, coverage={"0.95": 0.94})
    validate_collection(collection)
    assert collection.extra_fields[fields.VALIDATION]["period"] == list(period)
    assert laiq.validation == Validation(stage=1, rmse=1.09, period=period)
    assert uncertainty.calibration.coverage == {"0.95": 0.94}
    laiq.validation = None
    assert fields.VALIDATION not in collection.extra_fields


def test_summaries_are_found_again_after_a_round_trip(item, tmp_path):
    path = write_collection(build_collection([item]), tmp_path / "collection.json")
    summaries = LaiQualityExtension.summaries(pystac.Collection.from_file(str(path)))
    assert summaries.cloud_fraction.maximum == item.properties[fields.CLOUD_FRACTION]
    assert summaries.model_id == [item.properties[fields.MODEL_ID]]
    assert summaries.snow_fraction is None


def test_uncertainty_of_another_quantity_is_read_and_written():
    item = pystac.Item.from_file(str(HOME / "examples" / "uncertainty_only.json"))
    uncertainty = UncertaintyExtension.ext(item.assets["moisture_uncertainty"])
    assert (uncertainty.of, uncertainty.type, uncertainty.coverage_factor) == (
        "moisture",
        "expanded",
        2,
    )
    uncertainty.type, uncertainty.confidence_level = "interval_lower", 0.9
    assert item.assets["moisture_uncertainty"].extra_fields["unc:confidence_level"] == 0.9
    validate_item(item)


def test_uncertainty_is_added_to_an_item_that_declares_none(item):
    item.stac_extensions.remove(fields.UNCERTAINTY_URI)
    with pytest.raises(pystac.ExtensionNotImplemented):
        UncertaintyExtension.ext(item.assets["lai_lower"])
    UncertaintyExtension.ext(item.assets["lai_lower"], add_if_missing=True).of = "lai"
    assert fields.UNCERTAINTY_URI in item.stac_extensions
