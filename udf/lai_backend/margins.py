"""Load the neighbours that a neighbourhood needs.

Where a cube goes through pixel-wise processes into one `apply_neighborhood`, it is loaded with that
overlap, and cropped to the extent asked for afterwards. So the borders of a result are right, and
the user need not buffer the area. Strict mode does without, as one cannot rely on it in a cloud.
"""

import copy

from lai_backend.files import Json
from lai_backend.graphs import LOADERS, Graph, references, rename_references

PIXELWISE = frozenset(
    {
        "apply",
        "apply_dimension",
        "reduce_dimension",
        "filter_bands",
        "filter_temporal",
        "filter_labels",
        "rename_labels",
        "rename_dimension",
        "add_dimension",
        "drop_dimension",
        "mask",
        "ndvi",
        "aggregate_temporal",
        "aggregate_temporal_period",
    }
)
CROP_PROCESS = "crop_to_extent"


def add_margins(graph: Graph) -> Graph:
    """Load the neighbours that an `apply_neighborhood` needs, and crop after it.

    Only where every path from the loading node leads through pixel-wise processes into one
    neighbourhood; anything else (a spatial mean, say) must not see more than was asked for.

    Args:
        graph: lowered flat graph.

    Returns:
        A graph with `margin_px` in loading requests and `crop_to_extent` nodes.
    """
    result = copy.deepcopy(graph)
    for name, node in graph.items():
        extent = node["arguments"].get("request", {}).get("spatial_extent")
        if node["process_id"] not in LOADERS or extent is None:
            continue
        target = _only_neighborhood(graph, name)
        if target is None or _sources(graph, target) != {name}:
            continue
        margin = _largest_overlap(graph[target]["arguments"].get("overlap"))
        if margin:
            result[name]["arguments"]["request"]["margin_px"] = margin
            _insert_crop(result, target, extent)
    return result


def _only_neighborhood(graph: Graph, source: str) -> str | None:
    """Return the neighbourhood that all paths from a node lead into, None if there is none."""
    found: set[str] = set()
    waiting = [source]
    while waiting:
        name = waiting.pop()
        users = [key for key, node in graph.items() if name in references(node["arguments"])]
        if not users:
            return None
        for user in users:
            if graph[user]["process_id"] == "apply_neighborhood":
                found.add(user)
            elif graph[user]["process_id"] in PIXELWISE:
                waiting.append(user)
            else:
                return None
    return found.pop() if len(found) == 1 else None


def _sources(graph: Graph, target: str) -> set[str]:
    """Return the nodes without inputs that a node depends on."""
    before = references(graph[target]["arguments"])
    return {target} if not before else {s for name in before for s in _sources(graph, name)}


def _largest_overlap(overlap: Json) -> int:
    entries = overlap if isinstance(overlap, list) else []
    values = [
        entry.get("value")
        for entry in entries
        if isinstance(entry, dict) and entry.get("unit") == "px" and entry.get("dimension") != "t"
    ]
    return max((int(value) for value in values if isinstance(value, int | float)), default=0)


def _insert_crop(graph: Graph, target: str, extent: Json) -> None:
    crop = f"{target}__crop"
    for node in graph.values():
        node["arguments"] = rename_references(node["arguments"], {target: crop})
    arguments = {"data": {"from_node": target}, "request": {"spatial_extent": extent}}
    graph[crop] = {"process_id": CROP_PROCESS, "arguments": arguments}
    graph[crop]["result"] = graph[target].get("result", False)
    graph[target]["result"] = False
