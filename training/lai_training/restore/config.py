"""What an experiment with the bodies is: one YAML file of `training/configs`."""

from typing import Literal

from pydantic import Field

from lai_training.config_files import Checked


class BodyConfig(Checked):
    """How one body is fitted."""

    epochs: int = Field(ge=1)
    steps: int = Field(ge=1)
    """Batches per epoch."""
    patch_px: int = Field(48, ge=16, multiple_of=4)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(gt=0)
    band_weight: float = Field(ge=0)
    """Weight of the bands themselves beside the variables that SL2P reads off them."""
    variable_weights: tuple[float, float, float, float, float] = (1, 0.5, 0.5, 1, 3)
    """Of LAI, FAPAR, FCOVER, CCC, CWC in the loss."""
    noise_level: float = Field(0.0, ge=0)
    """Size of the noise on patches, 1 = as measured on real scenes; drawn from 0 to 1.5 of it."""
    strength: float = Field(1.0, gt=0, le=1)
    """Share of the learnt correction that is kept: with less, other dates are predicted less
    well, and LAI differs less from SL2P."""
    moved: bool = False
    """Shift the patches by fractions of a pixel, as dates are against each other."""


class RestoreConfig(Checked):
    """One experiment with both bodies."""

    network: Literal["restoring"]
    seed: int
    scenes: str
    """Folder of real scenes to learn from (GeoTIFFs or products); relative to where the command is
    given. `lai-train fit --scenes` overrules it."""
    simulated_patches: int = Field(512, ge=0)
    """Simulated patches of 64 px beside the real ones."""
    simulated_share: float = Field(0.1, ge=0, le=1)
    """Share of the samples that are cut from simulated patches."""
    missing_share: float = Field(0.2, ge=0, le=1)
    """Share of the samples with a rectangle or a border without data."""
    covered_share: float = Field(0.1, ge=0, le=1)
    """Share of the samples under haze, thin cirrus, the edge of a cloud or its shadow."""
    masked_draw_share: float = Field(0.3, ge=0, le=1)
    """Share of the samples seen through a draw of dropout masks."""
    nominal_angle_share: float = Field(0.6, ge=0, le=1)
    """Share of the samples at nominal angles."""
    body_20m: BodyConfig
    body_10m: BodyConfig

    def body(self, resolution: int) -> BodyConfig:
        """Return the part about one body."""
        return self.body_20m if resolution == 20 else self.body_10m
