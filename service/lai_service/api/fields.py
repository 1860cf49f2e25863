"""The Fields extension: which parts of an item to show.

    asked for                          shown
    nothing                            everything
    an empty list, or no include       the default parts
    include                            these, and what says which item it is
    exclude (POST, include missing)    everything but these
    exclude (GET, or include empty)    the default parts but these

A longer path wins over a shorter one, and of two equal ones the included.
Source: STAC API Fields Extension 1.0.0, "Include/Exclude Semantics".
"""

from dataclasses import dataclass

from stac_fastapi.extensions.fields.request import PostFieldsExtension

from lai_service.catalogue.port import Document

__all__ = ["Fields"]

_IDENTITY = frozenset({"type", "stac_version", "id", "collection"})
_TIMES = {f"properties.{name}" for name in ("datetime", "start_datetime", "end_datetime")}
_DEFAULT = _IDENTITY | {"geometry", "bbox", "links", "assets"} | _TIMES


@dataclass(frozen=True)
class Fields:
    """What to show of every item."""

    include: frozenset[str] | None = None
    """Paths such as `properties.laiq:lai_mean`; nothing else is shown; None is everything."""
    exclude: frozenset[str] = frozenset()
    """Paths to leave out."""

    @classmethod
    def from_text(cls, text: str | None) -> "Fields":
        """Read `id,+properties.a,-links` of a GET request, None where it has no `fields`."""
        if text is None:
            return cls()
        # a `+` of an address arrives as a space
        names = [name.strip() for name in text.split(",") if name.strip(" +-")]
        include = frozenset(name.lstrip("+") for name in names if name[0] != "-")
        exclude = frozenset(name[1:] for name in names if name[0] == "-")
        return cls(_shown(include, exclude), exclude)

    @classmethod
    def from_body(cls, asked: PostFieldsExtension | None) -> "Fields":
        """Read the `fields` of a POST request, None where it has none."""
        if asked is None:
            return cls()
        exclude = frozenset(asked.exclude or ())
        if exclude and "include" not in asked.model_fields_set:
            return cls(None, exclude)
        return cls(_shown(frozenset(asked.include or ()), exclude), exclude)

    def apply(self, item: Document) -> Document:
        """Return the parts of an item that were asked for."""
        shown: Document = item if self.include is None else {}
        include = self.include or frozenset()
        for path in sorted(include):
            shown = _with_path(item, shown, path.split("."))
        for path in sorted(self.exclude - include):
            if not any(longer.startswith(f"{path}.") for longer in include):
                shown = _without_path(shown, path.split("."))
        return shown


def _shown(include: frozenset[str], exclude: frozenset[str]) -> frozenset[str]:
    """Return the included paths, and of those that nobody named what is not excluded."""
    unasked = {
        path
        for path in (_IDENTITY if include else _DEFAULT)
        if not any(f"{path}.".startswith(f"{other}.") for other in exclude)
    }
    return include | unasked


def _with_path(source: Document, target: Document, path: list[str]) -> Document:
    head, tail = path[0], path[1:]
    if head not in source:
        return target
    if not tail or not isinstance(source[head], dict):
        return {**target, head: source[head]}
    return {**target, head: _with_path(source[head], target.get(head, {}), tail)}


def _without_path(source: Document, path: list[str]) -> Document:
    head, tail = path[0], path[1:]
    if head not in source:
        return source
    if not tail:
        return {key: value for key, value in source.items() if key != head}
    if not isinstance(source[head], dict):
        return source
    return {**source, head: _without_path(source[head], tail)}
