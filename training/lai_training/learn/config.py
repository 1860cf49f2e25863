"""What an experiment is: one YAML file of `training/configs`, checked and frozen.

Input: the path of a YAML file. Output: a `FitConfig` of a network of the paper, or a
`RestoreConfig` of the shipped one.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from lai_training.config_files import Checked, read_yaml


class SampleConfig(Checked):
    """How a clean patch becomes a training sample."""

    patch_px: int = Field(64, ge=16, multiple_of=16)
    batch: int = Field(32, ge=2)
    noisy_share: float = Field(0.6, ge=0, le=1)
    """Share of the patches with band noise; the others are as clean as simulated."""
    noise_relative: float = Field(0.03, ge=0)
    """Band noise, fraction of the reflectance, at level 1; levels are drawn from 0 to 1.5."""
    noise_absolute: float = Field(0.005, ge=0)
    """Band noise, reflectance, at level 1."""
    noise_level_low: float = Field(0.0, ge=0, le=1.5)
    """Lowest level of the noise that is to be removed."""
    grain_share: float = Field(0.0, ge=0, le=1)
    """Share of patches given the texture of real scenes, see `samples.add_texture`."""
    nominal_angle_share: float = Field(0.5, ge=0, le=1)
    """Share of the patches whose angles are withheld."""
    missing_share: float = Field(0.3, ge=0, le=1)
    """Share of the patches with a rectangle or a border without data."""
    masked_draw_share: float = Field(0.5, ge=0, le=1)
    """Share of the patches seen through a draw of dropout masks."""
    clean_weight: float = Field(8.0, gt=0)
    """Weight of a noise-free, undropped patch; the error of the others is larger anyway, and
    without it the network would smooth what needs no smoothing."""
    unscored_border_px: int = Field(0, ge=0)
    """Border of a patch that the loss leaves out: the paper crops 16 of 128 px on every side."""
    augment: bool = True
    """Turn and flip the patches at random."""
    label_low: float = -1.0
    label_high: float = 10.0
    """SL2P labels are limited to this range; beyond it lies no vegetation."""


class PoolConfig(Checked):
    """A pool of simulated, noise-free patches."""

    patches: int = Field(ge=8)
    size_px: int = Field(ge=32)
    seed: int


class PreparedConfig(Checked):
    """Real patches: a folder that `lai-train prepare` wrote, and one of its splits."""

    prepared: str
    """Folder with `manifest.json`; relative to where the command is given."""
    split: Literal["train", "validation", "test"] = "train"


def _kind_of_pool(value: Any) -> str:  # noqa: ANN401  (what the YAML file holds)
    has_folder = "prepared" in value if isinstance(value, dict) else hasattr(value, "prepared")
    return "prepared pool" if has_folder else "simulated pool"


AnyPoolConfig = Annotated[
    Annotated[PoolConfig, Tag("simulated pool")] | Annotated[PreparedConfig, Tag("prepared pool")],
    Discriminator(_kind_of_pool),
]


class FitConfig(Checked):
    """One experiment; a YAML file of `training/configs`."""

    network: Literal["paper", "mlp"]
    seed: int
    pool: AnyPoolConfig
    validation: AnyPoolConfig
    normalisation: Literal["mean_std", "percentile"] = "mean_std"
    """percentile = eq. 1 of the paper: smallest 2nd and largest 98th percentile of any image."""
    samples: SampleConfig
    epochs: int = Field(ge=1)
    steps: int = Field(ge=1)
    """Batches per epoch."""
    optimizer: Literal["adamw", "rmsprop"] = "adamw"
    learning_rate: float = Field(gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.0, ge=0)
    ema_momentum: float | None = Field(None, gt=0, lt=1)
    huber_delta: float | None = Field(None, gt=0)
    """m2 m-2; None = mean squared error, as in the paper."""


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


class _NamedNetwork(BaseModel):
    network: str = ""


def read_config(path: Path) -> FitConfig | RestoreConfig:
    """Read and check the config of an experiment.

    Raises:
        ConfigError: the file cannot be read, or a key or value of it is wrong; both are named.
    """
    if read_yaml(path, _NamedNetwork).network == "restoring":
        return read_yaml(path, RestoreConfig)
    return read_yaml(path, FitConfig)
