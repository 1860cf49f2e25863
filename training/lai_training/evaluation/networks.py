"""Networks to evaluate: bundles as they ship, and runs that are not bundles yet.

In: paths of bundles (zip or folder) and run folders. Out: `Network`s under names of their own,
each run by the UDF's own code, so that what is scored is what ships. SL2P stands beside them.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from lai_training import sl2p
from lai_training.errors import EvaluationError
from lai_udf.bundle import open_bundle
from lai_udf.predict import BANDS, apply_datacube

Float32 = NDArray[np.float32]

SL2P = "SL2P"
"""Name of the teacher's column."""


@dataclass(frozen=True, eq=False)
class Network:
    """A bundle under the name that its column has."""

    name: str
    """Such as `restoring 1.1.0`, or for a run `mlp (run mlp)`."""
    bundle: Path
    """Zip or folder."""
    contract: Mapping[str, Any]
    """`lai:contract` of its `model.json`."""

    def predict(
        self, scene: xr.DataArray, bands: Sequence[str] = ("LAI",), **options: int
    ) -> dict[str, Float32]:
        """Run the UDF over (bands, y, x) reflectance; return bands by name, (y, x) float32.

        Options are `samples`, Monte-Carlo draws of seed 0, and `overlap`, the border that the
        caller trims, px. NaN is no data. Raises `LaiInputError` where the UDF refuses the scene.
        """
        context = {"model": str(self.bundle), "bands": list(bands), **options}
        return dict(zip(bands, apply_datacube(scene, context).values, strict=True))

    def warm_up(self) -> None:
        """Open the bundle, so that what is timed next is prediction only."""
        leaf = np.tile(np.float32(0.05), (len(BANDS), 16, 16))
        self.predict(xr.DataArray(leaf, dims=("bands", "y", "x"), coords={"bands": list(BANDS)}))


def predict_sl2p(scene: xr.DataArray) -> Float32:
    """Return SL2P's LAI (y, x) of a scene (set 2_1, clipped as SNAP does)."""
    return np.asarray(sl2p.predict_image(scene)[0], dtype="float32")


def is_run(path: Path) -> bool:
    """Return whether a path is the folder of a fit."""
    return (path / "provenance.json").exists()


def is_network(path: Path) -> bool:
    """Return whether a path is meant as a bundle or a run, not as a folder of scenes."""
    return path.suffix == ".zip" or (path / "model.json").exists() or is_run(path)


@contextmanager
def open_networks(paths: Sequence[Path]) -> Iterator[list[Network]]:
    """Open bundles and runs; runs become bundles without calibration, in a temporary folder.

    Yields the networks in the order of their columns, their names unique.

    Raises:
        EvaluationError: nothing to evaluate.
        ExportError: a run has no weights yet.
        LaiModelError: a bundle is missing or damaged.
    """
    if not paths:
        raise EvaluationError("nothing to evaluate: give a bundle or the folder of a run")
    with tempfile.TemporaryDirectory() as folder:
        networks: list[Network] = []
        for number, path in enumerate(paths):
            bundle = path
            if is_run(path):
                from lai_training.bundles.export import pack_run, write_members  # Keras

                members = pack_run(path, version="0.0.0")
                bundle = write_members(Path(folder) / f"{number}.zip", members)
            contract = open_bundle(bundle).contract
            name = str(contract["model_id"]).removeprefix("sentinel2-lai-")
            name += f" (run {path.name})" if is_run(path) else f" {contract['model_version']}"
            if name in {network.name for network in networks}:
                name += f" #{number + 1}"
            networks.append(Network(name, bundle, contract))
        yield networks
