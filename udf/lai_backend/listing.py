"""What the back-end tells clients about itself: processes, runtimes of UDFs."""

import functools
import sys
from pathlib import Path
from typing import Any

from openeo_driver.specs import SPECS_ROOT
from openeo_driver.utils import get_package_versions
from openeo_processes_dask import specs

from lai_backend.files import read_json

UDF_LIBRARIES = (
    *("dask", "netCDF4", "numpy", "onnxruntime", "openeo", "pandas", "pyproj", "rasterio"),
    *("rioxarray", "scipy", "shapely", "xarray"),
)
OWN_SPECS = {"apply_neighborhood", "load_collection", "resample_spatial", "run_udf", "save_result"}
OFFERED = Path(__file__).with_name("offered.json")
"""Names of the processes that passed the smoke test on a real cube (`tests/backend/smoke.py`)."""
FOLDERS = ("2.x", "2.x/proposals", "experimental")


@functools.cache
def known_specs() -> dict[str, dict[str, Any]]:
    """Return every openEO definition at hand, by identifier: what could be offered."""
    shipped = {
        spec["id"]: spec
        for spec in vars(specs).values()
        if isinstance(spec, dict) and "id" in spec and "parameters" in spec
    }
    for folder in reversed(FOLDERS):
        for path in sorted((SPECS_ROOT / "openeo-processes" / folder).glob("*.json")):
            if path.stem in OWN_SPECS or path.stem not in shipped:
                shipped[path.stem] = read_json(path)
    return shipped


@functools.cache
def process_specs() -> dict[str, dict[str, Any]]:
    """Return the openEO definition of every process offered, by identifier."""
    return {name: known_specs()[name] for name in read_json(OFFERED)}


def udf_runtimes() -> dict[str, Any]:
    """Return the answer to `GET /udf_runtimes`: the Python this server runs on."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = get_package_versions(UDF_LIBRARIES, na_value=None)
    libraries = {"libraries": {name: {"version": v} for name, v in found.items() if v}}
    return {
        "Python": {
            "title": f"Python {version}",
            "description": "Runs in a worker process of its own, with the libraries listed.",
            "type": "language",
            "default": version,
            "versions": {version: libraries, "3": libraries},
        }
    }
