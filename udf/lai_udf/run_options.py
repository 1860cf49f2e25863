"""What to compute, the same for every window and scene of a run."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lai_udf.bundle import Bundle
from lai_udf.identity import ResultIdentity, source_name, tile_of
from lai_udf.predict import output_bands, read_settings
from lai_udf.scenes.metadata import CALLER
from lai_udf.scenes.source import SceneSource


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
        sources = [source_name(source.metadata.product_id or source.name)]
        points = None
        if self.calibration is not None:
            points = hashlib.sha256(self.calibration.read_bytes()).hexdigest()
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
            settings={
                "region": self.region,
                "level": self.level,
                "plausibility": self.plausibility,
                "calibration": points,
                "scaling": scaling if CALLER in scaling else None,
            },
        )
