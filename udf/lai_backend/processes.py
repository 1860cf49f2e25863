"""The processes that a worker offers: those of openeo-processes-dask, and ours in front.

Ours replace or add what that library lacks: loading with extents, UDFs with labels,
`apply_neighborhood`, `save_result`.
"""

import functools
import inspect
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
from openeo_driver.datacube import DriverVectorCube
from openeo_driver.errors import OpenEOApiException
from openeo_pg_parser_networkx import OpenEOProcessGraph, ProcessRegistry
from openeo_pg_parser_networkx.process_registry import Process
from openeo_processes_dask import process_implementations, specs

from lai_backend import dimensions, grids, neighborhood, saving, scl, upstream, vectors
from lai_backend.access import allowed_path, download, is_web_address
from lai_backend.collections import find_collection, read_collection, read_scenes
from lai_backend.errors import (
    GraphError,
    LaiBackendError,
    NoDataError,
    ParameterError,
    SourceError,
    UnknownProcessError,
)
from lai_backend.files import Json
from lai_backend.graphs import COLLECT, Graph
from lai_backend.loading import load_cube, plan_cube, read_request
from lai_backend.settings import Task
from lai_backend.sources import (
    Scene,
    is_searchable,
    read_scene,
    read_stac,
    search_items,
    walk_items,
)
from lai_backend.udf_process import SandboxedUdf, UdfProcess
from lai_backend.udf_runner import LocalUdf

_log = logging.getLogger(__name__)
Function = Callable[..., Any]
OURS: dict[str, Function] = {
    **upstream.REPLACEMENTS,
    COLLECT: lambda data, others: [data, *others],
    "crop_to_extent": grids.crop_to_extent,
    "resample_cube_spatial": grids.on_grid_of,
    **{
        function.__name__: function
        for function in (
            *(dimensions.apply_dimension, grids.filter_bbox, grids.resample_spatial),
            saving.save_result,
            *(scl.mask_scl_dilation, scl.to_scl_dilation_mask),
            *(vectors.aggregate_spatial, vectors.apply_polygon, vectors.filter_spatial),
            *(vectors.load_geojson, vectors.mask_polygon, vectors.vector_buffer),
            vectors.vector_reproject,
        )
    },
}
"""Processes of ours that need to know nothing of the job, by identifier."""
OF_UDFS: dict[str, Function] = {
    "apply": neighborhood.apply_pixels,
    "apply_dimension": neighborhood.apply_along,
    "apply_neighborhood": neighborhood.apply_neighborhood,
    "apply_polygon": vectors.apply_udf_to_polygons,
    "reduce_dimension": neighborhood.reduce_with_udf,
    "run_udf": neighborhood.run_on_cube,
}
"""What processes do whose child process is a UDF; the second argument is `udf`."""


def build_registry(
    task: Task, udfs: UdfProcess | None = None, loaded: list[Scene] | None = None
) -> ProcessRegistry:
    """Return the processes of one worker.

    Args:
        task: what the worker may read.
        udfs: process that runs UDFs; None: this one.
        loaded: takes the scenes that loading processes choose.
    """

    def with_udf(function: Function) -> Function:
        @functools.wraps(function)
        def call(udf: dict[str, Any], **arguments: Any) -> Any:
            kind = LocalUdf if udfs is None else functools.partial(SandboxedUdf, process=udfs)
            return function(udf=kind(udf["code"], udf["context"]), **arguments)

        return call

    own = Loading(task, [] if loaded is None else loaded)
    registry = plain_registry()
    for name, function in {**OURS, **own.processes()}.items():
        registry[name] = Process(spec={"id": name}, implementation=_on_cubes(function))
    for name, function in OF_UDFS.items():
        implementation = with_udf(_on_cubes(function))
        registry[f"{name}_udf"] = Process(spec={"id": name}, implementation=implementation)
    return registry


def plain_registry() -> ProcessRegistry:
    """Return the processes of openeo-processes-dask."""
    registry = ProcessRegistry(wrap_funcs=[_named, upstream.resolve_lists])
    registry.store = {space: dict(known) for space, known in _wrapped_once().store.items()}
    return registry


@functools.cache
def _wrapped_once() -> ProcessRegistry:
    registry = ProcessRegistry(wrap_funcs=[_named, upstream.resolve_lists])
    for name, function in inspect.getmembers(process_implementations, inspect.isfunction):
        if hasattr(specs, name):
            registry[name] = Process(spec=getattr(specs, name), implementation=function)
    return registry


def _named(function: Function) -> Function:
    """Refuse calls whose arguments a process does not have, needs, or cannot work with.

    What a process of the library raises while the graph is built comes of its arguments, and has no
    root of its own.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
            return function(*args, **kwargs)
        except (LaiBackendError, OpenEOApiException, MemoryError, OSError):
            raise
        except Exception as error:
            raise ParameterError(f"{function.__name__.strip('_')}: {error}.") from error

    call.__signature__ = signature  # type: ignore[attr-defined]  # upstream asks at every call
    return call


def _on_cubes(function: Function) -> Function:
    """Refuse anything but a raster cube where a process of ours requires one."""
    cubes = [
        name for name, kind in inspect.get_annotations(function).items() if kind is xr.DataArray
    ]

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        for value in (arguments[name] for name in cubes if name in arguments):
            if not isinstance(value, xr.DataArray):
                raise GraphError(f"A raster cube is needed here, not {type(value).__name__}.")
        return function(**arguments)

    return call


class ResultsCache(dict[str, Any]):
    """Caches the results of the main graph, and computes those of child graphs at each call.

    The graph library drops the results of child graphs of two processes only, so that others,
    as `aggregate_temporal`, would get the first result again and again; it asks by way of
    `__getitem__`, for what it has just computed by brackets.
    """

    def __init__(self, graph: OpenEOProcessGraph) -> None:
        super().__init__()
        self._main = str(graph.uid)
        self.__getitem__ = self._remembered  # type: ignore[method-assign]

    def _remembered(self, node: str) -> Any:
        if not node.endswith(self._main):
            raise KeyError(node)
        return self[node]


def evaluate(nodes: Graph, registry: ProcessRegistry) -> Any:
    """Evaluate a lowered graph; cubes stay lazy."""
    named = {
        name: {**node, "process_id": node["process_id"] + "_udf" * ("udf" in node["arguments"])}
        for name, node in nodes.items()
    }
    try:
        graph = OpenEOProcessGraph({"process_graph": named})
    except Exception as error:  # what it meets in arguments
        raise GraphError(f"The process graph cannot be read: {error}.") from error
    try:
        call = graph.to_callable(registry, results_cache=ResultsCache(graph))
    except KeyError as error:
        raise UnknownProcessError(f"There is no such process: {error.args[0]}") from error
    return call()


@dataclass(frozen=True)
class Loading:
    """The processes that read from folders and from the web."""

    task: Task  # what the worker may read
    loaded: list[Scene]  # takes the scenes that are chosen

    def processes(self) -> dict[str, Function]:
        """Return them by identifier."""
        functions = (self.load_collection, self.load_stac, self.load_url)
        return {function.__name__: function for function in functions}

    def load_collection(self, request: dict[str, Any]) -> xr.DataArray:
        """Load a local collection; see `loading`."""
        file = find_collection(self.task.collection_dirs, request.get("id"))
        collection, what = read_collection(file), f"Collection {request.get('id')!r}"
        roots = self.task.readable_roots
        return self._load(collection, request, what, lambda: read_scenes(file, roots))

    def load_stac(self, request: dict[str, Any]) -> xr.DataArray:
        """Load a STAC item, collection or page of items; see `loading`."""
        if "url" not in request:
            raise ParameterError("load_stac needs `url`.")
        href, roots = str(request["url"]), self.task.readable_roots

        def walk() -> list[Scene]:
            if scenes := [read_scene(item, roots) for item in walk_items(href, roots)]:
                return scenes
            raise SourceError(f"{href} leads to no STAC item.")

        return self._load(read_stac(href, roots), request, href, walk)

    def _load(
        self,
        content: Mapping[str, Any],
        request: dict[str, Any],
        what: str,
        walk: Callable[[], list[Scene]],
    ) -> xr.DataArray:
        """Load from a STAC object: by the search of its API, or what `walk` finds."""
        wanted = read_request(request)
        if is_searchable(content):
            items = {item["id"]: item for item in search_items(content, wanted.span, wanted.region)}
            scenes = [read_scene(item, self.task.readable_roots) for item in items.values()]
        else:
            scenes = walk()
        ordered = sorted(scenes, key=lambda scene: (scene.instant, scene.id))
        chosen = select_scenes(ordered, request.get("properties") or {}, what)
        plan = plan_cube(chosen, wanted, what)
        self.loaded.extend(plan.scenes)
        cube = load_cube(plan)
        sizes = ", ".join(f"{name} {size}" for name, size in cube.sizes.items())
        _log.info("%s: %s; EPSG %s.", what, sizes, cube.rio.crs.to_epsg())
        return cube

    def load_url(
        self, url: str, format: str, options: dict[str, Any] | None = None
    ) -> DriverVectorCube:
        """Take polygons from a file below the folders allowed, or of the web."""
        if not is_web_address(url):
            return vectors.read_file(allowed_path(url, self.task.readable_roots), format)
        with tempfile.NamedTemporaryFile() as file:
            download(url, file, vectors.MAX_FILE_BYTES)
            return vectors.read_file(Path(file.name), format)


def select_scenes(
    scenes: Sequence[Scene], conditions: Mapping[str, Json], what: str
) -> list[Scene]:
    """Return the scenes whose properties meet all conditions.

    Args:
        scenes: candidates.
        conditions: child process (`{"process_graph": ...}` of `value`) by name of the property; a
            scene without that property does not meet it.
        what: the source as the user named it, for messages.
    """
    left = list(scenes)
    for name, condition in conditions.items():
        registry = plain_registry()
        known = [scene for scene in left if scene.properties.get(name) is not None]
        left = [s for s in known if _meets(condition, s.properties[name], registry)]
    if not left and scenes:
        raise NoDataError(f"{what} has no item whose {', '.join(conditions)} is as asked for.")
    return left


def _meets(condition: Mapping[str, Json], value: Json, registry: ProcessRegistry) -> bool:
    graph = OpenEOProcessGraph(dict(condition))  # anew each time: it caches its results
    try:
        met = graph.to_callable(registry)(named_parameters={"value": value})
        return upstream.is_met(met)
    except (KeyError, TypeError) as error:
        raise ParameterError(f"properties: a condition cannot be tested: {error}.") from error
