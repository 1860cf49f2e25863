"""From the process graph of a client to the flat graph that a worker evaluates.

Two steps, neither of which runs user code; between them `arguments` checks types:

1. `inline`: user-defined and remote processes are replaced by their graphs, every parameter by its
   value; a `context` that a child process refers to becomes the value its parent gives.
2. `lower`: a child process that is one `run_udf` becomes plain data of its parent (`udf`), and the
   arguments of loading processes one `request`, so that the graph library leaves both untouched.

`margins` may then load more than was asked for.
"""

import copy
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from lai_backend.arguments import check_types
from lai_backend.errors import GraphError, ParameterError, UnsupportedError
from lai_backend.files import Json

Graph = dict[str, dict[str, Any]]
FindProcess = Callable[[str, str | None], Mapping[str, Any] | None]

MAX_NODES = 2000
MAX_DEPTH = 12
COLLECT, COLLECTED = "collect_results", "lai_backend__results"
"""Process and node that hold the results of several `save_result`."""
LOADERS = ("load_collection", "load_stac")
GEOJSON = "geojson"
"""Key under which GeoJSON with a `crs` travels: the graph library takes it for a bounding box."""
UDF_PARENTS = (
    "apply",
    "apply_dimension",
    "apply_neighborhood",
    "apply_polygon",
    "reduce_dimension",
)
CHILD_PARAMETERS = {
    "apply": frozenset({"x", "context"}),
    "apply_dimension": frozenset({"data", "context"}),
    "apply_neighborhood": frozenset({"data", "context"}),
    "reduce_dimension": frozenset({"data", "context"}),
    "merge_cubes": frozenset({"x", "y", "context"}),
    "filter_labels": frozenset({"value", "context"}),
    "load_collection": frozenset({"value", "context"}),
    "load_stac": frozenset({"value", "context"}),
    "array_apply": frozenset({"x", "index", "label", "context"}),
    "array_filter": frozenset({"x", "index", "label", "context"}),
}
"""Parameters that a process gives to its child process; they hide those of the graph around."""
OTHER_CHILD_PARAMETERS = frozenset({"data", "x", "context"})


def prepare_graph(graph: Mapping[str, Any], find_process: FindProcess) -> Graph:
    """Resolve and lower the process graph of a client.

    Args:
        graph: flat graph of the client; not changed.
        find_process: returns the definition of a user-defined or remote process by identifier and
            namespace, None for a predefined one.

    Returns:
        A flat graph of predefined processes with exactly one result node.
    """
    resolved = resolve_graph(graph, find_process)
    for node in resolved.values():
        check_types(node["process_id"], node["arguments"])
    return lower_graph(resolved)


def resolve_graph(graph: Mapping[str, Any], find_process: FindProcess) -> Graph:
    """Do the first step alone: a flat graph without user-defined processes and parameters."""
    if not isinstance(graph, Mapping):
        raise GraphError("The process graph must be an object of nodes.")
    try:
        return inline(graph, {}, find_process)
    except RecursionError:
        raise GraphError("The process graph is nested too deeply.") from None


def lower_graph(resolved: Graph) -> Graph:
    """Do the second step alone."""
    return _collect_results({name: _lower_node(name, node) for name, node in resolved.items()})


def inline(
    graph: Mapping[str, Any],
    scope: Mapping[str, Any],
    find_process: FindProcess,
    prefix: str = "",
    depth: int = 0,
    provided: frozenset[str] = frozenset(),
) -> Graph:
    """Replace user-defined processes by their graphs and parameters by their values.

    Args:
        graph: flat graph.
        scope: values of the parameters that the graph may refer to.
        find_process: see `prepare_graph`.
        prefix: put before the names of the nodes, to keep them unique.
        depth: how many user-defined processes enclose this graph.
        provided: parameters that an enclosing process gives while it runs.

    Returns:
        A new flat graph without cycles; exactly one node is marked as the result.
    """
    if depth > MAX_DEPTH:
        raise GraphError(f"User-defined processes call each other more than {MAX_DEPTH} deep.")
    if len(graph) > MAX_NODES:
        raise GraphError(f"The process graph has more than {MAX_NODES} nodes.")
    names = {name: prefix + name for name in graph}
    result: Graph = {}
    replaced: dict[str, str] = {}
    for name, raw in graph.items():
        node = _check_node(name, raw)
        if unknown := [one for one in references(node["arguments"]) if one not in names]:
            raise GraphError(
                f"The process graph refers to a node {unknown[0]!r} that is not there."
            )
        renamed = rename_references(node["arguments"], names)
        node["arguments"] = _substitute(renamed, scope, provided)
        node["arguments"] = _inline_children(node, scope, find_process, depth)
        definition = find_process(node["process_id"], node.pop("namespace", None))
        if definition is None:
            result[prefix + name] = node
            continue
        values = _bind_parameters(definition, node["arguments"], node["process_id"])
        inner, below = f"{prefix}{name}__", depth + 1
        body = inline(definition["process_graph"], values, find_process, inner, below, provided)
        end = _end(body)
        body[end]["result"] = bool(node.get("result"))
        replaced[prefix + name] = end
        result.update(body)
        if len(result) > MAX_NODES:
            raise GraphError(f"The process graph has more than {MAX_NODES} nodes.")
    for node in result.values():
        node["arguments"] = rename_references(node["arguments"], replaced)
    try:
        TopologicalSorter(
            {n: references(node["arguments"]) for n, node in result.items()}
        ).prepare()
    except CycleError as error:
        raise GraphError(
            f"Nodes refer to each other in a cycle: {', '.join(error.args[1])}."
        ) from None
    _mark_result(result)
    return result


def _check_node(name: str, raw: Json) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("process_id"), str):
        raise GraphError(f"Node {name!r} of the process graph has no process_id.")
    if not isinstance(raw.get("arguments", {}), Mapping):
        raise GraphError(f"The arguments of node {name!r} are not an object.")
    node = copy.deepcopy(dict(raw))
    node.setdefault("arguments", {})
    return node


def _replace(value: Json, key: str, new: Callable[[str], Json]) -> Json:
    """Replace every `{key: name}` of one level; child graphs have names of their own."""
    if isinstance(value, list):
        return [_replace(item, key, new) for item in value]
    if not isinstance(value, dict) or "process_graph" in value:
        return value
    if len(value) == 1 and key in value:
        if not isinstance(value[key], str):
            raise GraphError(f"{key} must be a name, not {value[key]!r}.")
        return new(value[key])
    return {name: _replace(item, key, new) for name, item in value.items()}


def rename_references(value: Json, names: Mapping[str, str]) -> Json:
    """Rename the nodes that some arguments refer to."""
    return _replace(value, "from_node", lambda name: {"from_node": names.get(name, name)})


def references(value: Json) -> list[str]:
    """Return the names of the nodes that some arguments refer to, child graphs left out."""
    found: list[str] = []
    _replace(value, "from_node", found.append)
    return found


def _substitute(value: Json, scope: Mapping[str, Json], provided: frozenset[str]) -> Json:
    """Replace `from_parameter` by values, except those provided while the graph runs."""

    def find(name: str) -> Json:
        if name not in scope and name not in provided:
            raise ParameterError(f"The process graph needs a value for its parameter {name!r}.")
        return copy.deepcopy(scope[name]) if name in scope else {"from_parameter": name}

    return _replace(value, "from_parameter", find)


def _inline_children(
    node: dict[str, Any], scope: Mapping[str, Json], find_process: FindProcess, depth: int
) -> dict[str, Any]:
    """Return the arguments of a node with its child graphs resolved."""
    provided = CHILD_PARAMETERS.get(node["process_id"], OTHER_CHILD_PARAMETERS)
    inner = {name: value for name, value in scope.items() if name not in provided}
    inner["context"] = node["arguments"].get("context")

    def visit(value: Json) -> Json:
        if isinstance(value, list):
            return [visit(item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("process_graph"), dict):
            child = inline(value["process_graph"], inner, find_process, "", depth, provided)
            return {"process_graph": child}
        return {key: visit(item) for key, item in value.items()}

    return {key: visit(item) for key, item in node["arguments"].items()}


def check_definition(process_id: str, definition: Mapping[str, Any]) -> None:
    """Refuse a user-defined or remote process whose graph, parameters or options are none."""
    if not isinstance(definition.get("process_graph"), Mapping):
        raise GraphError(f"The process {process_id!r} has no process graph.")
    parameters = definition.get("parameters") or []
    if not isinstance(parameters, list) or not all(
        isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in parameters
    ):
        raise GraphError(f"The parameters of {process_id!r} must be a list of objects with a name.")
    if not isinstance(definition.get("default_job_options") or {}, Mapping):
        raise GraphError(f"default_job_options of {process_id!r} must be an object.")


def _bind_parameters(
    definition: Mapping[str, Any], arguments: Mapping[str, Any], process_id: str
) -> dict[str, Any]:
    """Return the value of every parameter of a user-defined process: given, or its default."""
    check_definition(process_id, definition)
    values: dict[str, Any] = {}
    for parameter in definition.get("parameters") or []:
        name = parameter["name"]
        if name in arguments:
            values[name] = arguments[name]
        elif parameter.get("optional") or "default" in parameter:
            values[name] = parameter.get("default")
        else:
            raise ParameterError(f"{process_id} needs an argument {name!r}.")
    unknown = set(arguments) - set(values)
    if unknown:
        raise ParameterError(f"{process_id} has no parameter {', '.join(sorted(unknown))}.")
    return values


def _mark_result(graph: Graph) -> None:
    """Leave one result node: the marked one, or the only node that nothing refers to."""
    marked = [name for name, node in graph.items() if node.get("result")]
    if not marked:
        marked = _unused(graph)
        saves = [name for name in marked if graph[name]["process_id"] == "save_result"]
        marked = saves[-1:] if saves == marked else marked
    if len(marked) != 1:
        raise GraphError(f"The process graph must have one result node, it has {len(marked)}.")
    for name, node in graph.items():
        node["result"] = name == marked[0]


def _end(graph: Graph) -> str:
    """Return the name of the result node."""
    return next(name for name, node in graph.items() if node["result"])


def _unused(graph: Graph) -> list[str]:
    """Return the nodes that no other refers to."""
    used = {name for node in graph.values() for name in references(node["arguments"])}
    return [name for name in graph if name not in used]


def _collect_results(graph: Graph) -> Graph:
    """Make the graph end in all its `save_result` nodes, as on the cloud back-ends."""
    end = _end(graph)
    saves = [name for name in _unused(graph) if graph[name]["process_id"] == "save_result"]
    others = [name for name in saves if name != end]
    if not others:
        return graph
    graph[end]["result"] = False
    arguments = {"data": {"from_node": end}, "others": [{"from_node": name} for name in others]}
    return {**graph, COLLECTED: {"process_id": COLLECT, "arguments": arguments, "result": True}}


def _lower_node(name: str, node: dict[str, Any]) -> dict[str, Any]:
    """Turn loading requests and UDFs into plain data."""
    process_id, arguments = node["process_id"], node["arguments"]
    if process_id in LOADERS:
        return {**node, "arguments": {"request": arguments}}
    if process_id == "filter_bbox":
        request = {"spatial_extent": arguments.get("extent")}
        return {**node, "arguments": {"data": arguments.get("data"), "request": request}}
    if process_id == "run_udf":
        return {**node, "arguments": {"data": arguments.get("data"), "udf": _read_udf(arguments)}}
    arguments = {
        name: {GEOJSON: value}
        if isinstance(value, dict) and {"type", "crs"} <= set(value)
        else value
        for name, value in arguments.items()
    }
    node = {**node, "arguments": arguments}
    child = arguments.get("reducer" if process_id == "reduce_dimension" else "process")
    nodes = child.get("process_graph", {}) if isinstance(child, dict) else {}
    udf_nodes = [item for item in nodes.values() if item["process_id"] == "run_udf"]
    if not udf_nodes:
        if process_id == "apply_neighborhood":
            raise UnsupportedError(
                "apply_neighborhood needs a process that is a single run_udf on this back-end."
            )
        return node
    if len(nodes) > 1 or process_id not in UDF_PARENTS:
        raise UnsupportedError(
            f"In {process_id} (node {name!r}) run_udf must be the only process of the child graph, "
            f"and the parent one of {', '.join(UDF_PARENTS)}."
        )
    dropped = {"process", "reducer", "context"}
    kept = {key: item for key, item in arguments.items() if key not in dropped}
    return {**node, "arguments": {**kept, "udf": _read_udf(udf_nodes[0]["arguments"])}}


def _read_udf(arguments: Mapping[str, Any]) -> dict[str, Any]:
    code, runtime = arguments.get("udf"), arguments.get("runtime", "Python")
    if not isinstance(code, str) or "\n" not in code.strip():
        raise ParameterError(
            "run_udf needs the text of the UDF in `udf`; addresses and file names are not read "
            "(with the Python client: openeo.UDF.from_file)."
        )
    if str(runtime).lower() != "python":
        raise UnsupportedError(f"The UDF runtime {runtime!r} is not offered; use 'Python'.")
    context = arguments.get("context") or {}
    if not isinstance(context, dict):
        raise ParameterError(f"context of run_udf must be an object, not {context!r}.")
    return {"code": code, "context": context}
