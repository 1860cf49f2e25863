"""The lai-quality STAC extension in pystac's manner.

`LaiQualityExtension.ext` wraps an Item, an Asset, an ItemAssetDefinition or a Collection and reads
and writes the ``laiq:`` fields where they live; `LaiQualityExtension.summaries` wraps a
Collection's summaries. `LAIQ_EXTENSION_HOOKS` is found by pystac through the entry point
``pystac.extensions``. What a field means is written in ``stac_extension/README.md``.

    >>> laiq = LaiQualityExtension.ext(item, add_if_missing=True)
    >>> laiq.valid_fraction = 0.93
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast, overload

import pystac
from pystac.extensions.base import (
    ExtensionManagementMixin,
    PropertiesExtension,
    SummariesExtension,
)
from pystac.extensions.hooks import ExtensionHooks
from pystac.serialization.identify import STACJSONDescription, STACVersionID

from lai_stac import fields
from lai_stac.migration import OLD_URI, migrated
from lai_stac.objects import Calibration, Requirement, Validation

SCHEMA_URI = fields.SCHEMA_URI

T = TypeVar("T", pystac.Item, pystac.Asset, pystac.ItemAssetDefinition, pystac.Collection)
V = TypeVar("V")


class Field(Generic[V]):
    """One ``laiq:`` field as an attribute; None where it is absent, None removes it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, owner: None, kind: type) -> Field[V]: ...
    @overload
    def __get__(self, owner: PropertiesExtension, kind: type) -> V | None: ...
    def __get__(self, owner: PropertiesExtension | None, kind: type) -> Field[V] | V | None:
        if owner is None:
            return self
        return cast("V | None", owner._get_property(self.name, object))

    def __set__(self, owner: PropertiesExtension, value: V | None) -> None:
        owner._set_property(self.name, value)


class LaiQualityExtension(
    Generic[T],
    PropertiesExtension,
    ExtensionManagementMixin[pystac.Item | pystac.Collection],
):
    """The fields that Items, Assets and asset definitions share, those of the uncertainty too."""

    name: Literal["laiq"] = "laiq"

    variable = Field[str](fields.VARIABLE)
    quantity = Field[str](fields.QUANTITY)
    elements = Field[str](fields.ELEMENTS)
    uncertainty_type = Field[str](fields.UNCERTAINTY_TYPE)
    uncertainty_method = Field[str](fields.UNCERTAINTY_METHOD)
    uncertainty_components = Field[list[str]](fields.UNCERTAINTY_COMPONENTS)
    coverage_factor = Field[float](fields.COVERAGE_FACTOR)
    confidence_level = Field[float](fields.CONFIDENCE_LEVEL)
    mc_samples = Field[int](fields.MC_SAMPLES)
    dropout_rate = Field[float](fields.DROPOUT_RATE)
    random_seed = Field[int](fields.RANDOM_SEED)

    def apply(self, **values: object) -> None:
        """Set several fields at once, by attribute name.

        Raises:
            AttributeError: a name is no field of this kind of object.
        """
        for name, value in values.items():
            if not isinstance(getattr(type(self), name, None), (Field, property)):
                raise AttributeError(f"{type(self).__name__} has no field {name!r}")
            setattr(self, name, value)

    @classmethod
    def get_schema_uri(cls) -> str:
        """Return the identifier of the extension, which is where its schema lives."""
        return SCHEMA_URI

    @overload
    @classmethod
    def ext(cls, obj: pystac.Item, add_if_missing: bool = False) -> ItemLaiQualityExtension: ...
    @overload
    @classmethod
    def ext(cls, obj: pystac.Asset, add_if_missing: bool = False) -> AssetLaiQualityExtension: ...
    @overload
    @classmethod
    def ext(
        cls, obj: pystac.ItemAssetDefinition, add_if_missing: bool = False
    ) -> ItemAssetsLaiQualityExtension: ...
    @overload
    @classmethod
    def ext(
        cls, obj: pystac.Collection, add_if_missing: bool = False
    ) -> CollectionLaiQualityExtension: ...
    @classmethod
    def ext(
        cls,
        obj: pystac.Item | pystac.Asset | pystac.ItemAssetDefinition | pystac.Collection,
        add_if_missing: bool = False,
    ) -> (
        ItemLaiQualityExtension
        | AssetLaiQualityExtension
        | ItemAssetsLaiQualityExtension
        | CollectionLaiQualityExtension
    ):
        """Wrap a STAC object to read and write its ``laiq:`` fields.

        Raises:
            pystac.ExtensionTypeError: the object is of another kind.
            pystac.ExtensionNotImplemented: the object (or an asset's owner) does not declare the
                extension and `add_if_missing` is false.
        """
        if isinstance(obj, pystac.Item):
            cls.ensure_has_extension(obj, add_if_missing)
            return ItemLaiQualityExtension(obj)
        if isinstance(obj, pystac.Asset):
            cls.ensure_owner_has_extension(obj, add_if_missing)
            return AssetLaiQualityExtension(obj)
        if isinstance(obj, pystac.ItemAssetDefinition):
            cls.ensure_owner_has_extension(obj, add_if_missing)
            return ItemAssetsLaiQualityExtension(obj)
        if isinstance(obj, pystac.Collection):
            cls.ensure_has_extension(obj, add_if_missing)
            return CollectionLaiQualityExtension(obj)
        raise pystac.ExtensionTypeError(cls._ext_error_message(obj))

    @classmethod
    def summaries(
        cls, obj: pystac.Collection, add_if_missing: bool = False
    ) -> SummariesLaiQualityExtension:
        """Wrap the summaries of a Collection."""
        cls.ensure_has_extension(obj, add_if_missing)
        return SummariesLaiQualityExtension(obj)


class ItemLaiQualityExtension(LaiQualityExtension[pystac.Item]):
    """The ``laiq:`` fields of an Item: what search, sort and a reader see."""

    item: pystac.Item
    properties: dict[str, Any]

    target = Field[str](fields.TARGET)
    valid_range = Field[list[float]](fields.VALID_RANGE)
    model_id = Field[str](fields.MODEL_ID)
    model_version = Field[str](fields.MODEL_VERSION)
    model_checksum = Field[str](fields.MODEL_CHECKSUM)
    lai_mean = Field[float](fields.LAI_MEAN)
    lai_median = Field[float](fields.LAI_MEDIAN)
    lai_p05 = Field[float](fields.LAI_P05)
    lai_p95 = Field[float](fields.LAI_P95)
    uncertainty_mean = Field[float](fields.UNCERTAINTY_MEAN)
    uncertainty_median = Field[float](fields.UNCERTAINTY_MEDIAN)
    uncertainty_p95 = Field[float](fields.UNCERTAINTY_P95)
    relative_uncertainty_median = Field[float](fields.RELATIVE_UNCERTAINTY_MEDIAN)
    pixel_count = Field[int](fields.PIXEL_COUNT)
    valid_fraction = Field[float](fields.VALID_FRACTION)
    cloud_fraction = Field[float](fields.CLOUD_FRACTION)
    shadow_fraction = Field[float](fields.SHADOW_FRACTION)
    snow_fraction = Field[float](fields.SNOW_FRACTION)
    water_fraction = Field[float](fields.WATER_FRACTION)
    nodata_fraction = Field[float](fields.NODATA_FRACTION)
    input_out_of_domain_fraction = Field[float](fields.INPUT_OUT_OF_DOMAIN_FRACTION)
    output_out_of_range_fraction = Field[float](fields.OUTPUT_OUT_OF_RANGE_FRACTION)
    gcos_goal_fraction = Field[float](fields.GCOS_GOAL_FRACTION)
    gcos_threshold_fraction = Field[float](fields.GCOS_THRESHOLD_FRACTION)

    def __init__(self, item: pystac.Item) -> None:
        self.item = item
        self.properties = item.properties

    def __repr__(self) -> str:
        return f"<ItemLaiQualityExtension Item id={self.item.id}>"

    @property
    def requirements(self) -> list[Requirement] | None:
        """Accuracy requirements with the share of pixels that meet them."""
        values = self._get_property(fields.REQUIREMENTS, list[dict[str, Any]])
        return None if values is None else [Requirement.from_dict(value) for value in values]

    @requirements.setter
    def requirements(self, values: list[Requirement] | None) -> None:
        self._set_property(fields.REQUIREMENTS, values)

    @property
    def calibration(self) -> Calibration | None:
        """How the uncertainty was calibrated."""
        value = self._get_property(fields.CALIBRATION, dict[str, Any])
        return None if value is None else Calibration.from_dict(value)

    @calibration.setter
    def calibration(self, value: Calibration | None) -> None:
        self._set_property(fields.CALIBRATION, None if value is None else value.to_dict())


class AssetLaiQualityExtension(LaiQualityExtension[pystac.Asset]):
    """The ``laiq:`` fields of an Asset; reading falls back on the Item that owns it."""

    asset_href: str
    properties: dict[str, Any]
    additional_read_properties: Iterable[dict[str, Any]] | None = None

    def __init__(self, asset: pystac.Asset) -> None:
        self.asset_href = asset.href
        self.properties = asset.extra_fields
        if isinstance(asset.owner, pystac.Item):
            self.additional_read_properties = [asset.owner.properties]

    def __repr__(self) -> str:
        return f"<AssetLaiQualityExtension Asset href={self.asset_href}>"


class ItemAssetsLaiQualityExtension(LaiQualityExtension[pystac.ItemAssetDefinition]):
    """The ``laiq:`` fields of an asset definition in a Collection."""

    asset_defn: pystac.ItemAssetDefinition
    properties: dict[str, Any]

    def __init__(self, item_asset: pystac.ItemAssetDefinition) -> None:
        self.asset_defn = item_asset
        self.properties = item_asset.properties

    def __repr__(self) -> str:
        return "<ItemAssetsLaiQualityExtension ItemAssetDefinition>"


class CollectionLaiQualityExtension(LaiQualityExtension[pystac.Collection]):
    """What a Collection says at its top level, of the product as a whole."""

    collection: pystac.Collection
    properties: dict[str, Any]

    valid_range = Field[list[float]](fields.VALID_RANGE)

    def __init__(self, collection: pystac.Collection) -> None:
        self.collection = collection
        self.properties = collection.extra_fields

    def __repr__(self) -> str:
        return f"<CollectionLaiQualityExtension Collection id={self.collection.id}>"

    @property
    def validation(self) -> Validation | None:
        """How the product compares with reference measurements."""
        value = self._get_property(fields.VALIDATION, dict[str, Any])
        return None if value is None else Validation.from_dict(value)

    @validation.setter
    def validation(self, value: Validation | None) -> None:
        self._set_property(fields.VALIDATION, None if value is None else value.to_dict())

    @property
    def calibration(self) -> Calibration | None:
        """How the uncertainty was calibrated."""
        value = self._get_property(fields.CALIBRATION, dict[str, Any])
        return None if value is None else Calibration.from_dict(value)

    @calibration.setter
    def calibration(self, value: Calibration | None) -> None:
        self._set_property(fields.CALIBRATION, None if value is None else value.to_dict())


Summary = list[Any] | pystac.RangeSummary[Any] | dict[str, Any]


class SummaryField:
    """One ``laiq:`` summary as an attribute: a list, a range or a JSON Schema."""

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, owner: None, kind: type) -> SummaryField: ...
    @overload
    def __get__(self, owner: SummariesLaiQualityExtension, kind: type) -> Summary | None: ...
    def __get__(
        self, owner: SummariesLaiQualityExtension | None, kind: type
    ) -> SummaryField | Summary | None:
        if owner is None:
            return self
        summaries = owner.summaries
        return (
            summaries.get_list(self.name)
            or summaries.get_range(self.name)
            or summaries.get_schema(self.name)
        )

    def __set__(self, owner: SummariesLaiQualityExtension, value: Summary | None) -> None:
        owner._set_summary(self.name, value)


class SummariesLaiQualityExtension(SummariesExtension):
    """The ``laiq:`` fields in the summaries of a Collection."""

    variable = SummaryField(fields.VARIABLE)
    quantity = SummaryField(fields.QUANTITY)
    elements = SummaryField(fields.ELEMENTS)
    target = SummaryField(fields.TARGET)
    valid_range = SummaryField(fields.VALID_RANGE)
    uncertainty_type = SummaryField(fields.UNCERTAINTY_TYPE)
    uncertainty_method = SummaryField(fields.UNCERTAINTY_METHOD)
    uncertainty_components = SummaryField(fields.UNCERTAINTY_COMPONENTS)
    coverage_factor = SummaryField(fields.COVERAGE_FACTOR)
    confidence_level = SummaryField(fields.CONFIDENCE_LEVEL)
    mc_samples = SummaryField(fields.MC_SAMPLES)
    dropout_rate = SummaryField(fields.DROPOUT_RATE)
    model_id = SummaryField(fields.MODEL_ID)
    model_version = SummaryField(fields.MODEL_VERSION)
    model_checksum = SummaryField(fields.MODEL_CHECKSUM)
    lai_mean = SummaryField(fields.LAI_MEAN)
    lai_median = SummaryField(fields.LAI_MEDIAN)
    lai_p05 = SummaryField(fields.LAI_P05)
    lai_p95 = SummaryField(fields.LAI_P95)
    uncertainty_mean = SummaryField(fields.UNCERTAINTY_MEAN)
    uncertainty_median = SummaryField(fields.UNCERTAINTY_MEDIAN)
    uncertainty_p95 = SummaryField(fields.UNCERTAINTY_P95)
    relative_uncertainty_median = SummaryField(fields.RELATIVE_UNCERTAINTY_MEDIAN)
    pixel_count = SummaryField(fields.PIXEL_COUNT)
    valid_fraction = SummaryField(fields.VALID_FRACTION)
    cloud_fraction = SummaryField(fields.CLOUD_FRACTION)
    shadow_fraction = SummaryField(fields.SHADOW_FRACTION)
    snow_fraction = SummaryField(fields.SNOW_FRACTION)
    water_fraction = SummaryField(fields.WATER_FRACTION)
    nodata_fraction = SummaryField(fields.NODATA_FRACTION)
    input_out_of_domain_fraction = SummaryField(fields.INPUT_OUT_OF_DOMAIN_FRACTION)
    output_out_of_range_fraction = SummaryField(fields.OUTPUT_OUT_OF_RANGE_FRACTION)
    gcos_goal_fraction = SummaryField(fields.GCOS_GOAL_FRACTION)
    gcos_threshold_fraction = SummaryField(fields.GCOS_THRESHOLD_FRACTION)


class LaiQualityExtensionHooks(ExtensionHooks):
    """What pystac does when it reads an object with this extension: it migrates 1.0.0."""

    schema_uri: str = SCHEMA_URI
    prev_extension_ids: ClassVar[set[str]] = {OLD_URI}
    stac_object_types: ClassVar[set[pystac.STACObjectType]] = {
        pystac.STACObjectType.COLLECTION,
        pystac.STACObjectType.ITEM,
    }

    def migrate(
        self, obj: dict[str, Any], version: STACVersionID, info: STACJSONDescription
    ) -> None:
        """Give the fields of 1.0.0 their names of today."""
        new = migrated(obj)
        obj.clear()
        obj.update(new)
        super().migrate(obj, version, info)


LAIQ_EXTENSION_HOOKS: ExtensionHooks = LaiQualityExtensionHooks()
