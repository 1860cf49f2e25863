"""The LAI run in the process graph of a job: target, draws, model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from lai_stac.errors import DescriptionError

Document = Mapping[str, Any]

UDP = "sentinel2_lai"
"""Our user-defined process; called by name, its arguments are the settings."""
OUR_BAND = "LAI_LOWER"
"""A UDF whose text knows this band is ours."""
SERIES_BAND = "GAP_DAYS"
"""A UDF whose text knows this band smooths LAI over time, see `lai_udf.series`."""
DEFAULTS: Document = {"target": "sl2p", "samples": 0, "seed": 0, "model": "lai_model"}
"""What `lai_udf.predict` and the user-defined process take where nothing is said."""

OTHERS = (
    "region",
    "level",
    "calibration",
    "plausibility",
    "reflectance_scale",
    "reflectance_offset",
)
SCENE_CLASSES = "SCL"


@dataclass(frozen=True)
class GraphSettings:
    """Settings of the LAI run that a graph holds."""

    target: Literal["sl2p", "field"]
    """What the estimate aims at."""
    samples: int
    """Monte-Carlo draws; 0 = none."""
    seed: int
    """Seed of the draws."""
    model: str
    """Where the worker found the model: a folder of an archive, or a path."""
    others: Document = field(default_factory=dict)
    """Settings beside these that change the numbers, as the graph has them."""
    scene_classification: bool = True
    """Whether the graph reads SCL."""
    series: str | None = None
    """Of a graph that smooths over time: which dates went in."""


def read_settings(process_graph: Document) -> GraphSettings:
    """Find the LAI run in a graph and return its settings.

    Args:
        process_graph: flat graph of the job; sub-graphs are searched too.

    Raises:
        DescriptionError: no LAI run, several that differ, or a setting that is no plain value.
    """
    found = [{**DEFAULTS, **said} for said in _runs(process_graph)]
    settings: list[dict[str, Any]] = [
        {key: said.get(key) for key in (*DEFAULTS, *OTHERS)} for said in found
    ]
    if not settings or any(other != settings[0] for other in settings[1:]):
        what = "no LAI run" if not settings else "several LAI runs that differ"
        raise DescriptionError(
            f"the process graph holds {what}: publish the results of a job built with "
            "lai_udf.process_graph or the process sentinel2_lai"
        )
    (values,) = settings[:1]
    target, samples, seed, model = (values[key] for key in DEFAULTS)
    if target not in ("sl2p", "field") or not _is_count(samples) or not _is_count(seed):
        raise DescriptionError(f"the settings of the LAI run in the graph make no sense: {values}")
    others = {key: values[key] for key in OTHERS if values[key] is not None}
    classified = _reads_classes(process_graph)
    series = read_series(process_graph)
    if series is not None:
        others |= {key: series[key] for key in ("max_gap_days",) if key in series}
    return GraphSettings(
        cast("Any", target),
        samples,
        seed,
        str(model),
        others,
        classified,
        None if series is None else _loaded(process_graph),
    )


def read_series(process_graph: Document) -> Document | None:
    """Return the context of the UDF that smooths LAI over time; None where there is none."""
    for node in _nodes(process_graph):
        arguments = node.get("arguments") or {}
        if node["process_id"] == "run_udf" and SERIES_BAND in str(arguments.get("udf")):
            context: Document = arguments.get("context") or {}
            return context
    return None


def _loaded(process_graph: Document) -> str:
    """Return which dates a graph loads."""
    for node in _nodes(process_graph):
        extent = (node.get("arguments") or {}).get("temporal_extent")
        if node["process_id"].startswith("load_") and isinstance(extent, list):
            return f"the dates from {extent[0]} to {extent[-1]}"
    return "the dates that the job loaded"


def model_archive(settings: GraphSettings, job_options: Document) -> str | None:
    """Return the name of the model's archive, without `.zip`, if graph or options name it.

    Args:
        settings: of the graph.
        job_options: `udf-dependency-archives` holds addresses like `https://.../x.zip#lai_model`.
    """
    for archive in job_options.get("udf-dependency-archives") or ():
        address, _, folder = str(archive).partition("#")
        if folder == settings.model:
            return PurePosixPath(urlsplit(address).path).stem
    return PurePosixPath(settings.model).stem if settings.model.endswith(".zip") else None


def _reads_classes(process_graph: Document) -> bool:
    """Return whether SCL is loaded: by name, with all bands, or by our process."""
    nodes = list(_nodes(process_graph))
    loads = [node for node in nodes if node["process_id"] in ("load_collection", "load_stac")]
    bands = [(node.get("arguments") or {}).get("bands") for node in loads]
    by_name = any(names is None or SCENE_CLASSES in names for names in bands)
    return not bands or by_name or any(node["process_id"] == UDP for node in nodes)


def _nodes(graph: object) -> Iterator[Document]:
    """Yield every node of a graph and its sub-graphs."""
    if isinstance(graph, Mapping):
        if isinstance(graph.get("process_id"), str):
            yield graph
        for value in graph.values():
            yield from _nodes(value)
    elif isinstance(graph, list):
        for value in graph:
            yield from _nodes(value)


def _runs(graph: object) -> Iterator[Document]:
    """Yield the arguments of every LAI run, at any depth."""
    for node in _nodes(graph):
        arguments = node.get("arguments")
        if not isinstance(arguments, Mapping):
            continue
        if node["process_id"] == UDP:
            yield arguments
        text = str(arguments.get("udf"))
        if node["process_id"] == "run_udf" and OUR_BAND in text and SERIES_BAND not in text:
            yield arguments.get("context") or {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
