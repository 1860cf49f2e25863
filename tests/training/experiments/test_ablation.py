"""Ablation: one change at a time, the same yardstick for all, and wrong variants named first."""

from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from experiments.ablation.fits import (
    AblationConfig,
    AblationRow,
    format_rows,
    label_features,
    merge,
    run_ablation,
    score_model,
    write_tables,
)
from lai_training.config_files import read_yaml
from lai_training.errors import ConfigError
from lai_training.learn.config import SampleConfig
from lai_training.learn.pools import measure_normalisation
from lai_training.learn.samples import build_batch
from lai_training.networks import SPECS, build_network

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BASE = {
    "network": "mlp",
    "pool": {"patches": 16, "size_px": 32, "seed": 7},
    "validation": {"patches": 8, "size_px": 32, "seed": 8},
    "samples": {"patch_px": 32, "batch": 4},
    "epochs": 1,
    "steps": 2,
    "learning_rate": 0.003,
}
CONFIGS = Path(__file__).parents[3] / "training" / "experiments" / "ablation" / "configs"


def _write(path: Path, **changes: object) -> Path:
    plan = {"base": BASE, "seeds": [1], "variants": {"default": {}}, **changes}
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def _row(variant: str, seed: int, noisy: float) -> AblationRow:
    return AblationRow(variant, seed, 0.1, 0.02, 0.03, noisy, 0.7, 200.0)


def test_a_group_of_keys_is_merged_and_not_replaced():
    base = {"epochs": 2, "samples": {"batch": 4, "augment": True}}

    changed = merge(base, {"samples": {"augment": False}})

    assert changed == {"epochs": 2, "samples": {"batch": 4, "augment": False}}
    assert base["samples"] == {"batch": 4, "augment": True}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_variant_of_the_ablations_that_ship_is_a_valid_experiment(path):
    plan = read_yaml(path, AblationConfig)

    default = plan.describe("default", 1)
    others = [plan.describe(name, 1) for name in plan.variants if name != "default"]

    assert all(other != default for other in others)
    assert default.samples.augment


def test_a_wrong_variant_is_named_before_anything_is_fitted(tmp_path):
    path = _write(tmp_path / "plan.yaml", variants={"default": {}, "odd": {"samples": {"x": 1}}})

    with pytest.raises(ConfigError, match=r"variant odd: unknown key samples\.x"):
        run_ablation(path, tmp_path / "out", pools=tmp_path)

    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_ablation_leaves_a_row_per_fit_and_goes_on_where_it_stopped(tmp_path, pools):
    out = tmp_path / "out"
    run_ablation(_write(tmp_path / "plan.yaml"), out, pools=pools)
    first = (out / "default-1" / "best.keras").stat().st_mtime_ns
    reported = []

    table = run_ablation(
        _write(tmp_path / "plan.yaml", variants={"default": {}, "no turns": {"epochs": 1}}),
        out,
        pools=pools,
        progress=lambda done, total: reported.append((done, total)),
    )

    assert reported == [(1, 2), (2, 2)]
    assert (out / "default-1" / "best.keras").stat().st_mtime_ns == first
    assert table == (out / "ablation.md").read_text().strip()
    assert len((out / "ablation.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "ablation.csv",
        "ablation.md",
        "default-1",
        "no_turns-1",
    ]


def test_the_table_shows_mean_and_half_range_over_the_seeds(tmp_path):
    write_tables([_row("a", 1, 0.10), _row("a", 2, 0.14), _row("b", 1, 0.2)], tmp_path)

    lines = (tmp_path / "ablation.md").read_text().splitlines()

    assert "| a | 2 |" in lines[2]
    assert "| 0.1200 ± 0.0200 |" in lines[2]
    assert "| 0.2000 |" in lines[3]
    assert format_rows([_row("b", 1, 0.2)]) in "\n".join([*lines[:2], lines[3]])


def test_a_score_is_the_same_whenever_it_is_asked_for(land):
    keras.utils.set_random_seed(3)
    model = build_network("mlp")
    arguments = (land.astype("float32"), measure_normalisation(land), "mlp", SampleConfig())

    first, second = (score_model(model, *arguments) for _ in range(2))

    assert first == second
    assert set(first) == {"smooth", "rough", "noisy", "noisy_ratio"}


def test_sl2p_of_what_a_network_sees_of_clean_land_is_the_label(land, rng):
    normalisation = measure_normalisation(land)
    config = SampleConfig(noisy_share=0, missing_share=0)

    (features, _), label, _ = build_batch(
        land[:4].astype("float32"), normalisation, SPECS["mlp"], config, rng
    )

    found = label_features(features, normalisation, config)
    np.testing.assert_allclose(found, label[..., 0], atol=2e-3)
