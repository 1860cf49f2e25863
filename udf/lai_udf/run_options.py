"""What to compute, the same for every window and scene of a run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lai_udf.bundle import Bundle
from lai_udf.identity import ResultIdentity, source_name, tile_of
from lai_udf.predict import read_settings
from lai_udf.scenes.metadata import CALLER
from lai_udf.scenes.source import SceneSource


@dataclass(frozen=True)
class RunOptions:
    """What to compute."""

    model: Path | None = None
    """Model bundle; None: the one that ships with the package."""
    target: str = "sl2p"
    """`sl2p`: what SNAP would say; `field`: corrected towards field measurements."""
    samples: int = 0
    """Monte-Carlo draws for `LAI_SD`; 0 = single pass."""
    seed: int = 0
    """Seed of the draws."""
    bands: tuple[str, ...] | None = None
    """Output bands; None: those of `variables`."""
    variables: tuple[str, ...] = ("LAI",)
    """Biophysical variables."""
    resolution: int = 20
    """Side of a pixel, m."""
    region: str = "known"
    """Interval for regions like those of the field data (`known`), or for others (`new`)."""
    level: float = 0.95
    """Level of the interval."""
    calibration: Path | None = None
    """File of own field points."""
    plausibility: str = "auto"
    """`off`: no value is doubted, whatever surface reflectance can be."""

    def context(self, bundle: Bundle, overlap_px: int, **scaling: float) -> dict[str, Any]:
        """Return the context of the UDF, checked; without scaling the cube holds reflectance."""
        context: dict[str, Any] = {
            "model": str(bundle.path),
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
            "bands": None if self.bands is None else list(self.bands),
            "variables": list(self.variables),
            "resolution": self.resolution,
            "region": self.region,
            "level": self.level,
            "calibration": None if self.calibration is None else str(self.calibration),
            "plausibility": self.plausibility,
            "overlap": overlap_px,
            **scaling,
        }
        read_settings(context)
        return context

    def output_bands(self) -> tuple[str, ...]:
        """Return the bands that come out."""
        settings = {"variables": list(self.variables)}
        if self.bands is not None:
            settings["bands"] = list(self.bands)
        return read_settings(settings).estimated_bands

    def provenance(self, bundle: Bundle) -> dict[str, str | int]:
        """Return what describes a result: model and settings."""
        return {
            "model_id": bundle.model_id,
            "model_version": bundle.version,
            "model_checksum": bundle.checksum,
            "target": self.target,
            "samples": self.samples,
            "seed": self.seed,
        }

    def identify(self, source: SceneSource, bundle: Bundle) -> ResultIdentity:
        """Return the identity of the result of a scene."""
        product = source.metadata.product_id or source.name
        sources = [source_name(product)]
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
            settings=self._settings(source),
        )

    def _settings(self, source: SceneSource) -> Mapping[str, Any]:
        by_hand = CALLER in source.scaling_text
        points = None
        if self.calibration is not None:
            points = hashlib.sha256(Path(self.calibration).read_bytes()).hexdigest()
        return {
            "region": self.region,
            "level": self.level,
            "plausibility": self.plausibility,
            "calibration": points,
            "scaling": source.scaling_text if by_hand else None,
        }
