"""The process graph of a job as a file that its item links: it holds the UDF, some 34 kB."""

import json

from lai_service.catalogue.port import Document

__all__ = ["FILE", "REL", "detach_process_graph"]

FILE = "process-graph.json"
REL = "processing-expression"
"""Relation of the processing extension."""
_EXPRESSION = "processing:expression"
_SMALL = 2000


def detach_process_graph(item: Document) -> tuple[Document, bytes | None]:
    """Replace a long openEO process graph in an item by a link to `process-graph.json`.

    Args:
        item: a valid item; not changed.

    Returns:
        The item, and the file to lay beside its rasters; None where there is none.
    """
    expression = item["properties"].get(_EXPRESSION)
    if not isinstance(expression, dict) or expression.get("format") != "openeo":
        return item, None
    text = json.dumps(expression.get("expression"), indent=1, sort_keys=True)
    if len(text) < _SMALL:
        return item, None
    properties = {key: value for key, value in item["properties"].items() if key != _EXPRESSION}
    link = {
        "rel": REL,
        "href": f"./{FILE}",
        "type": "application/json",
        "title": "openEO process graph",
    }
    return {**item, "properties": properties, "links": [*item["links"], link]}, text.encode()
