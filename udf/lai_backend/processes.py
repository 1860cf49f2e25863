"""The processes that a worker offers: those of openeo-processes-dask, and ours in front.

Ours replace or add what that library lacks: loading with extents, UDFs with labels,
`apply_neighborhood`, `save_result`.
"""

import inspect
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
from affine import Affine
from openeo_driver.datacube import DriverVectorCube
from openeo_pg_parser_networkx import OpenEOProcessGraph, ProcessRegistry
from openeo_pg_parser_networkx.process_registry import Process
from openeo_processes_dask import process_implementations, specs

from lai_backend import neighborhood, scl, vectors
from lai_backend.access import allowed_path, download, is_web_address
from lai_backend.collections import find_collections, read_collection, read_scenes
from lai_backend.dimensions import apply_process_along
from lai_backend.errors import GraphError, NoDataError, ParameterError, SourceError
from lai_backend.extents import parse_spatial_extent, parse_temporal_extent, snap_outward
from lai_backend.files import Json
from lai_backend.formats import check_format
from lai_backend.georeference import georeference
from lai_backend.graphs import Graph
from lai_backend.loading import LoadRequest, load_cube, plan_cube
from lai_backend.resampling import grid_of, on_grid_of, resample
from lai_backend.saving import SavedResult
from lai_backend.settings import Task
from lai_backend.sources import (
    Scene,
    is_searchable,
    read_scene,
    read_stac,
    search_items,
    walk_items,
)
from lai_backend.udf_process import CagedUdf, UdfProcess
from lai_backend.udf_runner import LocalUdf
from lai_backend.upstream import REPLACEMENTS, resolve_lists
from lai_backend.vectors import SavedVectors, ZonalValues

_log = logging.getLogger(__name__)
Udf = dict[str, Any]
PLAIN: dict[str, Callable[..., Any]] = dict(
    inspect.getmembers(process_implementations, inspect.isfunction)
)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        scl.mask_scl_dilation,
        scl.to_scl_dilation_mask,
        vectors.aggregate_spatial,
        vectors.filter_spatial,
        vectors.mask_polygon,
        vectors.vector_buffer,
        vectors.vector_reproject,
    )
}
"""Processes of ours that need to know nothing of the job."""


def build_registry(
    task: Task, udfs: UdfProcess | None = None, loaded: list[Scene] | None = None
) -> ProcessRegistry:
    """Return the processes of one worker.

    Args:
        task: what the worker may read.
        udfs: process that runs UDFs; None: this one.
        loaded: takes the scenes that loading processes choose.
    """
    registry = plain_registry()
    own = OwnProcesses(task, udfs, [] if loaded is None else loaded)
    methods = {
        name: _as_function(method)
        for name, method in inspect.getmembers(own, inspect.ismethod)
        if not name.startswith("_")
    }
    for name, function in {**REPLACEMENTS, **FUNCTIONS, **methods}.items():
        registry[name] = Process(spec={"id": name}, implementation=function)
    return registry


def plain_registry() -> ProcessRegistry:
    """Return the processes of openeo-processes-dask."""
    registry = ProcessRegistry(wrap_funcs=[resolve_lists])
    for name, function in PLAIN.items():
        if hasattr(specs, name):
            registry[name] = Process(spec=getattr(specs, name), implementation=function)
    return registry


class ResultsCache(dict[str, Any]):
    """Remembers the results of the main graph, and computes those of child graphs at each call.

    The graph library forgets the results of child graphs of two processes only, so that others,
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
    graph = OpenEOProcessGraph({"process_graph": nodes})
    try:
        call = graph.to_callable(registry, results_cache=ResultsCache(graph))
    except KeyError as error:
        raise GraphError(f"There is no such process: {error.args[0]}") from error
    return call()


def _as_function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method, because the library sets attributes and inspects signatures of functions."""

    def call(**arguments: Any) -> Any:
        return method(**arguments)

    call.__name__ = method.__name__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True)
class OwnProcesses:
    """The processes that this back-end brings itself; each public method is one."""

    _task: Task  # what the worker may read
    _udfs: UdfProcess | None = None  # process that runs UDFs; None: this one
    _loaded: list[Scene] = field(default_factory=list)  # the scenes that were chosen

    def _call(self, udf: Udf) -> LocalUdf:
        if self._udfs is None:
            return LocalUdf(udf["code"], udf["context"])
        return CagedUdf(udf["code"], udf["context"], process=self._udfs)

    def load_collection(self, request: dict[str, Any]) -> xr.DataArray:
        """Load a local collection; see `loading`."""
        found = find_collections(self._task.collection_dirs)
        identifier = request.get("id")
        if identifier not in found:
            known = ", ".join(found) or "none"
            raise ParameterError(f"There is no collection {identifier!r}; there are: {known}.")
        collection, what = read_collection(found[identifier]), f"Collection {identifier!r}"
        if is_searchable(collection):
            return self._load(self._search(collection, request), request, what)
        return self._load(read_scenes(found[identifier], self._task.readable_roots), request, what)

    def load_stac(self, request: dict[str, Any]) -> xr.DataArray:
        """Load a STAC item, collection or page of items; see `loading`."""
        href = request.get("url")
        if not isinstance(href, str):
            raise ParameterError("load_stac needs `url`.")
        roots = self._task.readable_roots
        content = read_stac(href, roots)
        if is_searchable(content):
            return self._load(self._search(content, request), request, href)
        scenes = [read_scene(item, roots) for item in walk_items(href, roots)]
        if not scenes:
            raise SourceError(f"{href} leads to no STAC item.")
        return self._load(scenes, request, href)

    def _search(self, collection: Mapping[str, Any], request: dict[str, Any]) -> list[Scene]:
        """Return the scenes of a collection of a STAC API in the extents of a request."""
        wanted = _read_request(request)
        items = {item["id"]: item for item in search_items(collection, wanted.span, wanted.region)}
        return [read_scene(item, self._task.readable_roots) for item in items.values()]

    def _load(self, scenes: Sequence[Scene], request: dict[str, Any], what: str) -> xr.DataArray:
        ordered = sorted(scenes, key=lambda scene: (scene.instant, scene.id))
        wanted = select_scenes(ordered, request.get("properties") or {}, what)
        plan = plan_cube(wanted, _read_request(request), what)
        self._loaded.extend(plan.scenes)
        cube = load_cube(plan)
        sizes = ", ".join(f"{name} {size}" for name, size in cube.sizes.items())
        _log.info("%s: %s; EPSG %s.", what, sizes, cube.rio.crs.to_epsg())
        return cube

    def run_udf(self, data: xr.DataArray, udf: Udf) -> xr.DataArray:
        """Run a UDF on a whole cube."""
        return neighborhood.run_on_cube(as_cube(data), self._call(udf))

    def apply_neighborhood(
        self, data: xr.DataArray, size: Json, udf: Udf, overlap: Json = None
    ) -> xr.DataArray:
        """Run a UDF on overlapping windows."""
        return neighborhood.apply_neighborhood(as_cube(data), self._call(udf), size, overlap)

    def apply(
        self,
        data: xr.DataArray,
        process: Callable[..., Any] | None = None,
        context: Json = None,
        udf: Udf | None = None,
    ) -> Json:
        """Run a process or a UDF on every pixel."""
        if udf is None:
            return PLAIN["apply"](data=data, process=process, context=context)
        return neighborhood.apply_pixels(as_cube(data), self._call(udf))

    def apply_dimension(
        self,
        data: xr.DataArray,
        dimension: str,
        process: Callable[..., Any] | None = None,
        target_dimension: str | None = None,
        context: Json = None,
        udf: Udf | None = None,
    ) -> Json:
        """Run a process or a UDF along one dimension."""
        if udf is not None:
            call = self._call(udf)
            return neighborhood.apply_along(as_cube(data), call, dimension, target_dimension)
        if process is None:
            raise ParameterError("apply_dimension needs `process`.")
        return apply_process_along(as_cube(data), process, dimension, target_dimension, context)

    def reduce_dimension(
        self,
        data: xr.DataArray,
        dimension: str,
        reducer: Callable[..., Any] | None = None,
        context: Json = None,
        udf: Udf | None = None,
    ) -> Json:
        """Reduce one dimension with a process or a UDF."""
        if udf is not None:
            return neighborhood.reduce_with_udf(as_cube(data), self._call(udf), dimension)
        return PLAIN["reduce_dimension"](
            data=data, reducer=reducer, dimension=dimension, context=context
        )

    def rename_labels(
        self, data: xr.DataArray, dimension: str, target: list[Any], source: list[Any] | None = None
    ) -> xr.DataArray:
        """Rename labels; giving a cube the labels it has already changes nothing.

        The specification's `LabelExists` is meant for real clashes; a graph that also runs on
        back-ends without `apply_metadata` names the bands of a UDF once more after it.
        """
        if not source and dimension in data.dims and data[dimension].values.tolist() == target:
            return data
        renamed: xr.DataArray = PLAIN["rename_labels"](
            data=data, dimension=dimension, target=target, source=source or []
        )
        return renamed

    def resample_spatial(
        self,
        data: xr.DataArray,
        resolution: Json = 0,
        projection: Json = None,
        method: str = "near",
        align: str = "upper-left",
    ) -> xr.DataArray:
        """Bring a cube onto another grid; see `resampling`."""
        return resample(as_cube(data), resolution, projection, method, align)

    def resample_cube_spatial(
        self, data: xr.DataArray, target: xr.DataArray, method: str = "near"
    ) -> xr.DataArray:
        """Bring a cube onto the pixels of another."""
        return on_grid_of(as_cube(data), as_cube(target), None, method)

    def crop_to_extent(self, data: xr.DataArray, request: dict[str, Any]) -> xr.DataArray:
        """Cut off what was loaded beyond the extent asked for (see `margins.add_margins`)."""
        region = parse_spatial_extent(request["spatial_extent"])
        assert region is not None  # only inserted for requests with an extent
        grid = grid_of(data)
        wanted = snap_outward(grid, region)
        left, top = (round(edge) for edge in ~grid.affine * (wanted.affine.c, wanted.affine.f))
        kept = data.isel(y=slice(top, top + wanted.height), x=slice(left, left + wanted.width))
        return georeference(kept, data.rio.crs, grid.affine * Affine.translation(left, top))

    def apply_polygon(
        self,
        data: xr.DataArray,
        geometries: Json = None,
        polygons: Json = None,
        process: Callable[..., Any] | None = None,
        mask_value: Json = None,
        context: Json = None,
        udf: Udf | None = None,
    ) -> xr.DataArray:
        """Run a process or a UDF on the pixels of each polygon."""

        def run(window: xr.DataArray) -> xr.DataArray:
            if udf is not None:
                return neighborhood.run_on_cube(window, self._call(udf))
            if process is None:
                raise ParameterError("apply_polygon needs `process`.")
            given = {"x": window.data, "data": window.data, "context": context}
            return window.copy(data=process(named_parameters=given))

        shapes = polygons if geometries is None else geometries
        return vectors.apply_polygon(as_cube(data), shapes, run, mask_value, udf is not None)

    def load_url(
        self, url: str, format: str, options: dict[str, Any] | None = None
    ) -> DriverVectorCube:
        """Take polygons from a file below the folders allowed, or of the web."""
        if not is_web_address(url):
            return vectors.read_file(allowed_path(url, self._task.readable_roots), format)
        with tempfile.NamedTemporaryFile() as file:
            download(url, file, vectors.MAX_FILE_BYTES)
            return vectors.read_file(Path(file.name), format)

    def load_geojson(self, data: Json, properties: list[str] | None = None) -> DriverVectorCube:
        """Take polygons from GeoJSON."""
        return vectors.read_polygons(data)

    def collect_results(self, data: Json, others: list[Json]) -> list[Json]:
        """Hold the results of several `save_result` (see `graphs.prepare_graph`)."""
        return [data, *others]

    def save_result(
        self, data: Json, format: str = "GTiff", options: dict[str, Any] | None = None
    ) -> SavedResult | SavedVectors:
        """Say how the result is written; the worker writes it."""
        if isinstance(data, DriverVectorCube | ZonalValues):
            return SavedVectors(data, check_format(format, vector=True), dict(options or {}))
        return SavedResult(as_cube(data), check_format(format), dict(options or {}))


def as_saved(result: Json) -> list[SavedResult | SavedVectors]:
    """Return what a graph ends in as results to write, none if it is a plain value.

    A graph without `save_result` gives cubes as GTiff, polygons as GeoJSON, their values as JSON.
    """
    if isinstance(result, xr.DataArray):
        return [SavedResult(result, "GTiff")]
    if isinstance(result, DriverVectorCube | ZonalValues):
        return [SavedVectors(result, "JSON" if isinstance(result, ZonalValues) else "GeoJSON")]
    if isinstance(result, SavedResult | SavedVectors):
        return [result]
    many = isinstance(result, list) and any(map(as_saved, result))
    return [saved for one in result for saved in as_saved(one)] if many else []


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
        if not isinstance(condition, Mapping) or "process_graph" not in condition:
            raise ParameterError(f"properties: {name!r} needs a process, as `value <= 20`.")
        registry = plain_registry()
        known = [scene for scene in left if scene.properties.get(name) is not None]
        left = [s for s in known if _meets(condition, s.properties[name], registry)]
    if not left and scenes:
        raise NoDataError(f"{what} has no item whose {', '.join(conditions)} is as asked for.")
    return left


def _meets(condition: Mapping[str, Json], value: Json, registry: ProcessRegistry) -> bool:
    graph = OpenEOProcessGraph(dict(condition))  # anew each time: it remembers its results
    return bool(graph.to_callable(registry)(named_parameters={"value": value}))


def as_cube(data: Json) -> xr.DataArray:
    """Return a raster cube; anything else is a `GraphError`."""
    if not isinstance(data, xr.DataArray):
        raise GraphError(f"A raster cube is needed here, not {type(data).__name__}.")
    return data


def _read_request(request: dict[str, Any]) -> LoadRequest:
    bands = request.get("bands")
    if bands is not None and (not isinstance(bands, list) or not bands):
        raise ParameterError(f"bands must be a list of names, not {bands!r}.")
    return LoadRequest(
        span=parse_temporal_extent(request.get("temporal_extent")),
        region=parse_spatial_extent(request.get("spatial_extent")),
        bands=None if bands is None else tuple(str(name) for name in bands),
        margin_px=int(request.get("margin_px", 0)),
        pixel=request.get("pixel"),
    )
