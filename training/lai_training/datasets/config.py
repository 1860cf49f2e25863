"""What a pool of real patches is made of: one YAML file, checked and frozen.

Input: a YAML file such as `training/configs/paper_data.yaml`. Output: a `PrepareConfig`.
"""

import datetime
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from lai_training.config_files import Checked

SPLITS = ("train", "validation", "test")
Split = Literal["train", "validation", "test"]
Share = Annotated[float, Field(ge=0, lt=1)]


class StacSearch(Checked):
    """A search of a STAC API; every Item that it finds is a product."""

    api: str
    """Root of the API, such as https://earth-search.aws.element84.com/v1."""
    collection: str = "sentinel-2-l2a"
    datetime: str
    """Interval, ISO 8601, such as 2018-01-01/2018-12-31."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north, degrees."""
    query: dict[str, Any] = Field(default_factory=dict)
    """Query extension of the API, such as {"grid:code": {"in": ["MGRS-31TCK"]}}."""
    most: int = Field(1000, ge=1)
    """Items at most."""


class Choice(Checked):
    """A tile and the dates of it that are wanted."""

    tile: Annotated[str, Field(pattern=r"^\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]$")]
    """MGRS tile without the leading T, such as 31TCK."""
    dates: tuple[datetime.date, ...] = ()
    """Days of acquisition, UTC; none = every date."""
    split: Split | None = None
    """Where its patches go; none = as `split` of the config decides."""


class SplitRule(Checked):
    """How patches are divided into training, validation and test.

    `tile_date` keeps all patches of a scene together; the same land may be in two splits at two
    dates. `tile` keeps a place together, `date` a day. All three go by a hash, so a product that is
    added later moves no other one. `patch` is the paper's random division (75/25, section 4.3): it
    LEAKS. Nearly every validation patch then touches training patches of the same scene, and
    validation scores show how well the network interpolates inside a scene, not how it does on
    another. The manifest holds the measured share of such patches.
    """

    by: Literal["tile_date", "tile", "date", "patch"] = "tile_date"
    validation_share: Share = 0.25
    test_share: Share = 0.0
    seed: int = 0


class PrepareConfig(Checked):
    """A pool of real patches."""

    sources: tuple[str | StacSearch, ...] = ()
    """SAFE folders, STAC Items (path or http), GeoTIFFs, folders that hold such, searches."""
    select: tuple[Choice, ...] = ()
    """Tiles and dates to take; none = all that the sources hold. The first that fits counts."""
    others: bool = False
    """Whether to take products that no entry of `select` names, too."""
    patch_px: int = Field(128, ge=16, multiple_of=16)
    """Side of a patch, pixels of 20 m; patches lie side by side from the upper left corner."""
    least_valid_share: float = Field(0.75, gt=0, le=1)
    """Patches with less data outside cloud, shadow and snow are dropped, and counted."""
    mask_buffer_px: int = Field(5, ge=0, le=64)
    """Radius around cloud, shadow and snow that is masked too, pixels of 20 m."""
    labels: str | None = None
    """Folder of LAI rasters `<product id>.tif` on the grids of the products, such as SNAP's;
    none = SL2P with the product's own angles."""
    reflectance_scale: float | None = None
    """Reflectance per digital number, for products that do not state it."""
    reflectance_offset: float | None = None
    """Reflectance at digital number 0, for products that do not state it."""
    split: SplitRule = SplitRule()

    def settings(self) -> dict[str, Any]:
        """Return all that decides what a product becomes; where it comes from does not."""
        return self.model_dump(mode="json", exclude={"sources"})

    def digest(self) -> str:
        """Return a short name of the settings."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
