"""Pack scenes and spectra for a GPU machine, which then needs neither GDAL nor PROSAIL."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from lai_training.restore.scenes import read_scenes
from lai_training.simulation.spectral_library import load_or_make_library


def prepare(folder: Path, scenes: Path) -> None:
    """Write `scenes.npz` and `spectra-seed1.npz` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = ("reflectance", "scored", "place")
    arrays: dict[str, Any] = {
        f"{scene.name}/{part}": np.asarray(getattr(scene, part))
        for scene in read_scenes(scenes)
        for part in parts
    }
    np.savez_compressed(folder / "scenes.npz", **arrays)
    load_or_make_library(folder / "spectra-seed1.npz", seed=1)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
