"""LAI results on disk, from any writer: found, distinguished, and read by windows.

A result is one date: a folder of COGs (`lai-udf run`, items of `make demo` and of
`lai-service publish`), or a GeoTIFF with named bands (results of an openEO job). Its time comes
from the STAC item beside it, the tag `DATETIME`, the metadata of the job, or the name of the file,
in that order.
"""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from lai_udf.cog import ENCODINGS, GAP_DAYS, open_geotiff, read_bands
from lai_udf.errors import IdentityError, RasterError
from lai_udf.grid import Grid
from lai_udf.identity import utc
from lai_udf.predict import NO_DATA_NEAR, OUTPUT_BANDS

LAI_FILE = "lai.tif"
REFERENCE_FILES = ("sl2p.tif",)  # files with a band LAI stored beside results, to compare them with
SERVICE_FOLDER = ".catalogue"  # beside the files that `lai-service` keeps of published results
FLAGS = "LAI_FLAGS"
SAME_OVERPASS = dt.timedelta(minutes=10)
"""Tiles of one overpass are sensed seconds apart, those of the next orbit 100 minutes later."""
_DAY = re.compile(r"(?<!\d)(\d{4})-?([01]\d)-?([0-3]\d)(?:T(\d{2}):?(\d{2}):?(\d{2}))?(?!\d)")
_SETTING_FIELDS = {
    "MODEL_ID": ("laiq:model_id",),
    "MODEL_VERSION": ("laiq:model_version",),
    "TARGET": ("laiq:target",),
    "SAMPLES": ("unc:samples", "laiq:mc_samples"),  # the last of lai-quality 1.0.0
}
"""Fields of an item, by the tag that files have in their place."""
_SETTING_DEFAULTS = {"SAMPLES": "0"}
_FURTHER_TAGS = ("REGION", "LEVEL", "CALIBRATION", "PLAUSIBILITY")
"""Written where they are not at their defaults."""
SCALING_TAGS = ("SCALING", "REFLECTANCE_SCALE", "REFLECTANCE_OFFSET")
"""Scale and offset of a run, in words; those that a process graph gave."""


@dataclass(frozen=True)
class LaiResult:
    """LAI of one date on disk."""

    path: Path  # folder of COGs, or GeoTIFF
    files: Mapping[str, tuple[Path, int]]
    """File and number in it of each output band; `LAI` is one of them."""
    grid: Grid  # of `LAI`, and of all bands
    tags: Mapping[str, str]  # GDAL metadata of `LAI`
    properties: Mapping[str, Any]  # of the STAC item; empty where there is none
    moment: str | None  # time as item, tags or job have it; None if unknown

    @property
    def name(self) -> str:
        """Name of the folder, or of the file without its ending."""
        return self.path.name if self.path.is_dir() else self.path.stem

    @property
    def is_series(self) -> bool:
        """Whether it is a date of a series, filled in between observations."""
        return GAP_DAYS in self.files

    @cached_property
    def datetime(self) -> dt.datetime:
        """Time of the observation, UTC; midnight where only the day is known.

        Raises:
            RasterError: nothing states it.
        """
        stated = self.moment or _moment_in(self.path.name)
        if not stated:
            raise RasterError(
                f"{self.path} does not state its time: no item JSON, no tag DATETIME, no date in "
                "its name"
            )
        try:
            return utc(stated)
        except IdentityError as error:
            raise RasterError(f"{self.path}: {error}") from error

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Settings whose results of one date must not be mixed: model, target, interval, pixel."""
        values = []
        for tag, fields in _SETTING_FIELDS.items():
            stated = [self.properties[name] for name in fields if name in self.properties]
            value = (stated and stated[0]) or self.tags.get(tag) or _SETTING_DEFAULTS.get(tag, "")
            values.append(str(value))
        values += [self.tags.get(name, "") for name in _FURTHER_TAGS]
        return (*values, f"{self.grid.pixel_m:g} m")

    def read(
        self, bands: Sequence[str], window: Window | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Read bands, (y, x) each, NaN = no data; those that are not there are left out.

        Raises:
            RasterError: a file cannot be read, or lies on another grid.
        """
        places = {band: self.files[band] for band in bands if band in self.files}
        layers, grid, _ = read_bands(places, window, np.float64)
        if grid is not None:
            self.grid.require_same(grid, str(self.path))
        return layers


def read_lai_cogs(directory: Path) -> xr.DataArray:
    """Read the COGs of a folder back into a cube, as `lai_udf.cog.write_lai_cogs` wrote them.

    Returns:
        Dims (bands, y, x), float32, NaN = no data; tags of `lai.tif` as attributes.

    Raises:
        RasterError: no `lai.tif`, a file cannot be read, or the grids differ.
    """
    return _read_cube(open_result(directory).files)


def read_lai_geotiff(path: Path) -> xr.DataArray:
    """Read LAI as an openEO back-end saves it: one GeoTIFF of any type, bands described by name.

    As `read_lai_cogs`; bands in the order of the contract, `LAI_FLAGS` 64 where it had no value.
    """
    files = open_result(path).files
    lai = _read_cube({band: files[band] for band in OUTPUT_BANDS if band in files})
    if FLAGS in files:
        flags = lai.sel(bands=FLAGS).values
        flags[np.isnan(flags)] = NO_DATA_NEAR
    return lai


def _read_cube(places: Mapping[str, tuple[Path, int]]) -> xr.DataArray:
    layers, grid, tags = read_bands(places)
    assert grid is not None  # LAI is there
    for foreign in ("AREA_OR_POINT", "OVR_RESAMPLING_ALG"):
        tags.pop(foreign, None)
    return grid.to_data_array(np.stack(list(layers.values())), tuple(layers), tags)


def open_result(path: Path) -> LaiResult:
    """Describe a folder with `lai.tif`, an item JSON in it, or a GeoTIFF with a band `LAI`.

    Raises:
        RasterError: it holds no LAI, or cannot be read.
    """
    folder = path.parent if path.suffix.lower() in (".json", ".geojson") else path
    if folder.is_dir():
        files = {band: (folder / f"{each.key}.tif", 1) for band, each in ENCODINGS.items()}
        bands = {band: place for band, place in files.items() if place[0].is_file()}
        if "LAI" not in bands:
            raise RasterError(f"{folder} holds no {LAI_FILE}: give the folder of an LAI result")
        first, properties = bands["LAI"][0], _item_properties(folder)
    else:
        bands, first, properties = {}, path, {}
    metadata = {} if folder.is_dir() else _file_metadata(path)
    with open_geotiff(first) as dataset:
        tags, grid = dataset.tags(), Grid.of_dataset(dataset)
        names = enumerate(_band_names(dataset, metadata), start=1)
        bands = bands or {name: (path, index) for index, name in names if name in ENCODINGS}
    if "LAI" not in bands:
        raise RasterError(f"{path} has no band named LAI")
    moment = properties.get("datetime") or tags.get("DATETIME") or metadata.get("datetime")
    return LaiResult(folder, bands, grid, tags, properties, moment)


def find_results(sources: Sequence[Path]) -> list[LaiResult]:
    """Find the results below some paths, each once, in order of time.

    What a service stores of a result that also lies elsewhere (the same item) is left out.

    Raises:
        RasterError: one of the paths holds no result, or a result cannot be read.
    """
    opened: dict[Path, LaiResult] = {}
    for source in sources:
        paths = list(_candidates(source))
        if not paths:
            raise RasterError(
                f"{source} holds no {LAI_FILE} and no GeoTIFF with a band LAI: give LAI results, "
                "items or a folder of them"
            )
        opened |= {
            path.resolve(): open_result(path) for path in paths if path.resolve() not in opened
        }
    single: dict[object, LaiResult] = {}
    for path, result in sorted(opened.items(), key=lambda item: len(item[0].parts)):
        name = result.properties.get("id")
        single.setdefault((name, result.grid) if name else path, result)
    return sorted(single.values(), key=lambda result: (result.datetime, str(result.path)))


def find_two_scalings(results: Sequence[LaiResult]) -> tuple[LaiResult, LaiResult] | None:
    """Return two results of one product that was run with other scale or offset; None of none."""
    first_of: dict[object, LaiResult] = {}
    for each in results:
        product = each.datetime, each.grid, each.settings, each.tags.get("PRODUCT_ID")
        other = first_of.setdefault(product, each)
        if any(other.tags.get(name) != each.tags.get(name) for name in SCALING_TAGS):
            return other, each
    return None


def require_one_scaling(results: Sequence[LaiResult]) -> None:
    """Raise `RasterError` where a product was run several times, with other scale or offset.

    These are no observations of their own: their mean would be that of a right and a wrong one.
    """
    if (pair := find_two_scalings(results)) is not None:
        raise RasterError(
            f"{pair[0].path} and {pair[1].name} are of one product by other scale or offset: "
            "keep one of them"
        )


def group_overpasses(results: Sequence[LaiResult]) -> list[list[LaiResult]]:
    """Put together what one overpass saw with the same settings, tile by tile, in order of time."""
    groups: list[list[LaiResult]] = []
    latest: dict[tuple[str, ...], list[LaiResult]] = {}
    for result in sorted(results, key=lambda each: each.datetime):
        group = latest.get(result.settings)
        if group is not None and result.datetime - group[0].datetime <= SAME_OVERPASS:
            group.append(result)
        else:
            latest[result.settings] = [result]
            groups.append(latest[result.settings])
    return groups


def _candidates(source: Path) -> Iterator[Path]:
    """Yield the folders of COGs below a path or, where there is none, the GeoTIFFs with LAI.

    What is hidden, or stored by a service, is left out: the results themselves lie elsewhere.
    """
    if source.is_file() and source.suffix.lower() in (".tif", ".tiff") and source.name != LAI_FILE:
        yield source
        return
    root = source.parent if source.is_file() else source
    pattern = LAI_FILE if source.is_file() else f"**/{LAI_FILE}"
    stores = [path.parent for path in root.glob(f"**/{SERVICE_FOLDER}")]
    folders = sorted(p.parent for p in root.glob(pattern) if _counts(p, root, stores))
    yield from folders
    if source.is_dir() and not folders:
        files = [p for p in sorted(root.glob("**/*.tif*")) if p.name not in REFERENCE_FILES]
        yield from (p for p in files if _counts(p, root, stores) and _names_lai(p))


def _counts(path: Path, root: Path, stores: Sequence[Path]) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and not any(path.is_relative_to(store) for store in stores)


def _names_lai(path: Path) -> bool:
    try:
        with rasterio.open(path, driver="GTiff") as dataset:
            return "LAI" in _band_names(dataset, _file_metadata(path))
    except RasterioError:
        return False


def _band_names(dataset: DatasetReader, metadata: Mapping[str, Any]) -> Sequence[str | None]:
    """Return the names of bands in a file; those of its metadata where it names none."""
    named: tuple[str | None, ...] = dataset.descriptions
    bands = metadata.get("bands") or metadata.get("eo:bands") or ()
    listed = [band.get("name") for band in bands]
    return listed if not any(named) and len(listed) == dataset.count else named


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the STAC documents in a folder."""
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and isinstance(document.get("assets"), dict):
            yield document


def _item_properties(folder: Path) -> Mapping[str, Any]:
    """Return `properties` of the STAC item in a folder, and its `id`."""
    for document in _documents(folder):
        if "lai" in document["assets"]:
            return {**(document.get("properties") or {}), "id": document.get("id")}
    return {}


def _file_metadata(path: Path) -> Mapping[str, Any]:
    """Return the metadata of a GeoTIFF in the STAC documents of an openEO job beside it."""
    for document in _documents(path.parent):
        for key, asset in document["assets"].items():
            if path.name in (key, str(asset.get("href", "")).split("?")[0].rpartition("/")[2]):
                time = {"datetime": (document.get("properties") or {}).get("datetime")}
                return time | {name: value for name, value in asset.items() if value}
    return {}


def _moment_in(name: str) -> str | None:
    match = _DAY.search(name)
    if not match:
        return None
    year, month, day, *clock = match.groups()
    hour, minute, second = (part or "00" for part in clock)
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}Z"
