"""Model bundles: find, open, verify and describe the network that travels with a run.

A bundle is a zip (or the folder it was unpacked to) with `model.onnx` and `model.json`, a STAC
item with the machine-learning-model extension. The UDF opens it with its own code
(`lai_udf.predict.load_model`); this module is what the rest of the project needs to know of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lai_udf.predict import load_model, read_bundle

DEFAULT_BUNDLE = "sentinel2-lai-1.1.0.zip"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    path: Path
    """The zip or the folder."""
    description: Mapping[str, Any]
    """`model.json`, a STAC MLM item."""

    @property
    def contract(self) -> Mapping[str, Any]:
        """What the UDF runs by: bands, normalisation, reach, masks, domain, calibration."""
        contract: Mapping[str, Any] = self.description["properties"]["lai:contract"]
        return contract

    @property
    def model_id(self) -> str:
        """Name of the model, such as `sentinel2-lai`."""
        return str(self.contract["model_id"])

    @property
    def version(self) -> str:
        """Semantic version of the model."""
        return str(self.contract["model_version"])

    @property
    def checksum(self) -> str:
        """Multihash (sha2-256) of `model.onnx`."""
        return str(self.description["assets"]["model"]["file:checksum"])


def default_bundle_path() -> Path:
    """Return the bundle that ships with the package."""
    return Path(str(resources.files("lai_udf") / "bundles" / DEFAULT_BUNDLE))


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Open and verify a bundle; the shipped one where no path is given.

    Raises:
        lai_udf.predict.LaiModelError: it is missing, incomplete or fails its checksum.
    """
    path = default_bundle_path() if path is None else Path(path)
    load_model(str(path))
    description, _ = read_bundle(str(path))
    return Bundle(path, description)
