"""Look at a process graph before anyone pays for it; runs no user code and reads no pixels."""

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lai_backend.access import allowed_path, is_web_address
from lai_backend.arguments import check_offered, check_types
from lai_backend.errors import LaiBackendError, ParameterError
from lai_backend.extents import parse_spatial_extent, parse_temporal_extent
from lai_backend.formats import VECTOR_FORMATS, check_format, process_specs, read_prefix
from lai_backend.graphs import FindProcess, Graph, lower_graph, resolve_graph
from lai_backend.windows import parse_windows

Problem = dict[str, Any]
ENTRY_POINTS = {"apply_datacube", "apply_hypercube", "apply_timeseries", "apply_vectorcube"}


def validate_graph(
    graph: Mapping[str, Any],
    find_process: FindProcess,
    bands_of: Mapping[str, Sequence[str]],
    roots: Sequence[Path] = (),
) -> list[Problem]:
    """Return what is wrong with the flat graph of a client; an empty list if nothing is.

    Args:
        graph: of a client.
        find_process: see `graphs.prepare_graph`.
        bands_of: band names of each collection.
        roots: folders below which local files may be read.
    """
    try:
        resolved = resolve_graph(graph, find_process)
        if problems := _find_problems(resolved, _check_call):
            return problems
        return _find_problems(lower_graph(resolved), partial(_check_node, bands_of, roots))
    except LaiBackendError as error:
        return [{"code": error.code, "message": str(error)}]


def _find_problems(graph: Graph, check: Callable[[str, dict[str, Any]], None]) -> list[Problem]:
    problems = []
    for name, node in graph.items():
        try:
            check(node["process_id"], node["arguments"])
        except LaiBackendError as error:
            problems.append({"code": error.code, "message": f"{error} (node {name!r})"})
    return problems


def _check_call(process_id: str, arguments: dict[str, Any]) -> None:
    check_offered(process_id, arguments)
    check_types(process_id, arguments)
    parameters = {one["name"]: one for one in process_specs()[process_id]["parameters"]}
    for name, parameter in parameters.items():
        if not parameter.get("optional") and name not in {*arguments, "runtime"}:
            raise ParameterError(f"{process_id} needs an argument {name!r}.")
    if unknown := set(arguments) - set(parameters):
        raise ParameterError(f"{process_id} has no parameter {', '.join(sorted(unknown))}.")


def _check_node(
    bands_of: Mapping[str, Sequence[str]],
    roots: Sequence[Path],
    process_id: str,
    arguments: dict[str, Any],
) -> None:
    if "request" in arguments:
        _check_request(arguments["request"], bands_of)
    address = arguments.get("request", arguments).get("url")
    if isinstance(address, str) and not is_web_address(address):
        allowed_path(address, roots)
    if process_id == "apply_neighborhood":
        parse_windows(arguments.get("size"), arguments.get("overlap"))
    if process_id == "save_result":  # of cubes or polygons: that is not known yet
        form = str(arguments.get("format", "GTiff"))
        check_format(form, vector=form.lower() in VECTOR_FORMATS)
        read_prefix(arguments.get("options") or {})
    if "udf" in arguments:
        check_udf_text(arguments["udf"]["code"])


def _check_request(request: Mapping[str, Any], bands_of: Mapping[str, Sequence[str]]) -> None:
    parse_spatial_extent(request.get("spatial_extent"))
    parse_temporal_extent(request.get("temporal_extent"))
    if "id" not in request:
        return
    identifier = request["id"]
    if identifier not in bands_of:
        known = ", ".join(bands_of) or "none"
        raise ParameterError(f"There is no collection {identifier!r}; there are: {known}.")
    unknown = [band for band in request.get("bands") or [] if band not in bands_of[identifier]]
    if unknown:
        raise ParameterError(
            f"Collection {identifier!r} has no band {', '.join(map(str, unknown))}; its bands are "
            f"{', '.join(bands_of[identifier])}."
        )


def check_udf_text(code: str) -> None:
    """Check what can be seen of a UDF without running it: its syntax, and an entry point."""
    try:
        body = ast.parse(code).body
    except SyntaxError as error:
        raise ParameterError(
            f"The UDF has a syntax error in line {error.lineno}: {error.msg}."
        ) from error
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    imports = [name for node in body if isinstance(node, ast.ImportFrom) for name in node.names]
    names = {node.name for node in functions} | {name.asname or name.name for name in imports}
    takes_udf_data = any(len(node.args.args) == 1 for node in functions)
    if not names & ENTRY_POINTS and not takes_udf_data:
        raise ParameterError("The UDF defines no apply_datacube(cube, context).")
