"""The lai-quality and uncertainty STAC extensions in pystac's manner, made of `lai_stac.fields`.

`LaiQualityExtension.ext` wraps an Item, an Asset, an ItemAssetDefinition or a Collection and reads
and writes its ``laiq:`` fields as attributes, `UncertaintyExtension.ext` the ``unc:`` fields;
`summaries` wraps a Collection's summaries. pystac finds the hooks through the entry point
``pystac.extensions``. What a field means is written in ``stac_extension/README.md``.

    >>> laiq = LaiQualityExtension.ext(item, add_if_missing=True)
    >>> laiq.valid_fraction = 0.93
    >>> lower = UncertaintyExtension.ext(item.assets["lai_lower"], add_if_missing=True)
    >>> lower.of, lower.type, lower.confidence_level = "lai", "interval_lower", 0.95
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pystac
from pystac.extensions.base import ExtensionManagementMixin, PropertiesExtension, SummariesExtension
from pystac.extensions.hooks import ExtensionHooks
from pystac.serialization.identify import STACJSONDescription, STACVersionID

from lai_stac.fields import FIELDS, OBJECTS, OLD_URI, SCHEMA_URI, UNCERTAINTY_URI, Field, migrated

__all__ = ["LAIQ_EXTENSION_HOOKS", "UNC_EXTENSION_HOOKS"]
__all__ += ["LaiQualityExtension", "SummariesExtensionOfFields", "UncertaintyExtension"]

Described = pystac.Item | pystac.Asset | pystac.ItemAssetDefinition | pystac.Collection


class _Attributes:
    """Fields as attributes: None where a field is absent, None removes it."""

    where: str  # what is wrapped, as in `lai_stac.fields.Field.where`

    def _read(self, field: Field) -> Any: ...  # noqa: ANN401  (whatever JSON holds)
    def _write(self, field: Field, value: Any) -> None: ...  # noqa: ANN401

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401
        def __setattr__(self, name: str, value: Any) -> None: ...  # noqa: ANN401

    def apply(self, **values: object) -> None:
        """Set several fields at once, by attribute name.

        Raises:
            AttributeError: a name is no field of this kind of object.
        """
        for name, value in values.items():
            if not isinstance(getattr(type(self), name, None), property):
                raise AttributeError(f"{type(self).__name__} has no field {name!r}")
            setattr(self, name, value)


def _add_attributes(kind: type[_Attributes], prefix: str) -> None:
    """Give a class a property for every field of a prefix."""
    for field in FIELDS.values():
        own, _, name = field.name.partition(":")
        if own == prefix:
            setattr(kind, name, _attribute(field))


def _attribute(field: Field) -> property:
    def read(self: _Attributes) -> Any:  # noqa: ANN401
        return self._read(field)

    def write(self: _Attributes, value: Any) -> None:  # noqa: ANN401
        if self.where not in field.where:
            raise AttributeError(f"{field.name} is allowed in {field.where}, not in {self.where}")
        self._write(field, value)

    return property(read, write, doc=f"{field.description} {field.unit}".rstrip())


class _FieldsExtension(
    _Attributes, PropertiesExtension, ExtensionManagementMixin[pystac.Item | pystac.Collection]
):
    """The fields of one extension in an object; those of an Asset fall back on its Item."""

    schema_uri: ClassVar[str]

    def __init__(self, described: Described) -> None:
        if isinstance(described, pystac.Item):
            self.where, self.properties = "I", described.properties
        elif isinstance(described, pystac.Asset):
            self.where, self.properties = "A", described.extra_fields
            if isinstance(described.owner, pystac.Item):
                self.additional_read_properties = [described.owner.properties]
        elif isinstance(described, pystac.ItemAssetDefinition):
            self.where, self.properties = "A", described.properties
        else:
            self.where, self.properties = "C", described.extra_fields

    @classmethod
    def get_schema_uri(cls) -> str:
        """Return the identifier of the extension, which is where its schema lives."""
        return cls.schema_uri

    @classmethod
    def ext(cls, obj: Described, add_if_missing: bool = False) -> Self:
        """Wrap a STAC object to read and write its fields.

        Raises:
            pystac.ExtensionTypeError: the object is of another kind.
            pystac.ExtensionNotImplemented: the object (or an asset's owner) does not declare the
                extension and `add_if_missing` is false.
        """
        if isinstance(obj, pystac.Item | pystac.Collection):
            cls.ensure_has_extension(obj, add_if_missing)
        elif isinstance(obj, pystac.Asset | pystac.ItemAssetDefinition):
            cls.ensure_owner_has_extension(obj, add_if_missing)
        else:
            raise pystac.ExtensionTypeError(cls._ext_error_message(obj))
        return cls(obj)

    def _read(self, field: Field) -> Any:  # noqa: ANN401
        value: Any = self._get_property(field.name, object)
        kind = OBJECTS.get(field.type.strip("[]"))
        if kind is None or value is None:
            return value
        return [kind(**one) for one in value] if isinstance(value, list) else kind(**value)

    def _write(self, field: Field, value: Any) -> None:  # noqa: ANN401
        self._set_property(field.name, value.to_dict() if hasattr(value, "to_dict") else value)


class SummariesExtensionOfFields(_Attributes, SummariesExtension):
    """The fields of one extension in the summaries of a Collection: lists, ranges, schemas."""

    where = "S"

    def _read(self, field: Field) -> Any:  # noqa: ANN401
        known = self.summaries
        name = field.name
        return known.get_list(name) or known.get_range(name) or known.get_schema(name)

    def _write(self, field: Field, value: Any) -> None:  # noqa: ANN401
        self._set_summary(field.name, value)


class LaiQualityExtension(_FieldsExtension):
    """The ``laiq:`` fields."""

    name: Literal["laiq"] = "laiq"
    schema_uri = SCHEMA_URI

    @classmethod
    def summaries(
        cls, obj: pystac.Collection, add_if_missing: bool = False
    ) -> SummariesExtensionOfFields:
        """Wrap the summaries of a Collection, those of the uncertainty too."""
        cls.ensure_has_extension(obj, add_if_missing)
        return SummariesExtensionOfFields(obj)


class UncertaintyExtension(_FieldsExtension):
    """The ``unc:`` fields: of any quantity, of ours and of others."""

    name: Literal["unc"] = "unc"
    schema_uri = UNCERTAINTY_URI


_add_attributes(LaiQualityExtension, "laiq")
_add_attributes(UncertaintyExtension, "unc")
_add_attributes(SummariesExtensionOfFields, "laiq")
_add_attributes(SummariesExtensionOfFields, "unc")


class UncertaintyHooks(ExtensionHooks):
    """What pystac does when it reads an object with the extension."""

    schema_uri: str = UNCERTAINTY_URI
    prev_extension_ids: ClassVar[set[str]] = set()
    stac_object_types: ClassVar[set[pystac.STACObjectType]] = {
        pystac.STACObjectType.COLLECTION,
        pystac.STACObjectType.ITEM,
    }


class LaiQualityHooks(UncertaintyHooks):
    """The same of lai-quality; it migrates 1.0.0."""

    schema_uri: str = SCHEMA_URI
    prev_extension_ids: ClassVar[set[str]] = {OLD_URI}

    def migrate(
        self, obj: dict[str, Any], version: STACVersionID, info: STACJSONDescription
    ) -> None:
        """Give the fields of 1.0.0 their names of today."""
        new = migrated(obj)
        obj.clear()
        obj.update(new)
        super().migrate(obj, version, info)


LAIQ_EXTENSION_HOOKS: ExtensionHooks = LaiQualityHooks()
UNC_EXTENSION_HOOKS: ExtensionHooks = UncertaintyHooks()
