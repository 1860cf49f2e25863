"""Real imagery: the shipped network against SL2P, and one chip through the whole data flow.

Scored as the README of the chips states: SL2P set 2_1 at nominal angles, clear vegetated pixels.
"""

import csv
import re
import subprocess
from pathlib import Path

import numpy as np
import pystac
import pytest

from end_to_end.conftest import DEMO, DemoRun, environment
from lai_stac.validation import validate_item
from lai_training.release import score_emulation
from lai_udf.bundle import default_bundle_path
from lai_udf.results import read_lai_cogs
from lai_udf.zonal import usable_pixels

pytestmark = [
    pytest.mark.shared,
    # rioxarray multiplies affine transforms with `*`
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

MIN_CORRELATION = 0.99
LARGEST_MEAN_DIFFERENCE = 0.06
MIN_LAI_SHARE = 0.9


@pytest.fixture(scope="module")
def vegetated(shared_data: Path) -> list[Path]:
    with (shared_data / "chips" / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "vegetated"]
    return [shared_data / "chips" / row["file"] for row in rows]


def test_the_shipped_network_agrees_with_sl2p_over_the_vegetated_chips(vegetated, tmp_path):
    for path in vegetated:
        (tmp_path / path.name).symlink_to(path)
    metrics = score_emulation(default_bundle_path(), tmp_path)
    scores = metrics["sl2p_on_real_scenes_nominal_angles"]
    assert scores["skipped"] == []
    assert scores["scenes"] == len(vegetated) == 63
    assert scores["correlation"] >= MIN_CORRELATION, scores
    assert scores["distance"] <= LARGEST_MEAN_DIFFERENCE, scores


@pytest.mark.slow
def test_a_real_chip_goes_through_the_whole_demo(vegetated, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        [*DEMO, f"--scene={vegetated[0]}", f"--out={out}"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    demo_run = DemoRun(out, done.stdout)
    item = pystac.Item.from_file(str(demo_run.item_folder / f"{demo_run.item_folder.name}.json"))
    validate_item(item)
    lai, flags = (
        read_lai_cogs(demo_run.item_folder).sel(bands=b).values for b in ("LAI", "LAI_FLAGS")
    )
    assert np.isfinite(lai).mean() > MIN_LAI_SHARE
    usable = usable_pixels(lai, flags).mean()  # less those out of domain, at borders, under haze
    assert item.properties["laiq:valid_fraction"] == pytest.approx(usable, abs=1e-3)
    assert "found by place, time and laiq:valid_fraction" in demo_run.printed
    found = re.search(r"r ([\d.]+), mean \|difference\| ([\d.]+)", demo_run.printed)
    assert found is not None
    assert float(found[1]) >= MIN_CORRELATION
    assert float(found[2]) <= LARGEST_MEAN_DIFFERENCE
