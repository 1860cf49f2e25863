"""What is known of a result beside its pixels: time, scene, model, settings; and its identity."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lai_stac.errors import DescriptionError
from lai_stac.provenance import model_contract
from lai_udf.errors import IdentityError
from lai_udf.grid import Grid
from lai_udf.identity import PRODUCT, ResultIdentity, source_name, tile_name, tile_of, utc

LOG = logging.getLogger("lai_stac")

METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True, kw_only=True)
class ResultFacts:
    """What `build_item` takes beside the folder of COGs."""

    model: Mapping[str, Any]
    """`model.json` of the bundle that made them."""
    datetime: dt.datetime | str
    """Time of the observation, with zone; the start where it took a while."""
    end_datetime: dt.datetime | str | None = None
    """Time of the last scene of a mosaic."""
    platform: str | None = None
    """Such as `sentinel-2a`."""
    scene_href: str | None = None
    """The L2A scene it was made from."""
    sources: Sequence[str] = ()
    """Names of further scenes that went in, see `lai_udf.identity.source_name`."""
    derived_from: Sequence[str] = ()
    """Ids of items that it was made from: those of the dates of a series."""
    series: str | None = None
    """Of a series: which dates went in, such as `38 dates from 2018-01-03 to 2018-11-30`."""
    scene_classification: bool = True
    """Whether SCL went in; without it the share of cloud is unknown."""
    process_graph: Mapping[str, Any] | None = None
    """The openEO process graph, where there was one."""
    job_metadata: Mapping[str, Any] | None = None
    """STAC metadata of the openEO job's results."""
    target: Literal["sl2p", "field"] = "sl2p"
    """What the estimate aims at."""
    samples: int = 0
    """Monte-Carlo draws; 0 = none."""
    seed: int | None = None
    """Of the draws."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that change the numbers: `level`, `region`, `calibration`, …"""
    mgrs_tile: str | None = None
    """Such as `32TQM`, where the raster is that tile."""
    result_id: str | None = None
    """Id that the run gave its result; else it is made of all the other facts."""
    model_href: str | None = None
    """Where the model's own STAC Item is."""
    created: dt.datetime | str | None = None
    """When the product was made; None if unknown."""

    def __post_init__(self) -> None:
        """Refuse draws that make no spread, and times and tiles that are none."""
        if self.samples and (self.samples < 2 or isinstance(self.samples, bool)):
            raise DescriptionError(f"samples={self.samples!r}: use 0 or at least 2 draws")
        try:
            for moment in (self.datetime, self.end_datetime, self.created):
                if moment is not None:
                    utc(moment)
            if self.mgrs_tile:
                tile_name(self.mgrs_tile)
        except IdentityError as error:
            raise DescriptionError(str(error)) from error

    @property
    def source_names(self) -> list[str]:
        """Names of all scenes that went in, each once."""
        links = (self.job_metadata or {}).get("links", [])
        texts = [f"{x.get('title', '')} {x.get('href', '')}" for x in links if _is_source(x)]
        hrefs = [self.scene_href] if self.scene_href else []
        names = [*self.sources, *hrefs, *(_product_in(text) for text in texts)]
        return sorted({*self.derived_from, *(source_name(name) for name in names)})

    @property
    def level(self) -> float:
        """Level of the interval, 0 to 1."""
        return float(self.settings.get("level") or 0.95)

    def item_id(self, grid: Grid, variables: Sequence[str]) -> str:
        """Return the id of the result on its grid.

        Raises:
            DescriptionError: time, target or tile make no sense.
        """
        if self.result_id:
            return self.result_id
        contract = model_contract(self.model)
        names = self.source_names
        identity = ResultIdentity(
            datetime=self.datetime,
            grid=grid,
            model_id=str(contract["model_id"]),
            model_version=str(contract["model_version"]),
            model_checksum=self.model.get("assets", {}).get("model", {}).get("file:checksum", ""),
            sources=names,
            mgrs_tile=self.mgrs_tile or tile_of(names),
            target=self.target,
            variables=variables,
            resolution=pixel_m(grid),
            samples=self.samples,
            seed=self.seed,
            settings={**self.settings, "series": self.series},
        )
        try:
            return identity.id
        except IdentityError as error:
            raise DescriptionError(str(error)) from error


def pixel_m(grid: Grid) -> float:
    """Return the side of a pixel in metres; about, where the CRS is in degrees."""
    side = abs(float(grid.transform.a))
    return side if grid.crs.is_projected else round(side * METRES_PER_DEGREE, 1)


def _is_source(link: Mapping[str, Any]) -> bool:
    return link.get("rel") == "derived_from" and "mlm:name" not in link


def _product_in(text: str) -> str:
    found = PRODUCT.search(text)
    return found[0] if found else text.split(" ")[-1]
