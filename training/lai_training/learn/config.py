"""What an experiment is: one YAML file of `training/configs`, checked and frozen.

Input: the path of a YAML file. Output: a `FitConfig`; a key that is not known, or a value
that cannot be, is an error that names it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from lai_training.config_files import Checked, read_yaml
from lai_training.restore.config import RestoreConfig


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


def read_config(path: Path) -> FitConfig:
    """Read and check the config of a fit.

    Raises:
        ConfigError: the file cannot be read, or a key or value of it is wrong; both are named.
    """
    return read_yaml(path, FitConfig)


class _NamedNetwork(BaseModel):
    """The one key that names the kind of experiment."""

    model_config = ConfigDict(extra="ignore")

    network: str = ""


def read_any_config(path: Path) -> FitConfig | RestoreConfig:
    """Read and check the config of a fit, of one network or of the bodies.

    Raises:
        ConfigError: as `read_config`.
    """
    if read_yaml(path, _NamedNetwork).network == "restoring":
        return read_yaml(path, RestoreConfig)
    return read_config(path)
