"""Pack scenes for a GPU machine, which then needs no GDAL."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from lai_training.restore.scenes import read_scenes


def prepare(folder: Path, scenes: Path) -> None:
    """Write `scenes.npz` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = ("reflectance", "scored", "place")
    arrays: dict[str, Any] = {
        f"{scene.name}/{part}": np.asarray(getattr(scene, part))
        for scene in read_scenes(scenes)
        for part in parts
    }
    np.savez_compressed(folder / "scenes.npz", **arrays)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
