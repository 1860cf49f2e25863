"""LAI around fields for every scene of a period, as results on disk that are made once.

Scenes come from files, a STAC API or a document, each described when its turn comes. Only windows
around the fields are read and predicted, with the halo that makes them part of the whole scene;
results of earlier runs are left as they are.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import geopandas as gpd
from rasterio.windows import Window

from lai_udf.errors import (
    EmptySceneError,
    GeometryError,
    GridError,
    LaiUdfError,
    UnreadableProductError,
)
from lai_udf.grid import Grid
from lai_udf.identity import RunOptions
from lai_udf.predict import HALO_PX
from lai_udf.run import Refusal, RunReport, run_scenes
from lai_udf.scenes.metadata import Declared
from lai_udf.scenes.source import SceneEntry, failing_entry
from lai_udf.scenes.stac import describe_item, read_document
from lai_udf.zones import weigh_zones

COLLECTION = "sentinel-2-l2a"
"""Name of the L2A collection in Earth Search, Planetary Computer and CDSE."""
SIGNED_HOST = "planetarycomputer"
"""Catalogue whose assets want a signature: the package planetary-computer makes it."""
ALIGN_PX = 2 * HALO_PX  # windows begin at multiples of it, so that they are in phase with the scene
MERGE_SHARE = 1.5  # windows are one where together they are no larger than so many times both
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Period:
    """Days from `start` on, up to but without `end`."""

    start: dt.date
    end: dt.date

    def holds(self, datetime: str) -> bool:
        """Return whether an ISO 8601 time in UTC lies in it."""
        return self.start.isoformat() <= datetime[:10] < self.end.isoformat()

    @property
    def interval(self) -> str:
        """As STAC writes it."""
        last = self.end - dt.timedelta(days=1)
        return f"{self.start}T00:00:00Z/{last}T23:59:59Z"


def kind_of(source: str) -> str:
    """Return what a source is: `files`, `stac` (an API) or `openeo` (a back-end).

    Raises:
        UnreadableProductError: an address does not answer.
    """
    address = urlsplit(source)
    if address.scheme not in ("http", "https") or Path(address.path).suffix:
        return "files"
    root = read_document(source, "a STAC API or an openEO back-end")
    if "api_version" in root:
        return "openeo"
    if any("item-search" in str(name) for name in root.get("conformsTo") or ()):
        return "stac"
    raise UnreadableProductError(
        f"{source} is neither a STAC API with item search nor an openEO back-end"
    )


def search_api(
    source: str, collection: str, area: dict[str, Any], period: Period, declared: Declared
) -> Iterator[SceneEntry]:
    """Yield the scenes that a STAC API finds in a GeoJSON area, degrees.

    A search that breaks off ends with a failing entry.
    """
    import pystac_client

    modifier = None
    if SIGNED_HOST in source:
        import planetary_computer

        modifier = planetary_computer.sign_inplace
    try:
        api = pystac_client.Client.open(source, modifier=modifier)
        search = api.search(
            collections=[collection], intersects=area, datetime=period.interval, limit=100
        )
        for item in search.items():
            yield SceneEntry(item.id, partial(describe_item, item, item.id, declared))
    except LaiUdfError:
        raise
    except Exception as error:  # the client raises its own, those of requests, pystac and JSON
        failed = UnreadableProductError(
            f"{source} failed in the middle of the search ({error}); run again for the rest"
        )
        yield failing_entry("search", failed)


def run_season(
    entries: Iterable[SceneEntry],
    fields: gpd.GeoDataFrame,
    period: Period,
    directory: Path,
    options: RunOptions,
    progress: Progress | None = None,
) -> tuple[list[Refusal], list[Path], int]:
    """Predict LAI around fields for the scenes of a period; others are passed over.

    Returns:
        Scenes that were not run; folders of the results; how many of them were there before.
    """
    refused: list[Refusal] = []
    skipped: list[Path] = []
    report = RunReport()
    windows = _cut(entries, fields, period, refused)
    how: dict[str, Any] = {"overwrite": False, "progress": progress, "skipped": skipped.append}
    with suppress(EmptySceneError, GeometryError, GridError):  # nothing to see
        report = run_scenes(windows, directory, options, **how)
    return refused + report.refused, report.folders, len(skipped)


def _cut(
    entries: Iterable[SceneEntry], fields: gpd.GeoDataFrame, period: Period, refused: list[Refusal]
) -> Iterator[SceneEntry]:
    """Yield the windows of scenes that hold fields."""
    windows: dict[Grid, list[Window]] = {}
    for entry in entries:
        try:
            source = entry.open()
        except LaiUdfError as error:
            refused.append(Refusal(entry.name, error))
            continue
        if not period.holds(source.metadata.datetime):
            continue
        if source.grid not in windows:
            windows[source.grid] = find_windows(fields, source.grid)
        for window in windows[source.grid]:
            yield SceneEntry(entry.name, partial(source.crop, window))


def find_windows(fields: gpd.GeoDataFrame, grid: Grid) -> list[Window]:
    """Return the windows of a grid that hold the fields, each with its halo, few and small."""
    boxes: list[tuple[int, int, int, int]] = []
    for geometry in fields.geometry:
        window = weigh_zones([geometry], fields.crs, grid).window
        if window.width and window.height:
            boxes.append(_widen(window, grid))
    return [
        Window(left, top, right - left, bottom - top) for top, left, bottom, right in merge(boxes)
    ]


def merge(boxes: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Join boxes (top, left, bottom, right) that together are hardly larger than each alone."""
    merged: list[tuple[int, int, int, int]] = []
    for one in sorted(boxes):
        box = one
        while True:
            for other in merged:
                top, left = map(min, box[:2], other[:2])
                bottom, right = map(max, box[2:], other[2:])
                joined = top, left, bottom, right
                if _area(joined) <= MERGE_SHARE * (_area(box) + _area(other)):
                    merged.remove(other)
                    box = joined
                    break
            else:
                break
        merged.append(box)
    return sorted(merged)


def _widen(window: Window, grid: Grid) -> tuple[int, int, int, int]:
    top = max(0, (int(window.row_off) - HALO_PX) // ALIGN_PX * ALIGN_PX)
    left = max(0, (int(window.col_off) - HALO_PX) // ALIGN_PX * ALIGN_PX)
    bottom = -(-(int(window.row_off + window.height) + HALO_PX) // ALIGN_PX) * ALIGN_PX
    right = -(-(int(window.col_off + window.width) + HALO_PX) // ALIGN_PX) * ALIGN_PX
    return top, left, min(bottom, grid.height), min(right, grid.width)


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
