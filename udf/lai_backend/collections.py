"""Collections of this back-end: folders with a STAC `collection.json` and its items.

A collection folder holds `collection.json` and, anywhere below it, one JSON file per item. The
openEO description (`cube:dimensions`, band summaries, extent) is completed from the items. Items
that another program adds while the server runs are found at the next request.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lai_backend.errors import ParameterError, SourceError
from lai_backend.files import Json, read_json
from lai_backend.sources import Scene, is_searchable, read_scene, read_stac

COLLECTION_FILE = "collection.json"


def find_collections(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the collection files below some folders, by collection identifier.

    Args:
        folders: folders to search; one may be a collection folder itself.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob(COLLECTION_FILE)):
            identifier = str(read_collection(path)["id"])
            if found.setdefault(identifier, path) != path:
                raise SourceError(f"{path} and {found[identifier]} both describe {identifier!r}.")
    return found


def find_collection(folders: Sequence[Path], identifier: Json) -> Path:
    """Return the file of one collection."""
    found = find_collections(folders)
    if identifier not in found:
        known = ", ".join(found) or "none"
        raise ParameterError(f"There is no collection {identifier!r}; there are: {known}.")
    return found[identifier]


def read_scenes(collection_file: Path, roots: Sequence[Path]) -> list[Scene]:
    """Return the scenes of a local collection, sorted by time."""
    items = (read_stac(str(path), roots) for path in _item_files(collection_file))
    scenes = [read_scene(item, roots) for item in items]
    return sorted(scenes, key=lambda scene: (scene.instant, scene.id))


def describe_collection(collection_file: Path, roots: Sequence[Path]) -> dict[str, Any]:
    """Return the openEO description of a collection.

    What the file states is kept; the dimensions, bands and extents it leaves out come from its
    items. Digital numbers are delivered: `raster:scale` is reported, `raster:offset` is applied
    and so is 0 here.
    """
    description = read_collection(collection_file)
    searched = is_searchable(description)
    description["links"] = [
        link
        for link in description.get("links", [])
        if str(link.get("href", "")).startswith("http")
    ]
    scenes = [] if searched else read_scenes(collection_file, roots)
    bands: dict[str, dict[str, Any]] = {}
    for scene in scenes:
        for name, source in scene.bands.items():
            offset = {"raster:offset": 0.0} if "raster:offset" in source.description else {}
            bands.setdefault(name, {**source.description, **offset})
    _complete_extent(description, scenes)
    summaries = description.setdefault("summaries", {})
    known = summaries.get("bands") or summaries.get("eo:bands") or description.get("bands") or []
    declared = {band.get("name"): band for band in known}
    if searched and not declared:
        declared = {name: {"name": name} for name in description.get("item_assets", {})}
    bands = bands or {str(name): {} for name in declared}
    summaries["bands"] = [{**found, **declared.get(name, {})} for name, found in bands.items()]
    description.setdefault("cube:dimensions", _dimensions(description["extent"], list(bands)))
    return description


def read_collection(path: Path) -> dict[str, Any]:
    """Return a collection file."""
    content = _read(path)
    if content.get("type") != "Collection" or "id" not in content:
        raise SourceError(f"{path} is not a STAC collection.")
    return content


def _item_files(collection_file: Path) -> Iterator[Path]:
    for path in sorted(collection_file.parent.rglob("*.json")):
        if path.name != COLLECTION_FILE and _read(path).get("type") == "Feature":
            yield path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise SourceError(f"Cannot read {path}: {error}.") from error
    return content if isinstance(content, dict) else {}


def _complete_extent(description: dict[str, Any], scenes: Sequence[Scene]) -> None:
    extent = description.setdefault("extent", {})
    boxes = [scene.bbox for scene in scenes if scene.bbox is not None]
    west, south, east, north = zip(*boxes, strict=True) if boxes else ([-180], [-90], [180], [90])
    if any(one > other for one, other in zip(west, east, strict=True)):  # across the antimeridian
        west, east = [-180], [180]
    times: list[str | None] = [scene.instant.isoformat().replace("+00:00", "Z") for scene in scenes]
    times = times or [None]
    extent.setdefault("spatial", {"bbox": [[min(west), min(south), max(east), max(north)]]})
    extent.setdefault("temporal", {"interval": [[times[0], times[-1]]]})


def _dimensions(extent: dict[str, Any], bands: Sequence[str]) -> dict[str, Any]:
    west, south, east, north = extent["spatial"]["bbox"][0][:4]
    return {
        "x": {"type": "spatial", "axis": "x", "extent": [west, east]},
        "y": {"type": "spatial", "axis": "y", "extent": [south, north]},
        "t": {"type": "temporal", "extent": extent["temporal"]["interval"][0]},
        "bands": {"type": "bands", "values": list(bands)},
    }
