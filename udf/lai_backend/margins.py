"""Load the neighbours that a neighbourhood needs, and whole pixels of the grid that follows.

Where cubes go through pixel-wise processes, `merge_cubes` and `resample_spatial` into one
`apply_neighborhood`, they are loaded with that overlap, and the result is cropped to the extent
asked for. So the borders of a result are right, and the user need not buffer the area; one cannot
rely on it in a cloud.

A cube that is brought to larger pixels is loaded in whole pixels of that size, so that cubes of
bands of 10 m and of 20 m, loaded for one extent, meet on one grid.
"""

import copy

import networkx as nx

from lai_backend.files import Json
from lai_backend.graphs import LOADERS, Graph, references, rename_references

KEEPS_PLACES = frozenset(
    [
        *("aggregate_temporal", "aggregate_temporal_period", "reduce_dimension", "apply_dimension"),
        *("apply", "apply_kernel", "ndvi", "mask", "mask_polygon", "merge_cubes"),
        *("mask_scl_dilation", "to_scl_dilation_mask", "resample_cube_spatial", "rename_labels"),
        *("filter_bands", "filter_temporal", "filter_labels", "rename_dimension"),
        *("add_dimension", "drop_dimension"),
    ]
)
"""Processes after which a pixel lies where it lay."""
LARGEST_RATIO = 6  # between pixels of Sentinel-2, 10 m to 60 m
SCL_KERNELS_PX = (17, 201)  # default sizes of the kernels of `to_scl_dilation_mask`
CROP_PROCESS = "crop_to_extent"


def snap_to_resampling(graph: Graph) -> Graph:
    """Return a lowered graph with the `pixel` that follows in the requests of loading nodes.

    It is there where every use of a loaded cube is one `resample_spatial` in the same projection.
    """
    result, links = copy.deepcopy(graph), _links(graph)
    for name, node in graph.items():
        if node["process_id"] in LOADERS:
            found = {_resolution(graph[user]) for user in links.successors(name)}
            if len(found) == 1 and (pixel := found.pop()):
                result[name]["arguments"]["request"]["pixel"] = pixel
    return result


def add_margins(graph: Graph) -> Graph:
    """Load the neighbours that each `apply_neighborhood` needs, and crop after it.

    Only where every use of what is loaded leads through pixel-wise processes into that one
    neighbourhood; anything else (such as a spatial mean) must not see more than was asked for.

    Returns:
        The lowered graph with `margin_px` in loading requests and `crop_to_extent` nodes.
    """
    result, links = copy.deepcopy(graph), _links(graph)
    for target, node in graph.items():
        margin = _largest_overlap(node["arguments"].get("overlap"))
        if node["process_id"] != "apply_neighborhood" or not margin:
            continue
        before = nx.ancestors(links, target)
        loaders = _loaders(graph, links, target)
        extents = [graph[name]["arguments"]["request"].get("spatial_extent") for name in loaders]
        if not extents or extents[0] is None or any(one != extents[0] for one in extents):
            continue
        margin += sum(_reach(graph[name]) for name in before)
        if any(graph[name]["process_id"] == "resample_cube_spatial" for name in before):
            margin *= LARGEST_RATIO  # whatever the pixels of the two cubes
        for name in loaders:
            result[name]["arguments"]["request"]["margin_px"] = margin
        _insert_crop(result, target, extents[0])
    return result


def _links(graph: Graph) -> nx.DiGraph:
    """Return which node feeds which."""
    links = nx.DiGraph()
    links.add_nodes_from(graph)
    links.add_edges_from((used, n) for n in graph for used in references(graph[n]["arguments"]))
    return links


def _loaders(graph: Graph, links: nx.DiGraph, target: str) -> set[str]:
    """Return the loading nodes that feed a neighbourhood and nothing else; none if unclear."""
    upstream = nx.ancestors(links, target)
    loaders = {name for name in upstream if graph[name]["process_id"] in LOADERS}
    for name in upstream:
        fine = name in loaders or _keeps_places(graph, name, loaders)
        if not fine or not set(links.successors(name)) <= upstream | {target}:
            return set()
    return loaders


def _reach(node: Json) -> int:
    """Return how many further pixels a node needs on every side."""
    process_id, arguments = node["process_id"], node["arguments"]
    if process_id == "mask_scl_dilation":
        return max(SCL_KERNELS_PX) // 2
    if process_id == "to_scl_dilation_mask":
        sizes = [arguments.get(f"kernel{n}_size", SCL_KERNELS_PX[n - 1]) for n in (1, 2)]
        return int(arguments.get("erosion_kernel_size") or 0) + int(max(sizes)) // 2
    if process_id == "apply_kernel":
        kernel = arguments.get("kernel") or [[]]
        return max(len(kernel), len(kernel[0])) // 2
    return 0


def _keeps_places(graph: Graph, name: str, loaders: set[str]) -> bool:
    """Return whether a node works pixel by pixel, or is the resampling its loaders know of."""
    node = graph[name]
    before = references(node["arguments"])
    if node["process_id"] in KEEPS_PLACES:
        return bool(before)
    pixel = _resolution(node)
    return bool(pixel) and all(
        source in loaders and graph[source]["arguments"]["request"].get("pixel") == pixel
        for source in before
    )


def _resolution(node: Json) -> float | None:
    """Return the pixel size that `resample_spatial` asks for in the same projection, else None."""
    arguments = node["arguments"]
    if node["process_id"] != "resample_spatial" or arguments.get("projection") is not None:
        return None
    value = arguments.get("resolution")
    pair = value if isinstance(value, list) and len(value) == 2 else [value, value]
    if not all(isinstance(one, int | float) and one > 0 for one in pair) or pair[0] != pair[1]:
        return None
    return float(pair[0])


def _largest_overlap(overlap: Json) -> int:
    entries = [e for e in overlap or [] if e.get("unit") == "px" and e["dimension"] != "t"]
    return max((int(entry["value"]) for entry in entries if entry["value"]), default=0)


def _insert_crop(graph: Graph, target: str, extent: Json) -> None:
    crop = f"{target}__crop"
    for node in graph.values():
        node["arguments"] = rename_references(node["arguments"], {target: crop})
    arguments = {"data": {"from_node": target}, "request": {"spatial_extent": extent}}
    graph[crop] = {"process_id": CROP_PROCESS, "arguments": arguments}
    graph[crop]["result"] = graph[target].get("result", False)
    graph[target]["result"] = False
