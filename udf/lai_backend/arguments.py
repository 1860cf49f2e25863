"""Whether the arguments of processes have the types that their definitions ask for.

Checked once, before a worker starts: no process has to look at the type of an argument again.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

from lai_backend.errors import ParameterError, UnknownProcessError
from lai_backend.files import Json
from lai_backend.formats import known_specs, process_specs

LOOSE = {"pattern", "format", "uniqueItems"}
"""Keywords of schemas that refuse what works here: files beside addresses, equal dates."""
MAX_SHOWN = 200


def check_types(process_id: str, arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a node, and of the nodes of its child processes.

    What refers to nodes or parameters is not known yet; unknown processes are left to who runs
    them.

    Raises:
        ParameterError: an argument is of a wrong type.
    """
    for value in arguments.values():
        for child in _child_nodes(value):
            check_types(child["process_id"], child["arguments"])
    for name, validator in _validators(process_id).items():
        if name not in arguments or _refers(arguments[name]):
            continue
        error = best_match(validator.iter_errors(arguments[name]))
        if error is not None:
            path = "".join(f"[{part!r}]" for part in error.absolute_path)
            message = f"{error.message[:MAX_SHOWN]}{'…' * (len(error.message) > MAX_SHOWN)}"
            raise ParameterError(f"{process_id}: {name}{path} is not as asked for: {message}.")


def check_offered(process_id: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a node whose process, or one of whose child processes, is not offered."""
    if process_id not in process_specs():
        raise UnknownProcessError(f"There is no process {process_id!r}.")
    for value in arguments.values():
        for child in _child_nodes(value):
            check_offered(child["process_id"], child["arguments"])


@functools.cache
def _validators(process_id: str) -> dict[str, jsonschema.Draft7Validator]:
    """Return what checks each parameter of a process; an optional one may be null."""
    found = {}
    for parameter in known_specs().get(process_id, {}).get("parameters", []):
        schema = parameter["schema"]
        kinds = list(schema) if isinstance(schema, list) else [schema]
        kinds += [{"type": "null"}] if parameter.get("optional") else []
        found[parameter["name"]] = jsonschema.Draft7Validator(_loosen({"anyOf": kinds}))
    return found


def _loosen(schema: Json) -> Json:
    if isinstance(schema, list):
        return [_loosen(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    loose = {key: _loosen(part) for key, part in schema.items() if key not in LOOSE}
    if schema.get("subtype") == "process-graph":
        loose["required"] = ["process_graph"]
    return loose


def _refers(value: Json) -> bool:
    """Return whether a value names a node or parameter, somewhere in it."""
    if isinstance(value, list):
        return any(map(_refers, value))
    if not isinstance(value, dict) or "process_graph" in value:
        return False
    return bool({"from_node", "from_parameter"} & set(value)) or any(map(_refers, value.values()))


def _child_nodes(value: Json) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and "process_graph" in value:
        if not isinstance(value["process_graph"], dict):
            raise ParameterError(f"process_graph must be nodes, not {value['process_graph']!r}.")
        yield from value["process_graph"].values()
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _child_nodes(part)
