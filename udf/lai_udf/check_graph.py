"""Check a process graph (JSON) before a job is paid: bands, windows, settings, the UDF in it.

Checks every node with a `run_udf`; ours belongs in an `apply_neighborhood`. In: a flat graph,
or a stored process. Out: problems, none if good. What parameters will hold is not judged.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lai_udf.check import Report, lint_udf
from lai_udf.errors import ContractError
from lai_udf.predict import BANDS, HALO_PX, OUTPUT_BANDS, LaiInputError, read_settings
from lai_udf.process_graph import WINDOW_MULTIPLE

LOADERS = ("load_collection", "load_stac")
OUR_BAND = f'"{OUTPUT_BANDS[1]}"'  # in the text of the LAI function, and hardly in another
Graph = Mapping[str, Mapping[str, Any]]


def check_graph_file(path: Path) -> Report:
    """Check a graph or stored process in a JSON file."""
    return check_graph(read_graph(path))


def read_graph(path: Path) -> Graph:
    """Return the flat graph of a JSON file, that of a stored process too.

    Raises:
        ContractError: the file is no process graph.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContractError(f"cannot read {path} as JSON ({error})") from error
    graph = content.get("process_graph", content) if isinstance(content, dict) else None
    if not isinstance(graph, dict) or not all(
        isinstance(node, dict) and isinstance(node.get("process_id"), str)
        for node in graph.values()
    ):
        raise ContractError(f"{path}: no process graph: nodes by name, each with a process_id")
    return graph


def check_graph(graph: Graph) -> Report:
    """Return what would go wrong on a back-end.

    Args:
        graph: flat process graph.
    """
    windows = [name for name, node in graph.items() if node["process_id"] == "apply_neighborhood"]
    problems = [] if windows else ["no apply_neighborhood: a window needs its neighbours"]
    for name in graph:
        problems += [f"{name}: {problem}" for problem in _check_node(graph, name)]
    return Report((f"{len(graph)} nodes, {len(windows)} apply_neighborhood",), tuple(problems))


def _check_node(graph: Graph, name: str) -> Iterator[str]:
    arguments = graph[name].get("arguments") or {}
    is_window = graph[name]["process_id"] == "apply_neighborhood"
    size, overlap = (_read_px(arguments.get(key)) for key in ("size", "overlap"))
    if is_window:
        yield from _check_sizes(size, overlap)
    process = arguments.get("process", arguments.get("reducer"))
    child = process.get("process_graph", {}) if isinstance(process, Mapping) else {}
    around = [graph[name]] if graph[name]["process_id"] == "run_udf" else list(child.values())
    udfs = [node for node in around if node["process_id"] == "run_udf"]
    if (is_window or udfs) and (len(udfs) != 1 or len(around) != 1):
        yield "the process must be one run_udf: back-ends take nothing else"
    if len(udfs) != 1 or len(around) != 1:
        return
    code = udfs[0]["arguments"].get("udf")
    if isinstance(code, str) and "\n" in code:
        yield from (f"UDF, {finding}" for finding in lint_udf(code))
    if not isinstance(code, str) or OUR_BAND not in code:
        return
    context = udfs[0]["arguments"].get("context") or {}
    if context == {"from_parameter": "context"}:
        context = arguments.get("context") or {}
    yield from _check_settings(context, overlap)
    yield from _check_bands(graph, name)


def _read_px(entries: object) -> dict[str, Any]:
    """Return values by axis, of x and y only; what is not in px stays a text."""
    listed = entries if isinstance(entries, list) else []
    return {
        entry["dimension"]: entry.get("value") if entry.get("unit") == "px" else str(entry)
        for entry in listed
        if isinstance(entry, Mapping) and entry.get("dimension") in ("x", "y")
    }


def _check_sizes(size: Mapping[str, Any], overlap: Mapping[str, Any]) -> Iterator[str]:
    if set(size) != {"x", "y"}:
        yield "size must name x and y"
        return
    if not overlap:
        yield f"no overlap: neighbouring windows will not meet; ask for {HALO_PX} px in x and y"
    elif set(overlap) != {"x", "y"}:
        yield "overlap on one axis only, which back-ends trim but do not load"
    for axis, value in size.items():
        border = overlap.get(axis, 0)
        if not isinstance(value, int) or not isinstance(border, int):
            yield f"size and overlap along {axis} must be whole numbers of px"
        elif border > value:
            yield f"overlap of {border} px is larger than the size of {value} px along {axis}"
        elif value % WINDOW_MULTIPLE or border % WINDOW_MULTIPLE:
            yield (
                f"size {value} and overlap {border} along {axis} should be multiples of "
                f"{WINDOW_MULTIPLE} px, so that the poolings of windows stay in phase"
            )


def _check_settings(context: object, overlap: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(context, Mapping):
        return
    known = {key: value for key, value in context.items() if not _is_parameter(value)}
    try:
        read_settings(dict(known))
    except LaiInputError as error:
        yield f"context: {error}"
        return
    borders = [value for value in overlap.values() if isinstance(value, int)]
    trusted = known.get("overlap", 0)
    if borders and isinstance(trusted, int) and trusted > min(borders):
        yield (
            f"context states that {trusted} px around a window are trimmed, the node asks for "
            f"{min(borders)}: set both alike"
        )
    if borders and min(borders) < HALO_PX:
        yield f"overlap below {HALO_PX} px: seams where the network looks further"


def _check_bands(graph: Graph, name: str) -> Iterator[str]:
    loads = [node["arguments"] for node in _upstream(graph, name) if node["process_id"] in LOADERS]
    asked = [load.get("bands") for load in loads]
    if not asked or not all(isinstance(bands, list) or _is_parameter(bands) for bands in asked):
        return  # all bands, or a cube from elsewhere
    if any(_is_parameter(bands) for bands in asked) and len(asked) == 1:
        return
    found = {band for bands in asked if isinstance(bands, list) for band in bands}
    if missing := [band for band in BANDS if band not in found]:
        yield f"bands {', '.join(missing)} are not loaded; the function needs {' '.join(BANDS)}"


def _upstream(graph: Graph, name: str) -> list[Mapping[str, Any]]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for source in _references(graph[waiting.pop()].get("arguments", {})):
            if source in graph and source not in seen:
                seen.add(source)
                waiting.append(source)
    return [graph[source] for source in seen]


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("from_node"), str):
            yield value["from_node"]
        elif "process_graph" not in value:
            for item in value.values():
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _is_parameter(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == {"from_parameter"}
