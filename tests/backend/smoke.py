"""One tiny graph for every process that could be listed; those that run on a real cube are listed.

`python -m backend.smoke` in `tests/` writes `udf/lai_backend/offered.json` anew.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from backend.conftest import NORTH, STEP, WEST, write_collection
from backend.udfs import IDENTITY, px

OFFERED = Path(__file__).parents[2] / "udf" / "lai_backend" / "offered.json"
BOX = {
    "west": WEST + 20 * STEP,
    "south": NORTH - 40 * STEP,
    "east": WEST + 44 * STEP,
    "north": NORTH - 16 * STEP,
    "crs": "EPSG:32633",
}
"""Holds the pixels without data."""
X, Y, DATA = ({"from_parameter": name} for name in ("x", "y", "data"))
CUBE = {"from_node": "cube"}
Graph = dict[str, Any]


def node(process_id: str, **arguments: Any) -> Graph:
    return {"process_id": process_id, "arguments": arguments}


def child(process_id: str, **arguments: Any) -> Graph:
    return {"process_graph": {"child": {**node(process_id, **arguments), "result": True}}}


def polygons() -> Graph:
    """Two squares of 8 px, in degrees."""
    from rasterio.warp import transform_geom

    features = []
    for left, top in ((22, 18), (32, 28)):
        west, north = WEST + left * STEP, NORTH - top * STEP
        east, south = west + 8 * STEP, north - 8 * STEP
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        square = {"type": "Polygon", "coordinates": [ring]}
        geometry = transform_geom("EPSG:32633", "EPSG:4326", square)
        features.append({"type": "Feature", "properties": {"id": left}, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


NUMBERS = {
    "absolute": np.abs,
    "add": lambda x: x + 2,
    "arctan": np.arctan,
    "arsinh": np.arcsinh,
    "ceil": np.ceil,
    "clip": lambda x: np.clip(x, 100, 900),
    "cos": np.cos,
    "cosh": np.cosh,
    "divide": lambda x: x / 2,
    "exp": np.exp,
    "floor": np.floor,
    "int": np.trunc,
    "linear_scale_range": lambda x: np.clip(x, 0, 10000) / 10000,
    "ln": np.log,
    "log": np.log2,
    "mod": lambda x: np.mod(x, 2),
    "multiply": lambda x: x * 2,
    "normalized_difference": lambda x: (x - 2) / (x + 2),
    "power": lambda x: x**2,
    "round": np.round,
    "sgn": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "subtract": lambda x: x - 2,
    "tan": np.tan,
    "tanh": np.tanh,
}
"""Of one number, given as `x` (and 2 as `y`), with what numpy makes of it."""
ARGUMENTS = {
    "arctan2": {"y": X, "x": 2},
    "clip": {"x": X, "min": 100, "max": 900},
    "linear_scale_range": {"x": X, "inputMin": 0, "inputMax": 10000},
    "log": {"x": X, "base": 2},
    "power": {"base": X, "p": 2},
    "exp": {"p": X},
    "between": {"x": X, "min": 100, "max": 900},
}
PAIRS = {"add", "divide", "mod", "multiply", "normalized_difference", "subtract"}
COMPARED = {
    "between": lambda x: (x >= 100) & (x <= 900),
    "eq": lambda x: x == 500,
    "gt": lambda x: x > 500,
    "gte": lambda x: x >= 500,
    "lt": lambda x: x < 500,
    "lte": lambda x: x <= 500,
    "neq": lambda x: x != 500,
    "is_infinite": np.isinf,
    "is_nan": np.isnan,
    "is_nodata": np.isnan,
    "is_valid": np.isfinite,
}
SMALL = ("arccos", "arcosh", "arcsin", "artanh")
"""Of numbers up to 1 (`arcosh`: from 1 on)."""
REDUCERS: Mapping[str, Callable[..., Any]] = {
    "max": np.nanmax,
    "mean": np.nanmean,
    "median": np.nanmedian,
    "min": np.nanmin,
    "sd": lambda data, axis: np.nanstd(data, axis=axis, ddof=1),
    "sum": np.nansum,
    "product": np.nanprod,
    "variance": lambda data, axis: np.nanvar(data, axis=axis, ddof=1),
    "count": lambda data, axis: np.isfinite(data).sum(axis),
    "first": lambda data, axis: data.take(0, axis),
    "last": lambda data, axis: data.take(-1, axis),
}
ALONG = {
    "cummax": {},
    "cummin": {},
    "cumproduct": {},
    "cumsum": {},
    "extrema": {},
    "order": {},
    "quantiles": {"probabilities": [0.25, 0.5]},
    "rearrange": {"order": [2, 0, 1]},
    "sort": {},
    "array_interpolate_linear": {},
    "array_append": {"value": 1},
    "array_concat": {"array1": DATA, "array2": [1, 2]},
    "array_modify": {"values": [5], "index": 0},
    "array_apply": {"process": child("add", x=X, y=1)},
    "array_filter": {"condition": child("gt", x=X, y=0)},
}
ON_ARRAYS = {
    "all": {"data": [True, False]},
    "any": {"data": [True, False]},
    "array_contains": {"data": [1, 2], "value": 2},
    "array_create": {"data": [1, 2], "repeat": 2},
    "array_create_labeled": {"data": [1, 2], "labels": ["a", "b"]},
    "array_find": {"data": [1, 2], "value": 2},
    "array_labels": {"data": [1, 2]},
    "array_append": {"data": [1, 2], "value": 3},
    "array_concat": {"array1": [1], "array2": [2]},
    "constant": {"x": 3},
    "nan": {},
    "pi": {},
    "e": {},
    "text_begins": {"data": "lai", "pattern": "l"},
    "text_concat": {"data": ["a", "b"], "separator": ""},
    "text_contains": {"data": "lai", "pattern": "a"},
    "text_ends": {"data": "lai", "pattern": "i"},
    "date_between": {"x": "2024-06-02", "min": "2024-06-01", "max": "2024-06-03"},
    "date_difference": {"date1": "2024-06-01", "date2": "2024-06-03"},
    "date_shift": {"date": "2024-06-01", "value": 1, "unit": "month"},
    "inspect": {"data": 3, "message": "three"},
    "and": {"x": True, "y": False},
    "or": {"x": True, "y": False},
    "xor": {"x": True, "y": False},
    "not": {"x": True},
    "if": {"value": True, "accept": 1, "reject": 2},
}
MEAN = child("mean", data=DATA)
IDENTICAL = child("run_udf", data=DATA, udf=IDENTITY, runtime="Python")


def cube_cases() -> dict[str, Graph]:
    fields = polygons()
    shape = fields["features"][0]["geometry"]
    return {
        "add_dimension": node("add_dimension", data=CUBE, name="new", label="a", type="other"),
        "aggregate_spatial": node("aggregate_spatial", data=CUBE, geometries=fields, reducer=MEAN),
        "aggregate_temporal": node(
            "aggregate_temporal",
            data=CUBE,
            intervals=[["2024-06-01", "2024-06-15"], ["2024-06-15", "2024-07-01"]],
            reducer=MEAN,
        ),
        "aggregate_temporal_period": node(
            "aggregate_temporal_period", data=CUBE, period="month", reducer=MEAN
        ),
        "apply": node("apply", data=CUBE, process=child("absolute", x=X)),
        "apply_dimension": node(
            "apply_dimension", data=CUBE, dimension="t", process=child("cumsum", data=DATA)
        ),
        "apply_kernel": node("apply_kernel", data=CUBE, kernel=[[0, 1, 0], [1, 2, 1], [0, 1, 0]]),
        "apply_neighborhood": node(
            "apply_neighborhood", data=CUBE, process=IDENTICAL, size=px(16), overlap=px(4)
        ),
        "apply_polygon": node(
            "apply_polygon", data=CUBE, geometries=fields, process=child("multiply", x=X, y=2)
        ),
        "array_element": node(
            "reduce_dimension",
            data=CUBE,
            dimension="bands",
            reducer=child("array_element", data=DATA, label="B08"),
        ),
        "array_find_label": node(
            "apply", data=CUBE, process=child("array_find_label", data=[1], label=0)
        ),
        "dimension_labels": node("dimension_labels", data=CUBE, dimension="t"),
        "drop_dimension": node("drop_dimension", data={"from_node": "new"}, name="new"),
        "filter_bands": node("filter_bands", data=CUBE, bands=["B08"]),
        "filter_bbox": node("filter_bbox", data=CUBE, extent=BOX),
        "filter_labels": node(
            "filter_labels",
            data=CUBE,
            dimension="t",
            condition=child("text_contains", data={"from_parameter": "value"}, pattern="-06-1"),
        ),
        "filter_spatial": node("filter_spatial", data=CUBE, geometries=fields),
        "filter_temporal": node("filter_temporal", data=CUBE, extent=["2024-06-01", "2024-06-15"]),
        "load_geojson": node("load_geojson", data=fields, properties=["id"]),
        "load_url": node("load_url", url="FIELDS", format="GeoJSON"),
        "load_collection": node(
            "load_collection", id="TINY", spatial_extent=BOX, temporal_extent=None
        ),
        "load_stac": node("load_stac", url="ITEM", bands=["B04"]),
        "mask": node("mask", data=CUBE, mask={"from_node": "low"}),
        "mask_polygon": node("mask_polygon", data=CUBE, mask=shape),
        "mask_scl_dilation": node(
            "mask_scl_dilation", data={"from_node": "all"}, scl_band_name="SCL"
        ),
        "to_scl_dilation_mask": node(
            "to_scl_dilation_mask", data={"from_node": "scl"}, kernel1_size=3, kernel2_size=5
        ),
        "merge_cubes": node(
            "merge_cubes",
            cube1=CUBE,
            cube2=CUBE,
            overlap_resolver=child("max", data=[X, Y]),
        ),
        "ndvi": node("ndvi", data=CUBE, nir="B08", red="B04"),
        "reduce_dimension": node("reduce_dimension", data=CUBE, dimension="t", reducer=MEAN),
        "reduce_spatial": node("reduce_spatial", data=CUBE, reducer=MEAN),
        "rename_dimension": node("rename_dimension", data=CUBE, source="t", target="time"),
        "rename_labels": node("rename_labels", data=CUBE, dimension="bands", target=["red", "nir"]),
        "resample_cube_spatial": node(
            "resample_cube_spatial", data=CUBE, target={"from_node": "coarse"}
        ),
        "resample_cube_temporal": node("resample_cube_temporal", data=CUBE, target=CUBE),
        "resample_spatial": node("resample_spatial", data=CUBE, resolution=40),
        "run_udf": node("run_udf", data=CUBE, udf=IDENTITY, runtime="Python"),
        "save_result": node("save_result", data=CUBE, format="netCDF"),
        "vector_buffer": node("vector_buffer", geometries={"from_node": "fields"}, distance=40),
        "vector_reproject": node(
            "vector_reproject", data={"from_node": "fields"}, projection=32633
        ),
        "create_data_cube": node("create_data_cube"),
    }


def case_of(name: str) -> Graph | None:
    """Return the node that tries a process, None if nothing is known of it."""
    if name in NUMBERS or name in COMPARED or name == "arctan2":
        two = {"y": 2} if name in PAIRS else {"y": 500} if name in COMPARED else {}
        if name.startswith("is_"):
            two = {}
        return node("apply", data=CUBE, process=child(name, **ARGUMENTS.get(name, {"x": X, **two})))
    if name in SMALL:
        source = "one" if name != "arcosh" else "cube"
        return node("apply", data={"from_node": source}, process=child(name, x=X))
    if name in REDUCERS:
        return node("reduce_dimension", data=CUBE, dimension="t", reducer=child(name, data=DATA))
    cubes = cube_cases()
    if name in cubes:
        return cubes[name]
    if name in ALONG:
        arguments = {"data": DATA, **ALONG[name]}
        if name == "array_concat":
            del arguments["data"]
        return node(
            "apply_dimension",
            data=CUBE,
            dimension="t",
            target_dimension=None,
            process=child(name, **arguments),
        )
    return node(name, **ON_ARRAYS[name]) if name in ON_ARRAYS else None


def graph_of(name: str, item: str) -> Graph | None:
    case = case_of(name)
    if case is None:
        return None
    load = {"id": "TINY", "spatial_extent": BOX, "temporal_extent": None}
    bands = ["B04", "B08"]
    fields = node("load_geojson", data=polygons(), properties=["id"])
    helpers = {
        "cube": node("load_collection", **load, bands=bands),
        "all": node("load_collection", **load, bands=[*bands, "SCL"]),
        "scl": node("load_collection", **load, bands=["SCL"]),
        "new": node("add_dimension", data=CUBE, name="new", label="a", type="other"),
        "low": node("apply", data=CUBE, process=child("lt", x=X, y=3000)),
        "one": node("apply", data=CUBE, process=child("divide", x=X, y=20000)),
        "coarse": node("resample_spatial", data=CUBE, resolution=40),
        "fields": node("vector_reproject", data={"from_node": "raw"}, projection=32633),
        "raw": fields,
    }
    if name in ("load_stac", "load_url"):
        fields_file = Path(item).with_name("fields.geojson")
        fields_file.write_text(json.dumps(polygons()))
        case["arguments"]["url"] = item if name == "load_stac" else fields_file.as_uri()
    graph = {"case": {**case, "result": True}}
    waiting = [case]
    while waiting:
        text = json.dumps(waiting.pop())
        for key, helper in helpers.items():
            if f'{{"from_node": "{key}"}}' in text and key not in graph:
                graph[key] = helper
                waiting.append(helper)
    return graph


def run(graph: Graph, folder: Path) -> Any:
    from lai_backend.local import LocalConnection

    result = LocalConnection(collections=[folder]).execute(graph)
    return result.compute() if isinstance(result, xr.DataArray | xr.Dataset) else result


def failure(name: str, folder: Path) -> str | None:
    """Try a process; return why it cannot be offered, None if it can."""
    graph = graph_of(name, str(folder / "TINY" / "2024-06-01" / "scene-2024-06-01.json"))
    if graph is None:
        return "no case"
    try:
        result = run(graph, folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return compare(name, result, folder)


@cache
def numbers_of(folder: Path) -> np.ndarray:
    """Return the cube that the processes are tried on, loaded once for all of them."""
    load = {"id": "TINY", "spatial_extent": BOX, "temporal_extent": None, "bands": ["B04", "B08"]}
    loaded: np.ndarray = run(
        {"c": {**node("load_collection", **load), "result": True}}, folder
    ).values
    loaded.setflags(write=False)
    return loaded


def compare(name: str, result: Any, folder: Path) -> str | None:
    """Compare a result with that of numpy, where it has one."""
    cube = numbers_of(folder)
    expected = None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in NUMBERS:
            expected = NUMBERS[name](cube)
        elif name in REDUCERS:
            expected = REDUCERS[name](cube, axis=0)
    if isinstance(result, xr.DataArray) and result.size == 0:
        return "an empty result"
    if expected is None:
        return None
    found = np.asarray(result.values, float)
    known = np.isfinite(cube) if name in NUMBERS else np.isfinite(cube).all(0)
    if found.shape != expected.shape or not np.allclose(
        found[known], expected[known], rtol=1e-4, equal_nan=True
    ):
        return f"another result than numpy's: {found.ravel()[:3]} {expected.ravel()[:3]}"
    return None


def candidates() -> list[str]:
    from lai_backend.formats import known_specs

    return sorted(known_specs())


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        write_collection(Path(folder))
        offered = []
        for name in candidates():
            reason = failure(name, Path(folder))
            if reason is None:
                offered.append(name)
            else:
                print(f"{name}: {reason[:300]}", file=sys.stderr)
    OFFERED.write_text(json.dumps(offered, indent=1) + "\n")
    print(len(offered), "processes")


if __name__ == "__main__":
    main()
