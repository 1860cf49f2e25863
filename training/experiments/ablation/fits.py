"""Ablation: which parts of the default recipe earn their place, by short fits that lack one each.

Input: a YAML file with the recipe, what each variant changes in it, and seeds. Output: a run
folder per variant and seed, and one table (CSV and Markdown) with the distance to SL2P on three
sets of held-out simulated patches: smooth land, land as rough as real scenes, and such land seen
with noise. The sets are the same for all variants: a validation loss does not compare fits whose
losses differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lai_training.config_files import list_faults, read_yaml
from lai_training.errors import ConfigError
from lai_training.learn.config import FitConfig, SampleConfig
from lai_training.learn.fit import fit
from lai_training.learn.pools import Constants, Floats, load_pool
from lai_training.learn.run_folder import read_history, read_provenance
from lai_training.learn.samples import build_batch
from lai_training.networks import SPECS
from lai_training.sl2p import predict_patches
from lai_udf.atomic import disk_errors, move_finished, work_folder
from lai_udf.predict import BANDS

TABLE = "ablation"
SETS: dict[str, dict[str, float]] = {
    "smooth": {"noisy_share": 0.0, "grain_share": 0.0},
    "rough": {"noisy_share": 0.0, "grain_share": 1.0},
    "noisy": {"noisy_share": 1.0, "grain_share": 1.0, "noise_level_low": 0.5},
}
"""What is changed in the samples for each set of held-out patches; noise has a mean level of 1."""
PATCHES = 64
"""Patches of the validation pool that are scored on."""
SEED = 2020


class AblationConfig(BaseModel):
    """A recipe and what is changed in it; a YAML file of `configs` beside this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: dict[str, Any]
    """The recipe: a config of `lai-train fit`, without its seed."""
    seeds: tuple[int, ...] = Field(min_length=1)
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name of a variant -> the keys that differ from the recipe."""

    def describe(self, variant: str, seed: int) -> FitConfig:
        """Return the experiment of one variant and seed; raises pydantic's `ValidationError`."""
        return FitConfig.model_validate(merge({**self.base, "seed": seed}, self.variants[variant]))


@dataclass(frozen=True)
class AblationRow:
    """How well one fit does."""

    variant: str
    """What was changed."""
    seed: int
    """Of weights and samples."""
    val_loss: float
    """Lowest validation loss; comparable between fits with the same loss and weights only."""
    smooth: float
    """Mean distance to SL2P, m2 m-2, on smooth land without noise."""
    rough: float
    """The same on rough land without noise."""
    noisy: float
    """The same on rough land with noise; the label is SL2P of the land without it."""
    noisy_ratio: float
    """RMSE on rough land with noise, relative to what SL2P itself makes of it."""
    patches_per_s: float
    """Speed of the fit."""


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`; groups of keys are merged, not replaced."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[key] = merge(inner, value)
        else:
            merged[key] = value
    return merged


def run_ablation(
    path: Path, out: Path, *, pools: Path, progress: Callable[[int, int], None] | None = None
) -> str:
    """Fit and score every variant; fits that are done already are not repeated.

    Args:
        path: YAML file of an `AblationConfig`.
        out: folder of the runs and of the table.
        pools: folder of the simulated pools.
        progress: called with (fits done, all).

    Returns:
        The table in Markdown; `ablation.csv` holds a row per fit, `ablation.md` the table.

    Raises:
        ConfigError: the file, or a variant of it, is wrong.
        FitError: a fit cannot begin or go on.
        OutputNotWritableError: a folder refuses.
    """
    plan = read_yaml(path, AblationConfig)
    fits = [(seed, name) for seed in plan.seeds for name in plan.variants]
    configs = {}
    for seed, name in fits:
        try:
            configs[seed, name] = plan.describe(name, seed)
        except ValidationError as error:
            raise ConfigError(f"config {path}: variant {name}: {list_faults(error)}") from error
    rows: list[AblationRow] = []
    for number, (seed, name) in enumerate(fits, start=1):
        config = configs[seed, name]
        run = out / f"{name.replace(' ', '_')}-{seed}"
        best = fit(config, run, pools=pools)
        model = keras.models.load_model(best, compile=False)
        patches = np.asarray(
            load_pool(config.validation, pools).reflectance[:PATCHES], dtype="float32"
        )
        history = read_history(run, config.epochs)
        constants = read_provenance(run)["normalisation"]
        samples = configs[plan.seeds[0], next(iter(plan.variants))].samples
        scores = score_model(model, patches, constants, config.network, samples)
        rows.append(
            AblationRow(
                variant=name,
                seed=seed,
                val_loss=float(history["val_loss"].min()),
                patches_per_s=float(history["patches_per_s"].median()),
                **scores,
            )
        )
        write_tables(rows, out)
        if progress:
            progress(number, len(fits))
    return format_rows(rows)


def score_model(
    model: keras.Model,
    patches: Floats,
    normalisation: Constants,
    network: str,
    samples: SampleConfig,
) -> dict[str, float]:
    """Return the distances of `AblationRow` for a network, on the same samples for every network.

    Args:
        model: the network.
        patches: (n, 10, y, x) clean reflectance.
        normalisation: constants that the network was fitted with.
        network: its key in `SPECS`.
        samples: how samples are made, but for what `SETS` changes.
    """
    scores: dict[str, float] = {}
    for name, changes in SETS.items():
        config = samples.model_copy(update={**changes, "masked_draw_share": 0.0})
        rng = np.random.default_rng(SEED)
        batch = build_batch(patches, normalisation, SPECS[network], config, rng)
        (features, masks), truth, weight = batch
        seen = weight[..., 0] > 0
        lai = model.predict((features, masks), batch_size=32, verbose=0)
        error = (lai - truth)[..., 0][seen]
        scores[name] = float(np.abs(error).mean())
        if name == "noisy":
            sl2p = label_features(features, normalisation, config)
            own = (sl2p - truth[..., 0])[seen]
            scores["noisy_ratio"] = float(np.sqrt((error**2).mean() / (own**2).mean()))
    return scores


def label_features(features: Floats, normalisation: Constants, config: SampleConfig) -> Floats:
    """Return SL2P's LAI of the network's input, (n, y, x)."""
    count = len(BANDS)
    mean, std = (np.array(normalisation[key], dtype="float32") for key in ("mean", "std"))
    observed = features[..., :count] * std + mean
    lai, _ = predict_patches(observed.transpose(0, 3, 1, 2), features[:, 0, 0, count + 1 :])
    return np.clip(lai, config.label_low, config.label_high)


def write_tables(rows: Sequence[AblationRow], out: Path) -> None:
    """Write `ablation.csv` and `ablation.md`, both or none."""
    target = {name: out / f"{TABLE}.{name}" for name in ("csv", "md")}
    with work_folder(out) as work, disk_errors(out):
        pd.DataFrame([asdict(row) for row in rows]).to_csv(work / f"{TABLE}.csv", index=False)
        (work / f"{TABLE}.md").write_text(format_rows(rows) + "\n", encoding="utf-8")
        move_finished({work / path.name: path for path in target.values()})


def format_rows(rows: Sequence[AblationRow]) -> str:
    """Lay the fits out in Markdown: mean over the seeds, and half the range between them."""
    table = pd.DataFrame([asdict(row) for row in rows])
    names = [field.name for field in fields(AblationRow)][2:]
    lines = [
        "| variant | seeds | validation loss | smooth | rough | noisy | noisy, RMSE / SL2P's "
        "| patches/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, group in table.groupby("variant", sort=False):
        cells = [str(variant), str(len(group))]
        for name in names:
            digits = 0 if name == "patches_per_s" else 4
            half = (group[name].max() - group[name].min()) / 2
            spread = f" ± {half:.{digits}f}" if len(group) > 1 and digits else ""
            cells.append(f"{group[name].mean():.{digits}f}{spread}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
