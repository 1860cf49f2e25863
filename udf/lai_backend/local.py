"""Process graphs in this Python process, without a server: a `LocalConnection` of the client.

`openeo.local` has no `apply_neighborhood`, gives UDFs arrays without labels, and reads files of its
own kinds. This one runs the same JSON as a server of ours would, with the same processes: on
collections in folders, and STAC items. UDFs run in this process, so run your own only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openeo.internal.graph_building import as_flat_graph
from openeo.local import LocalConnection as ClientConnection
from openeo.metadata import CollectionMetadata

from lai_backend.collections import describe_collection, find_collection, find_collections
from lai_backend.errors import ParameterError
from lai_backend.graphs import prepare_graph
from lai_backend.margins import add_margins, snap_to_resampling
from lai_backend.processes import build_registry, evaluate
from lai_backend.saving import SavedResult
from lai_backend.settings import Task
from lai_backend.vectors import ZonalValues


class LocalConnection(ClientConnection):
    """A connection of the openEO client that computes here; `cube.execute()` gives an array."""

    def __init__(self, collections: Sequence[Path] = (), allow: Sequence[Path] = ()) -> None:
        """Prepare a connection.

        Args:
            collections: folders with collections, as for `lai-backend serve`.
            allow: further folders that `load_stac` may read.
        """
        super().__init__("local")
        roots = tuple(folder.resolve() for folder in (*collections, *allow))
        folders = roots[: len(collections)]
        self._task = Task(graph={}, collection_dirs=folders, readable_roots=roots)

    def list_collections(self) -> list[dict[str, Any]]:
        """Describe all collections."""
        return [
            self.describe_collection(name) for name in find_collections(self._task.collection_dirs)
        ]

    def describe_collection(self, collection_id: str) -> dict[str, Any]:
        """Describe one collection."""
        file = find_collection(self._task.collection_dirs, collection_id)
        return describe_collection(file, self._task.readable_roots)

    def collection_metadata(self, name: str) -> CollectionMetadata:
        """Return what the client needs to know of a collection."""
        return CollectionMetadata(self.describe_collection(name))

    def execute(
        self, process_graph: Any, *, validate: bool | None = None, auto_decode: bool = True
    ) -> Any:
        """Compute a process graph: a flat graph, JSON text, or cube of the client.

        Returns:
            A lazy cube (t, bands, y, x), float32, also of a graph that ends in `save_result`;
            another value where the graph ends in one.
        """
        if validate:
            raise ParameterError("A local connection does not validate; use a server of ours.")
        flat = as_flat_graph(process_graph)
        nodes = flat.get("process_graph", flat)
        prepared = snap_to_resampling(prepare_graph(nodes, lambda name, namespace: None))
        result = evaluate(add_margins(prepared), build_registry(self._task))
        return _unwrap(result)


def _unwrap(result: Any) -> Any:
    if isinstance(result, list):
        return [_unwrap(one) for one in result]
    if isinstance(result, SavedResult):
        result = result.data
    return result.cube if isinstance(result, ZonalValues) else result
