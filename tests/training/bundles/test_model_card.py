"""Model cards: everything is read from model.json, what is missing is stated to be."""

import copy
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lai_training.bundles.model_card import model_card
from lai_training.cli import app
from lai_training.learn.config import read_config
from lai_udf.bundle import default_bundle_path, open_bundle

SECTIONS = (
    "Intended use",
    "What it is worth",
    "Input and output",
    "Architecture and reach",
    "Training data",
    "Scores",
    "Calibration",
    "Known failures",
    "Licence",
    "How to reproduce",
)


@pytest.fixture
def description() -> dict:
    return copy.deepcopy(dict(open_bundle(default_bundle_path()).description))


@pytest.fixture
def first(description: dict) -> dict:
    """A description of contract 1: one network, trained on patches."""
    contract = _contract(description)
    contract.pop("bodies")
    config = read_config(Path(__file__).parents[3] / "training/configs/paper.yaml")
    contract["provenance"]["config"] = config.model_dump()
    return description


def _contract(description: dict) -> dict:
    return description["properties"]["lai:contract"]


def test_the_card_of_the_shipped_bundle_has_every_section_and_its_numbers(description):
    card = model_card(description)
    contract = _contract(description)

    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == list(SECTIONS)
    for resolution, body in contract["bodies"].items():
        assert f"{resolution} m: reach {body['reach_px']} px" in card
    assert f"{contract['calibration']['n_pairs']} field pairs" in card
    assert description["assets"]["model"]["file:checksum"].removeprefix("1220") in card
    for scores in contract["calibration"]["scores_left_out_site_dates"].values():
        assert f"| {scores['rmse']} |" in card


def test_a_number_of_the_card_is_that_of_the_description(description):
    metrics = {"distance": 0.4321, "correlation": 0.9, "correlation_squared": 0.81}
    _contract(description)["metrics"] = {
        "sl2p_on_moon": metrics,
        "one_pass_spread": {"patches": 77},
    }

    card = model_card(description)

    assert "| moon |  |  | 0.9 | 0.4321 |" in card
    assert "- One pass spread: patches 77." in card


def test_where_angles_come_from_is_stated_with_scores_that_had_them(description):
    scores = {"correlation": 0.97, "correlation_squared": 0.94}
    _contract(description)["metrics"] = {"sl2p_on_real_scenes_nominal_angles": scores}
    without = model_card(description)
    _contract(description)["metrics"]["sl2p_on_real_scenes_angles_given"] = scores

    assert "the sun's by time and place" not in without
    assert "the sun's by time and place" in model_card(description)


def test_the_card_lists_the_scores_on_real_imagery_misses_included(description):
    ratios = {"LAI": 0.521, "CWC": 0.662}
    _contract(description)["metrics"]["real_imagery"] = {
        "wald_ratio": {"network": ratios, "regression": ratios, "snap_10m": {"LAI": 3.74}},
        "ten_metres_distance": {"network": 0.0116, "cubic": 0.0305},
        "pairs_ratio": 0.9905,
        "residual_cloud": {
            "flag_128": {"caught": 0.469, "lost": 0.0477},
            "flag_1": {"caught": 0.561, "lost": 0.172},
        },
    }

    card = model_card(description)

    assert "| 0.52 | regression of detail 0.52, SNAP's 10 m network 3.7 |" in card
    assert "| 0.012 | cubic interpolation 0.030 |" in card
    assert "| 47% at 4.8% | SL2P's flag 1: 56% at 17.2% |" in card
    assert "At 20 m this is SL2P, hardly better" in card
    assert "real imagery wald" not in card


def test_a_fit_is_measured_against_one_of_the_papers_size(first):
    config = _contract(first)["provenance"]["config"]
    config |= {"epochs": 40, "steps": 17_554}
    config["samples"] |= {"batch": 1, "patch_px": 64}

    assert "That is 0.25 times the pixels of a paper-size run" in model_card(first)


def test_the_machine_of_the_fit_is_stated(description):
    _contract(description)["provenance"]["device"] = "CPU:0"

    assert "Fitted on CPU:0." in model_card(description)


def test_the_field_correction_is_described(description):
    card = model_card(description)

    assert "`target=field` adds the output of a layer of 32 tanh units over B03" in card
    assert "at most 1.5 either way" in card


def test_what_the_description_lacks_is_not_made_up(description):
    contract = _contract(description)
    contract["metrics"], contract["calibration"] = {}, {}

    card = model_card(description)

    assert "of this bundle are undefined" in card
    assert "## What it is worth\n\nNot stated" in card
    assert "The interval is not calibrated." in card
    assert "## Scores\n\nNot stated" in card
    assert "target=field" not in card


def test_a_reach_beyond_the_overlap_is_a_known_failure(first):
    contract = _contract(first)
    contract["reach_px"] = contract["halo_px"] + 1

    assert "does not fit in the overlap: windows leave seams" in model_card(first)


def test_patches_of_real_products_are_not_called_simulated(first):
    pool = {"prepared": "build/patches", "split": "train"}
    _contract(first)["provenance"]["config"]["pool"] = pool

    card = model_card(first)

    assert "Patches: prepared build/patches, split train" in card
    assert "no real image" not in card


def test_a_licence_is_printed(description):
    description["properties"]["license"] = "Apache-2.0"

    assert "## Licence\n\nApache-2.0." in model_card(description)


def test_card_prints_or_writes_and_fails_in_one_sentence(tmp_path):
    bundle = str(default_bundle_path())

    printed = CliRunner().invoke(app, ["card", bundle])
    written = CliRunner().invoke(app, ["card", bundle, str(tmp_path / "card.md")])
    missing = CliRunner().invoke(app, ["card", str(tmp_path / "no.zip")])

    assert printed.exit_code == written.exit_code == 0
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == printed.stdout
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "cannot be read" in missing.stderr


def test_the_config_in_the_card_can_be_fitted_again(description):
    import yaml

    card = model_card(description)

    config = card.split("```yaml\n")[1].split("```")[0]
    known = _contract(description)["provenance"]["config"]
    assert yaml.safe_load(config) == json.loads(json.dumps(known))
