"""Check a UDF, a process graph or a cube before a job is paid.

Most mistakes in a UDF end in "No UDF found" or, worse, in the input returned unchanged. Nothing is
executed: the text is parsed. Of a graph every node with a `run_udf` is checked; what parameters
will hold is not judged.

Source: `openeo/udf/run_code.py` of openeo 0.53.0 and Open-EO/openeo-geopyspark-driver at 9baf2e10.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr
from openeo.udf.run_code import extract_udf_dependencies

from lai_udf import series
from lai_udf.errors import ContractError, ProductError, SeveralFaultsError
from lai_udf.guard import judge
from lai_udf.predict import BANDS, HALO_PX, OUTPUT_BANDS, LaiInputError, read_settings, read_values
from lai_udf.process_graph import WINDOW_MULTIPLE, WINDOW_PX
from lai_udf.scenes.cubes import CUBE_SUFFIXES, as_cube, open_dataset
from lai_udf.scenes.metadata import Declared
from lai_udf.scenes.source import SceneSource
from lai_udf.smoothing import renamed_errors

ENTRY_POINT = "apply_datacube"
METADATA_HOOK = "apply_metadata"
IN_EVERY_BACK_END = frozenset({"numpy", "openeo", "pandas", "scipy", "xarray"})
OURS = frozenset({"lai_udf", "lai_backend", "lai_stac", "lai_service", "lai_training", "lai_demo"})
CUBE_CLASSES = frozenset({"DataArray", "XarrayDataCube"})
LOADERS = ("load_collection", "load_stac")
OUR_BAND = f'"{OUTPUT_BANDS[1]}"'  # in the text of the LAI function, and hardly in another
Graph = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, order=True)
class Finding:
    """Something that would go wrong on a back-end."""

    line: int  # line of the text, from 1; 0 where it is no line in particular
    message: str  # what is wrong, and what to do

    def __str__(self) -> str:
        """Return where, then what."""
        return f"line {self.line}: {self.message}" if self.line else self.message


@dataclass(frozen=True)
class Report:
    """What a back-end would find in a file."""

    facts: tuple[str, ...]  # what was found, for the reader
    problems: tuple[str, ...]  # what would make the job fail, or its answer wrong; none if good


def check_file(path: Path, **given: Any) -> Report:  # noqa: ANN401
    """Check a UDF (.py), a process graph (.json) or a cube (netCDF, Zarr; `given`: `check_cube`).

    Raises:
        ContractError: a kind of file that is not checked, or a text that cannot be read.
        ProductError: a cube that cannot be read.
    """
    if path.suffix.lower() in CUBE_SUFFIXES:
        return check_cube(open_dataset(path), **given, name=str(path))
    if path.suffix == ".json":
        return check_graph(read_graph(path))
    if path.suffix != ".py":
        raise ContractError(f"{path}: give a UDF (.py), a graph (.json) or a cube (.nc, .zarr)")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"cannot read {path} ({error})") from error
    facts = (f"{path}: {len(text.splitlines())} lines, {len(text) / 1000:.0f} kB in the graph",)
    return Report(facts, tuple(str(finding) for finding in lint_udf(text)))


def lint_udf(text: str) -> list[Finding]:
    """Return what a back-end would stumble over in the Python source of a UDF, by line."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return [Finding(error.lineno or 0, f"does not parse: {error.msg}")]
    rules = (
        _check_entry_point(tree),
        _check_imports(tree),
        _check_traps(tree),
        _check_metadata_hook(text),
        _check_header(text),
    )
    return sorted({finding for rule in rules for finding in rule})


def _check_entry_point(tree: ast.Module) -> Iterator[Finding]:
    """The loader compares the signature with real classes, by name and order of arguments."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    entry = functions.get(ENTRY_POINT)
    if entry is None:
        wanted = f"{ENTRY_POINT}(cube: xarray.DataArray, context: dict) -> DataArray"
        yield Finding(0, f"no function {wanted}")
        return
    names = [argument.arg for argument in entry.args.args]
    if names != ["cube", "context"]:
        yield Finding(
            entry.lineno,
            f"{ENTRY_POINT} takes ({', '.join(names)}): call them (cube, context), else the "
            "loader finds no UDF",
        )
    annotations = {"cube": entry.args.args[0].annotation if names else None}
    annotations["the result"] = entry.returns
    for what, annotation in annotations.items():
        if _class_name(annotation) not in CUBE_CLASSES:
            yield Finding(
                entry.lineno,
                f"{ENTRY_POINT}: annotate {what} with the class xarray.DataArray, unquoted, else "
                "the loader finds no UDF",
            )


def _check_imports(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield Finding(node.lineno, "relative import: the text is loaded alone, without package")
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            yield Finding(
                node.lineno,
                "from __future__ import: annotations become strings and the loader finds no UDF",
            )
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in {name.split(".")[0] for name in names} & OURS:
            yield Finding(getattr(node, "lineno", 0), f"imports {name}, which no back-end has")


def _check_traps(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "__file__":
            yield Finding(node.lineno, "__file__ does not exist: the text is executed as a string")
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name == ENTRY_POINT:
            continue
        arguments = node.args.args
        if len(arguments) == 1 and _class_name(arguments[0].annotation) == "UdfData":
            yield Finding(
                node.lineno,
                f"{node.name} takes a lone UdfData: the loader may take it for the entry point and "
                "return the input unchanged",
            )


def _check_metadata_hook(text: str) -> Iterator[Finding]:
    """One path of the cloud back-end looks for the word anywhere, another at column 0."""
    defined = re.search(rf"^def\s+{METADATA_HOOK}\s*\(", text, re.MULTILINE)
    for number, line in enumerate(text.splitlines(), start=1):
        if METADATA_HOOK in line and not re.match(rf"def\s+{METADATA_HOOK}\s*\(", line):
            yield Finding(
                number,
                f"the word {METADATA_HOOK} belongs in its definition at the start of a line and "
                "nowhere else: back-ends search the text for it"
                + ("" if defined else ", and here they find no such function"),
            )


def _check_header(text: str) -> Iterator[Finding]:
    """The list of dependencies (PEP 723) is ignored without a word where its frame is wrong."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"#+\s*/+\s*script\s*$", line) and line != "# /// script":
            yield Finding(number, 'write "# /// script", exactly; the header is ignored otherwise')
    try:
        listed = extract_udf_dependencies(text) or []
    except ValueError as error:
        yield Finding(0, f"header with dependencies cannot be read: {error}")
        return
    for dependency in listed:
        name = re.split(r"[^A-Za-z0-9_.-]", dependency, maxsplit=1)[0].lower()
        if name in IN_EVERY_BACK_END:
            yield Finding(
                0, f"header lists {name}, which every back-end has: a second copy would be loaded"
            )


def _class_name(annotation: ast.expr | None) -> str | None:
    """Return the last name of an annotation such as `xr.DataArray`; None for a quoted one."""
    if isinstance(annotation, ast.Attribute):
        return annotation.attr
    return annotation.id if isinstance(annotation, ast.Name) else None


def check_cube(
    data: xr.Dataset | xr.DataArray,
    *,
    reflectance_scale: float | None = None,
    reflectance_offset: float | None = None,
    datetime: str | None = None,
    name: str = "the cube",
) -> Report:
    """Judge a cube, as `lai_udf.estimate` takes it, against the contract of the UDF.

    Bands, scaling, grid, chunk geometry. Scale, offset and time that are given go
    before what it states; an offset that is not stated is judged from all dates together.
    """
    try:
        declared = Declared(reflectance_scale, reflectance_offset, datetime)
        cube = as_cube(data, declared, name=name)
    except SeveralFaultsError as error:
        return Report((), tuple(map(str, error.errors)))
    except ProductError as error:
        return Report((), (str(error),))
    rows, columns = (-(-side // WINDOW_PX) for side in cube.grid.shape)
    optional = [label for label in cube.planes if label not in BANDS]
    facts = (
        f"{_count(cube.size, 'date')}, {cube.grid.height} x {cube.grid.width} px, "
        f"{cube.planes[BANDS[0]].values.dtype}",
        f"optional bands: {', '.join(optional) or 'none (nominal angles, no cloud mask)'}",
        f"{_count(rows * columns, 'window')} of {WINDOW_PX} px",
        f"scaling: {cube.scaling_text}",
    )
    scenes, problems = [], []
    for entry in cube.scenes():
        try:
            scenes.append(entry.open())
        except ProductError as error:
            problems.append(str(error))
    return Report(facts, (*problems, *(_check_values(scenes) if scenes else ())))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _check_values(scenes: Sequence[SceneSource]) -> Iterator[str]:
    wrong = judge(scenes)
    if wrong:
        yield str(next(iter(wrong.values())))  # the same for all dates of one scaling
        return
    settings = read_settings(None)
    for scene in scenes:
        inputs = read_values(scene.read().values, list(scene.labels), settings)
        if (~inputs.missing & ~inputs.masked).any():
            return
    yield "no pixel of any date can be used: all are no data, cloud, shadow or snow"


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
    nodes = graph.values() if isinstance(graph, dict) else [None]
    if not all(isinstance(n, dict) and isinstance(n.get("process_id"), str) for n in nodes):
        raise ContractError(f"{path}: no process graph: nodes by name, each with a process_id")
    return graph  # type: ignore[return-value]


def check_graph(graph: Graph) -> Report:
    """Return what would go wrong with a flat process graph on a back-end."""
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
    if len(udfs) != 1 or len(around) != 1:
        if is_window or udfs:
            yield "the process must be one run_udf: back-ends take nothing else"
        return
    code = udfs[0]["arguments"].get("udf")
    if isinstance(code, str) and "\n" in code:
        yield from (f"UDF, {finding}" for finding in lint_udf(code))
    if not isinstance(code, str) or OUR_BAND not in code:
        return
    context = udfs[0]["arguments"].get("context") or {}
    if context == {"from_parameter": "context"}:
        context = arguments.get("context") or {}
    is_series = series.SeriesOptions.__name__ in code
    if isinstance(context, Mapping):
        yield from _check_settings(context, overlap, is_series)
    if not is_series:
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


def _check_settings(
    context: Mapping[str, Any], overlap: Mapping[str, Any], is_series: bool
) -> Iterator[str]:
    known = {key: value for key, value in context.items() if not _is_parameter(value)}
    try:
        if is_series:
            with renamed_errors():
                series.read_settings(known)
            return
        trusted = read_settings(known).overlap
    except LaiInputError as error:
        yield f"context: {error}"
        return
    borders = [value for value in overlap.values() if isinstance(value, int)]
    if borders and trusted > min(borders):
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
    loaded = {band for bands in asked if isinstance(bands, list) for band in bands}
    if missing := [band for band in BANDS if band not in loaded]:
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
