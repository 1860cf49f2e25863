"""What the back-end tells clients about itself: processes, runtimes of UDFs."""

import functools
import importlib.metadata
import sys
from typing import Any

from openeo_driver.specs import SPECS_ROOT
from openeo_processes_dask import specs

from lai_backend.files import read_json

UDF_LIBRARIES = (
    "dask",
    "netCDF4",
    "numpy",
    "onnxruntime",
    "openeo",
    "pandas",
    "pyproj",
    "rasterio",
    "rioxarray",
    "scipy",
    "shapely",
    "xarray",
)
OWN_SPECS = (
    "apply_neighborhood",
    "load_collection",
    "resample_spatial",
    "run_udf",
    "save_result",
)
WITHOUT_IMPLEMENTATION = frozenset(
    {
        "apply_neighborhood_intertwin",
        "apply_polygon",
        "ard_normalized_radar_backscatter",
        "ard_surface_reflectance",
        "atmospheric_correction",
        "cab",
        "create_data_cube",
        "date_between",
        "date_difference",
        "date_shift",
        "ddmc",
        "e",
        "export_workspace",
        "fapar",
        "fcover",
        "fit_curve",
        "fit_regr_random_forest",
        "lai",
        "load_geojson",
        "load_url",
        "predict_curve",
        "predict_random_forest",
        "rqadeforestation",
        "sar_backscatter",
        "sen2like",
        "stac_modify",
        "vector_buffer",
        "vector_reproject",
    }
)


@functools.cache
def process_specs() -> dict[str, dict[str, Any]]:
    """Return the openEO definition of every process offered, by identifier."""
    found = {
        spec["id"]: spec
        for spec in vars(specs).values()
        if isinstance(spec, dict) and "id" in spec and "parameters" in spec
    }
    offered = {name: spec for name, spec in found.items() if name not in WITHOUT_IMPLEMENTATION}
    for name in OWN_SPECS:
        offered[name] = read_json(SPECS_ROOT / "openeo-processes" / "2.x" / f"{name}.json")
    return dict(sorted(offered.items()))


def udf_runtimes() -> dict[str, Any]:
    """Return the answer to `GET /udf_runtimes`: the Python this server runs on."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    libraries = {}
    for name in UDF_LIBRARIES:
        try:
            libraries[name] = {"version": importlib.metadata.version(name)}
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "Python": {
            "title": f"Python {version}",
            "description": "Runs in a worker process of its own, with the libraries listed.",
            "type": "language",
            "default": version,
            "versions": {version: {"libraries": libraries}, "3": {"libraries": libraries}},
        }
    }
