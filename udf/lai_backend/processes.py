"""The processes that a worker offers: those of openeo-processes-dask, and ours in front.

Ours replace or add what that library lacks: loading with extents, UDFs with labels,
`apply_neighborhood`, `save_result`. `process_specs` needs no heavy import and serves the listing.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from openeo_pg_parser_networkx import OpenEOProcessGraph, ProcessRegistry
from openeo_pg_parser_networkx.process_registry import Process
from openeo_processes_dask import process_implementations, specs
from openeo_processes_dask.process_implementations.core import process

from lai_backend import neighborhood
from lai_backend.collections import find_collections, read_scenes
from lai_backend.dimensions import apply_process_along
from lai_backend.errors import GraphError, NoDataError, ParameterError, SourceError
from lai_backend.extents import parse_spatial_extent, parse_temporal_extent, snap_outward
from lai_backend.files import Json
from lai_backend.formats import check_format
from lai_backend.georeference import georeference, transform_of
from lai_backend.loading import Request, load_cube, plan_cube
from lai_backend.places import Place
from lai_backend.resampling import resample
from lai_backend.saving import SavedResult
from lai_backend.settings import Task
from lai_backend.sources import Scene, read_scene, walk_items
from lai_backend.udf_runner import UdfCall
from lai_backend.windows import Quirks

_log = logging.getLogger(__name__)
Udf = dict[str, Any]


def build_registry(
    task: Task, place: Place | None = None, loaded: list[Scene] | None = None
) -> ProcessRegistry:
    """Return the processes of one worker.

    Args:
        task: what the worker may read and how strict it is.
        place: folder of UDFs on the workers of a cluster.
        loaded: takes the scenes that loading processes choose.
    """
    registry = _plain_registry()
    own = OwnProcesses(task, place, [] if loaded is None else loaded)
    for name, method in inspect.getmembers(own, inspect.ismethod):
        if not name.startswith("_"):
            registry[name] = Process(spec={"id": name}, implementation=_as_function(method))
    return registry


def _plain_registry() -> ProcessRegistry:
    """Return the processes of openeo-processes-dask."""
    registry = ProcessRegistry(wrap_funcs=[process])
    for name, function in inspect.getmembers(process_implementations, inspect.isfunction):
        spec = getattr(specs, name, None)
        if spec is not None:
            registry[name] = Process(spec=spec, implementation=function)
    return registry


def _as_function(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method, because the library sets attributes and inspects signatures of functions."""

    def call(**arguments: Any) -> Any:  # noqa: ANN401 - arguments of any process
        return method(**arguments)

    call.__name__ = method.__name__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True)
class OwnProcesses:
    """The processes that this back-end brings itself; each public method is one."""

    task: Task
    """What the worker may read and how strict it is."""
    _place: Place | None = None
    """Folder of UDFs on the workers of a cluster."""
    _loaded: list[Scene] = field(default_factory=list)
    """The scenes that were chosen."""
    _plain: dict[str, Callable[..., Any]] = field(
        default_factory=lambda: dict(
            inspect.getmembers(process_implementations, inspect.isfunction)
        )
    )

    def _call(self, udf: Udf) -> UdfCall:
        return UdfCall(udf["code"], udf["context"], self._place)

    def load_collection(self, request: dict[str, Any]) -> xr.DataArray:
        """Load a local collection; see `loading`."""
        found = find_collections(self.task.collection_dirs)
        identifier = request.get("id")
        if identifier not in found:
            known = ", ".join(found) or "none"
            raise ParameterError(f"There is no collection {identifier!r}; there are: {known}.")
        scenes = read_scenes(found[identifier], self.task.readable_roots)
        return self._load(scenes, request, f"Collection {identifier!r}")

    def load_stac(self, request: dict[str, Any]) -> xr.DataArray:
        """Load a STAC item, collection or page of items; see `loading`."""
        href = request.get("url")
        if not isinstance(href, str):
            raise ParameterError("load_stac needs `url`.")
        roots = self.task.readable_roots
        scenes = [read_scene(item, roots) for item in walk_items(href, roots)]
        if not scenes:
            raise SourceError(f"{href} leads to no STAC item.")
        scenes.sort(key=lambda scene: (scene.instant, scene.id))
        return self._load(scenes, request, href)

    def _load(self, scenes: Sequence[Scene], request: dict[str, Any], what: str) -> xr.DataArray:
        wanted = select_scenes(scenes, request.get("properties") or {}, what)
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
        self,
        data: xr.DataArray,
        size: Json,
        udf: Udf,
        overlap: Json = None,
    ) -> xr.DataArray:
        """Run a UDF on overlapping windows."""
        quirks = Quirks(seed=0) if self.task.strict else None
        return neighborhood.apply_neighborhood(
            as_cube(data), self._call(udf), size, overlap, quirks
        )

    def apply(
        self,
        data: xr.DataArray,
        process: Callable[..., Any] | None = None,
        context: Json = None,
        udf: Udf | None = None,
    ) -> Json:
        """Run a process or a UDF on every pixel."""
        if udf is None:
            return self._plain["apply"](data=data, process=process, context=context)
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
        if udf is None:
            if process is None:
                raise ParameterError("apply_dimension needs `process`.")
            return apply_process_along(as_cube(data), process, dimension, target_dimension, context)
        return neighborhood.apply_along(as_cube(data), self._call(udf), dimension, target_dimension)

    def reduce_dimension(
        self,
        data: xr.DataArray,
        dimension: str,
        reducer: Callable[..., Any] | None = None,
        context: Json = None,
        udf: Udf | None = None,
    ) -> Json:
        """Reduce one dimension with a process or a UDF."""
        if udf is None:
            return self._plain["reduce_dimension"](
                data=data, reducer=reducer, dimension=dimension, context=context
            )
        return neighborhood.reduce_with_udf(as_cube(data), self._call(udf), dimension)

    def rename_labels(
        self,
        data: xr.DataArray,
        dimension: str,
        target: list[Any],
        source: list[Any] | None = None,
    ) -> xr.DataArray:
        """Rename labels; giving a cube the labels it has already changes nothing.

        The specification's `LabelExists` is meant for real clashes; a graph that also runs on
        back-ends without `apply_metadata` names the bands of a UDF once more after it.
        """
        if not source and dimension in data.dims and data[dimension].values.tolist() == target:
            return data
        renamed: xr.DataArray = self._plain["rename_labels"](
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

    def crop_to_extent(self, data: xr.DataArray, request: dict[str, Any]) -> xr.DataArray:
        """Cut off what was loaded beyond the extent asked for (see `margins.add_margins`)."""
        region = parse_spatial_extent(request["spatial_extent"])
        assert region is not None  # only inserted for requests with an extent
        grid = GeoBox((data.sizes["y"], data.sizes["x"]), transform_of(data), str(data.rio.crs))
        wanted = snap_outward(grid, region)
        left = round((wanted.affine.c - grid.affine.c) / grid.affine.a)
        top = round((wanted.affine.f - grid.affine.f) / grid.affine.e)
        kept = data.isel(y=slice(top, top + wanted.height), x=slice(left, left + wanted.width))
        return georeference(kept, data.rio.crs, grid.affine * Affine.translation(left, top))

    def save_result(
        self,
        data: Json,
        format: str = "GTiff",
        options: dict[str, Any] | None = None,
    ) -> SavedResult:
        """Say how the result is written; the worker writes it."""
        return SavedResult(as_cube(data), check_format(format), dict(options or {}))


def select_scenes(
    scenes: Sequence[Scene], conditions: Mapping[str, Json], what: str
) -> list[Scene]:
    """Return the scenes whose properties meet all conditions.

    Args:
        scenes: candidates.
        conditions: child process (`{"process_graph": ...}` of `value`) by name of the property; a
            scene without that property does not meet it.
        what: the source as the user named it, for messages.

    Raises:
        NoDataError: no scene is left.
        ParameterError: a condition is no child process.
    """
    left = list(scenes)
    for name, condition in conditions.items():
        if not isinstance(condition, Mapping) or "process_graph" not in condition:
            raise ParameterError(f"properties: {name!r} needs a process, as `value <= 20`.")
        registry = _plain_registry()
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


def _read_request(request: dict[str, Any]) -> Request:
    bands = request.get("bands")
    if bands is not None and (not isinstance(bands, list) or not bands):
        raise ParameterError(f"bands must be a list of names, not {bands!r}.")
    return Request(
        span=parse_temporal_extent(request.get("temporal_extent")),
        region=parse_spatial_extent(request.get("spatial_extent")),
        bands=None if bands is None else tuple(str(name) for name in bands),
        margin_px=int(request.get("margin_px", 0)),
        pixel=request.get("pixel"),
    )
