"""The identity of a result: what is computed, what distinguishes it from others, its name.

A result is fixed by place, time and product of its input, by the model and by the settings that
change its numbers; never by clock, host or folder. The same result has the same id wherever and
whenever it is made; different results never share one. Items, folders of runs and the catalogue
use this id, so that nothing replaces anything but its own earlier version.

The readable part of an id (``lai_s2_32tqm_20240621t103629_0-2-1_field_10m_mc30``) is for people,
the eight digits at its end hold everything.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from lai_udf.bundle import Bundle
from lai_udf.errors import IdentityError
from lai_udf.grid import Grid
from lai_udf.predict import output_bands, read_settings
from lai_udf.scenes.metadata import CALLER
from lai_udf.scenes.source import SceneSource

ID_TAG = "RESULT_ID"  # GDAL tag in which a run leaves the id of its result
MGRS_TILE = re.compile(r"^T?(\d{1,2})([C-HJ-NP-X])([A-HJ-NP-Z][A-HJ-NP-V])$")
PRODUCT = re.compile(
    r"(?P<platform>S2[A-D])_MSIL2A_(?P<sensed>\d{8}T\d{6})_N(?P<baseline>\d{4})_R\d{3}"
    r"_T(?P<tile>\d{2}[A-Z]{3})_\d{8}T\d{6}"
)
"""Name of a Sentinel-2 L2A product. Its last time distinguishes products of one datatake."""
TILE_M = 109_800.0  # side of a Sentinel-2 tile
DEFAULT_SETTINGS: Mapping[str, Any] = {"region": "known", "level": 0.95, "plausibility": "auto"}


@dataclass(frozen=True, kw_only=True)
class ResultIdentity:
    """What fixes a result."""

    datetime: dt.datetime | str
    """Time of the observation with zone: the start of the datatake, where it is known."""
    grid: Grid  # of the raster
    model_id: str
    model_version: str
    model_checksum: str = ""  # of the bundle's weights; empty where it is not known
    sources: Sequence[str] = ()
    """Names of the products it was made from, see `source_name`; distinguishes products of one
    tile and datatake."""
    mgrs_tile: str | None = None  # such as `32TQM`, where the input lies in one tile
    target: str = "sl2p"
    variables: Sequence[str] = ("LAI",)
    resolution: float = 20  # side of a pixel, metres
    samples: int = 0
    seed: int | None = 0  # of the draws; without draws it changes nothing
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else changes the numbers: region, level, calibration, reflectance scale and offset
    given by hand. What is None or at its default (`DEFAULT_SETTINGS`) does not count."""

    @property
    def id(self) -> str:
        """Lower-case letters, digits, `_` and `-` only.

        Raises:
            IdentityError: a time without zone, a tile or a target that does not exist.
        """
        if self.target not in ("sl2p", "field"):
            raise IdentityError(f"target {self.target!r} is unknown: use sl2p or field")
        tile = self.mgrs_tile
        place = tile_name(tile).lower() if tile else _digest(grid_facts(self.grid))
        parts = ["lai_s2", place, utc(self.datetime).strftime("%Y%m%dt%H%M%S")]
        parts.append(re.sub(r"[^a-z0-9]+", "-", self.model_version.lower()).strip("-"))
        parts += [self.target] if self.target != "sl2p" else []
        parts += [f"{self.resolution:g}m".replace(".", "-")] if self.resolution != 20 else []
        parts += [f"mc{self.samples}"] if self.samples else []
        parts += ["series"] if self.settings.get("series") else []
        return "_".join([*parts, _digest(self._facts())])

    def _facts(self) -> dict[str, Any]:
        return {
            "datetime": utc(self.datetime).isoformat(),
            "grid": grid_facts(self.grid),
            "sources": sorted(set(self.sources)),
            "model": [self.model_id, self.model_version, self.model_checksum],
            "target": self.target,
            "variables": sorted({name.upper() for name in self.variables}),
            "resolution": float(self.resolution),
            "samples": self.samples,
            "seed": (self.seed or 0) if self.samples else 0,
            "settings": changed_settings(self.settings),
        }


def changed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that count: those that are neither None nor at their default."""
    return {
        name: value
        for name, value in sorted(settings.items())
        if value is not None and value != DEFAULT_SETTINGS.get(name)
    }


@dataclass(frozen=True)
class RunOptions:
    """What to compute; the keys of `lai_udf.predict.PredictOptions` that a run leaves open."""

    model: Path | None = None
    """Model bundle; None: the one that ships with the package."""
    target: str = "sl2p"
    samples: int = 0
    seed: int = 0
    bands: tuple[str, ...] | None = None
    variables: tuple[str, ...] = ("LAI",)
    resolution: int = 20
    region: str = "known"
    level: float = 0.95
    calibration: Path | None = None
    plausibility: str = "auto"

    def context(self, bundle: Bundle, overlap_px: int) -> dict[str, Any]:
        """Return the context of the UDF, checked, for a cube of reflectance."""
        context = {field.name: getattr(self, field.name) for field in fields(self)}
        context |= {"model": str(bundle.path), "overlap": overlap_px}
        if self.calibration is not None:
            context["calibration"] = str(self.calibration)
        read_settings(context)
        return context

    def output_bands(self) -> tuple[str, ...]:
        """Return the bands that come out."""
        return output_bands(self.variables) if self.bands is None else self.bands

    def provenance(self, bundle: Bundle) -> dict[str, Any]:
        """Return what describes a result: model and settings, those of `settings` as well."""
        return {
            "model_id": bundle.model_id,
            "model_version": bundle.version,
            "model_checksum": bundle.checksum,
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
            **self.settings(),
        }

    def settings(self) -> dict[str, Any]:
        """Return what else changes the numbers and is not at its default; own points by sha256."""
        points = None
        if self.calibration is not None:
            points = hashlib.sha256(self.calibration.read_bytes()).hexdigest()
        settings = {name: getattr(self, name) for name in DEFAULT_SETTINGS}
        return changed_settings({**settings, "calibration": points})

    def identify(self, source: SceneSource, bundle: Bundle) -> ResultIdentity:
        """Return the identity of the result of a scene."""
        sources = [source_name(source.metadata.product_id or source.name)]
        scaling = source.scaling_text
        return ResultIdentity(
            datetime=source.metadata.datetime,
            grid=source.grid,
            model_id=bundle.model_id,
            model_version=bundle.version,
            model_checksum=bundle.checksum,
            sources=sources,
            mgrs_tile=tile_of(sources),
            target=self.target,
            variables=self.variables,
            resolution=source.resolution_m,
            samples=self.samples,
            seed=self.seed,
            settings={**self.settings(), "scaling": scaling if CALLER in scaling else None},
        )


def source_name(product: str) -> str:
    """Return the name of a product from its name, path or href: `S2A_MSIL2A_…`, or the stem."""
    match = PRODUCT.search(product)
    if match:
        return match[0]
    path = PurePosixPath(product.split("?")[0].rstrip("/").replace("\\", "/"))
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


_SUFFIXES = (".safe", ".json", ".geojson", ".tif", ".tiff", ".vrt", ".zarr", ".nc", ".zip", ".jp2")


def tile_of(sources: Sequence[str]) -> str | None:
    """Return the tile that product names agree on; None where they name none or several."""
    tiles = {match["tile"] for match in map(PRODUCT.search, sources) if match}
    return tiles.pop() if len(tiles) == 1 else None


def covers_tile(grid: Grid) -> bool:
    """Return whether a grid is a whole Sentinel-2 tile, at any resolution."""
    width, height = grid.width * abs(grid.transform.a), grid.height * abs(grid.transform.e)
    return abs(width - TILE_M) < 1 and abs(height - TILE_M) < 1


def tile_name(mgrs_tile: str) -> str:
    """Return a tile as STAC's grid extension writes it, `32TQM`; or raise `IdentityError`."""
    match = MGRS_TILE.match(mgrs_tile.upper())
    if match is None or not 1 <= int(match[1]) <= 60:
        raise IdentityError(f"{mgrs_tile!r} is no MGRS tile: write it like 32TQM")
    return f"{int(match[1]):02d}{match[2]}{match[3]}"


def grid_facts(grid: Grid) -> dict[str, Any]:
    """Return CRS, transform and size of a grid as JSON; transform to the micrometre."""
    code = grid.crs.to_epsg()
    return {
        "crs": f"EPSG:{code}" if code else grid.crs.to_wkt(),
        "transform": [round(float(value), 6) + 0.0 for value in grid.transform[:6]],
        "shape": [int(grid.height), int(grid.width)],
    }


def utc(moment: dt.datetime | str) -> dt.datetime:
    """Read a time with zone and return it in UTC.

    Raises:
        IdentityError: it is not ISO 8601 or names no zone.
    """
    try:
        read = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError as error:
        raise IdentityError(f"{moment!r} is no ISO 8601 time: {error}") from error
    if read.tzinfo is None:
        raise IdentityError(f"{moment!r} has no time zone: append Z for UTC")
    return read.astimezone(dt.UTC)


def _digest(facts: Mapping[str, Any]) -> str:
    """Return eight hexadecimal digits that stand for facts."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
