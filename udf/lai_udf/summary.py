"""A result in numbers and as a picture: `summary.json` and `quicklook.png`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_udf.atomic import new_files
from lai_udf.cog import ENCODINGS, read_bands
from lai_udf.picture import draw_quicklook
from lai_udf.predict import (
    BANDS,
    INPUT_OUT_OF_DOMAIN,
    MASKED_SCENE_CLASSES,
    NO_DATA_SCENE_CLASSES,
    UNUSABLE_FLAGS,
)
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.source import SceneSource

SUMMARY_FILE = "summary.json"
QUICKLOOK_FILE = "quicklook.png"


@dataclass
class PixelCounts:
    """What the windows of a scene hold, counted as they pass."""

    observed: int = 0  # pixels with data in every band, hidden ones included
    masked: int = 0  # of these, cloud, shadow or snow by the scene classes
    has_data: bool = False
    has_lai: bool = False

    def add(self, cube: xr.DataArray, lai: xr.DataArray) -> None:
        """Count the core of a window."""
        labels = [str(label) for label in cube["bands"].values]
        data = np.isfinite(cube.values[[labels.index(band) for band in BANDS]]).all(axis=0)
        self.has_data |= bool(data.any())
        numbers = [band for band in lai["bands"].values if not str(band).endswith("_FLAGS")]
        # Flags alone, finite everywhere, count as LAI.
        self.has_lai |= not numbers or bool(lai.sel(bands=numbers[0]).notnull().any())
        if SCENE_CLASS_BAND in labels:
            classes = cube.values[labels.index(SCENE_CLASS_BAND)]
            seen = data & np.isfinite(classes) & ~np.isin(classes, NO_DATA_SCENE_CLASSES)
            self.observed += int(seen.sum())
            self.masked += int((seen & np.isin(classes, MASKED_SCENE_CLASSES)).sum())

    @property
    def cloud_share(self) -> float | None:
        """Return the share of cloud, shadow and snow, 0-1; None where it is not known."""
        return self.masked / self.observed if self.observed else None


@dataclass(frozen=True)
class Summary:
    """Of one result. Pixels count in the statistics as in `lai_udf.zonal`."""

    id: str  # of the result, and name of its folder
    datetime: str
    product: str
    mean: float | None  # LAI over usable pixels; None where there is too little of it
    median: float | None
    p05: float | None
    p95: float | None
    usable_share: float  # pixels with LAI and without a flag that statistics leave out, 0-1
    valid_share: float  # pixels with LAI, 0-1
    in_domain_share: float | None
    """Of the pixels with LAI, those whose spectrum SL2P was trained for; None without flags."""
    cloud_share: float | None
    """Cloud, shadow and snow by the scene classes; None where there are none: unknown."""
    scaling: str  # scale and offset in use, and where they were found

    def lines(self) -> list[str]:
        """Return what a terminal shows."""
        cloud, domain = "unknown (no scene classes)", "unknown"
        if self.cloud_share is not None:
            cloud = f"{self.cloud_share:.1%}"
        if self.in_domain_share is not None:
            domain = f"{self.in_domain_share:.1%}"
        median = "none" if self.median is None else f"{self.median:.2f}"
        spread = "" if self.p05 is None else f", 5-95 % {self.p05:.2f} to {self.p95:.2f}"
        return [
            f"{self.datetime}  LAI median {median}{spread} m2 m-2",
            f"  usable {self.usable_share:.1%}, with LAI {self.valid_share:.1%}, "
            f"cloud {cloud}, in SL2P's domain {domain}",
            f"  scaling: {self.scaling}",
        ]


def write_summary(
    folder: Path, source: SceneSource, made_by: str, cloud_share: float | None
) -> Summary:
    """Write summary and picture of the COGs of a folder, LAI among them.

    `made_by` is what the title of the picture calls target and model.
    """
    files = {band: folder / f"{ENCODINGS[band].key}.tif" for band in ("LAI", "LAI_FLAGS")}
    layers, _, _ = read_bands({band: (path, 1) for band, path in files.items() if path.is_file()})
    lai, flags = layers["LAI"], layers.get("LAI_FLAGS")
    summary = Summary(
        id=folder.name,
        datetime=source.metadata.datetime,
        product=source.metadata.product_id or source.name,
        **describe_raster(lai, flags),
        cloud_share=None if cloud_share is None else round(cloud_share, 6),
        scaling=source.scaling_text,
    )
    with new_files(folder) as work:
        text = json.dumps(asdict(summary), indent=1, ensure_ascii=False)
        (work / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
        title = f"LAI {summary.datetime[:10]}, {made_by}"
        (work / QUICKLOOK_FILE).write_bytes(draw_quicklook(lai, flags, title, summary.product))
    return summary


def describe_raster(lai: NDArray[Any], flags: NDArray[Any] | None) -> dict[str, Any]:
    """Return the statistics of LAI (y, x), m2 m-2, NaN = no data, by the names of `Summary`.

    Without flags, every value counts.
    """
    valid = np.isfinite(lai)
    bits = np.zeros(lai.shape, "uint8") if flags is None else flags.astype("uint8")
    usable = valid & (bits & UNUSABLE_FLAGS == 0)
    values = lai[usable].astype("float64")
    numbers: dict[str, float | None] = dict.fromkeys(("mean", "median", "p05", "p95"))
    if values.size:
        statistics = (values.mean(), *np.quantile(values, (0.5, 0.05, 0.95)))
        numbers = {k: round(float(v), 4) for k, v in zip(numbers, statistics, strict=True)}
    inside = None
    if flags is not None and valid.any():
        inside = round(1 - float((bits[valid] & INPUT_OUT_OF_DOMAIN > 0).mean()), 6)
    return {
        **numbers,
        "usable_share": round(float(usable.mean()), 6),
        "valid_share": round(float(valid.mean()), 6),
        "in_domain_share": inside,
    }
