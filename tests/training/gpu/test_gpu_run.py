"""`training/gpu/run` keeps its time, resumes, and leaves pieces that make one archive."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from lai_training.restore.scenes import find_valid_vegetation

GPU = Path(__file__).resolve().parents[3] / "training" / "gpu"


@pytest.fixture
def train():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("gpu_train", GPU / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _carry(folder: Path, land: np.ndarray) -> None:
    """Pack two scenes as `training/gpu/run --prepare` does."""
    folder.mkdir()
    arrays = {}
    for name in ("a.tif", "b.tif"):
        image = np.tile(land[0].astype("float32"), (1, 2, 2))
        scored = find_valid_vegetation(image)
        arrays |= {f"{name}/reflectance": image, f"{name}/scored": scored, f"{name}/place": name}
    np.savez(folder / "scenes.npz", **arrays)


def _unpack(out: Path, folder: Path) -> Path:
    pieces = sorted(out.iterdir())
    (folder / "results.tar").write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    with tarfile.open(folder / "results.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_pieces_joined_are_the_archive_and_none_is_larger_than_the_limit(train, tmp_path, rng):
    (tmp_path / "runs").mkdir()
    content = rng.bytes(300_000)
    (tmp_path / "runs" / "best.keras").write_bytes(content)
    train.PIECE_BYTES = 100_000
    train.Pieces.__init__.__defaults__ = (100_000,)

    train.write_pieces(tmp_path, tmp_path / "out")

    sizes = [path.stat().st_size for path in (tmp_path / "out").iterdir()]
    assert len(sizes) >= 3
    assert max(sizes) <= 100_000
    joined = _unpack(tmp_path / "out", tmp_path)
    assert (joined / "runs" / "best.keras").read_bytes() == content


def test_carried_scenes_come_back(train, tmp_path, land):
    _carry(tmp_path / "carried", land)

    scenes = train.read_carried(tmp_path / "carried" / "scenes.npz")

    assert [scene.place for scene in scenes] == ["a.tif", "b.tif"]
    assert scenes[0].reflectance.shape == (10, 64, 64)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_ends_within_its_minute_and_another_finishes_what_it_left(tmp_path, land):
    _carry(tmp_path / "carried", land)
    command = [str(GPU / "run"), "--tiny", "--out", str(tmp_path / "out")]
    command += ["--work", str(tmp_path / "work"), "--carried", str(tmp_path / "carried")]
    environment = {**os.environ, "PYTHON": sys.executable}
    began = time.monotonic()

    subprocess.run([*command, "--minutes", "1"], env=environment, check=False)
    seconds = time.monotonic() - began
    done = subprocess.run([*command, "--minutes", "10"], env=environment, check=False)

    assert seconds < 62  # however far it came
    assert done.returncode == 0
    results = _unpack(tmp_path / "out", tmp_path)
    scores = json.loads((results / "scores.json").read_text())
    assert scores["paper_on_real_scenes"]["n"] > 0
    assert {row["method"] for row in scores["wald_on_the_scenes_it_was_fitted_on"]} >= {"restoring"}
    assert {path.name for path in (results / "runs").iterdir()} == {"paper", "restoring"}
