"""The uncertainty STAC extension in pystac's manner: of any quantity, of ours and of others.

>>> lower = UncertaintyExtension.ext(item.assets["lai_lower"], add_if_missing=True)
>>> lower.of, lower.type, lower.confidence_level = "lai", "interval_lower", 0.95
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pystac
from pystac.extensions.base import ExtensionManagementMixin, PropertiesExtension
from pystac.extensions.hooks import ExtensionHooks

from lai_stac import fields
from lai_stac.extension import Field
from lai_stac.objects import Calibration

Described = pystac.Item | pystac.Asset | pystac.ItemAssetDefinition | pystac.Collection


class UncertaintyExtension(
    PropertiesExtension, ExtensionManagementMixin[pystac.Item | pystac.Collection]
):
    """The ``unc:`` fields of an Item, an Asset, an asset definition or a Collection."""

    name: Literal["unc"] = "unc"
    properties: dict[str, Any]

    of = Field[str](fields.UNCERTAINTY_OF)
    type = Field[str](fields.UNCERTAINTY_TYPE)
    method = Field[str](fields.UNCERTAINTY_METHOD)
    components = Field[list[str]](fields.UNCERTAINTY_COMPONENTS)
    coverage_factor = Field[float](fields.COVERAGE_FACTOR)
    confidence_level = Field[float](fields.CONFIDENCE_LEVEL)
    samples = Field[int](fields.MC_SAMPLES)
    dropout_rate = Field[float](fields.DROPOUT_RATE)
    random_seed = Field[int](fields.RANDOM_SEED)
    error_correlation = Field[dict[str, Any]](fields.ERROR_CORRELATION)

    def __init__(self, properties: dict[str, Any]) -> None:
        self.properties = properties

    @classmethod
    def get_schema_uri(cls) -> str:
        """Return the identifier of the extension, which is where its schema lives."""
        return fields.UNCERTAINTY_URI

    @classmethod
    def ext(cls, obj: Described, add_if_missing: bool = False) -> UncertaintyExtension:
        """Wrap a STAC object to read and write its ``unc:`` fields.

        Raises:
            pystac.ExtensionTypeError: the object is of another kind.
            pystac.ExtensionNotImplemented: the object (or an asset's owner) does not declare the
                extension and `add_if_missing` is false.
        """
        if isinstance(obj, pystac.Item | pystac.Collection):
            cls.ensure_has_extension(obj, add_if_missing)
            return cls(obj.properties if isinstance(obj, pystac.Item) else obj.extra_fields)
        if isinstance(obj, pystac.Asset | pystac.ItemAssetDefinition):
            cls.ensure_owner_has_extension(obj, add_if_missing)
            return cls(obj.extra_fields if isinstance(obj, pystac.Asset) else obj.properties)
        raise pystac.ExtensionTypeError(cls._ext_error_message(obj))

    @property
    def calibration(self) -> Calibration | None:
        """How the uncertainty was calibrated."""
        value = self._get_property(fields.CALIBRATION, dict[str, Any])
        return None if value is None else Calibration.from_dict(value)

    @calibration.setter
    def calibration(self, value: Calibration | None) -> None:
        self._set_property(fields.CALIBRATION, None if value is None else value.to_dict())


class UncertaintyExtensionHooks(ExtensionHooks):
    """What pystac does when it reads an object with this extension."""

    schema_uri: str = fields.UNCERTAINTY_URI
    prev_extension_ids: ClassVar[set[str]] = set()
    stac_object_types: ClassVar[set[pystac.STACObjectType]] = {
        pystac.STACObjectType.COLLECTION,
        pystac.STACObjectType.ITEM,
    }


UNC_EXTENSION_HOOKS: ExtensionHooks = UncertaintyExtensionHooks()
