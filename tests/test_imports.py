"""Help and misuse answer at once: the commands import what they need when they need it."""

import subprocess
import sys

import pytest

HEAVY = (
    "dask",
    "fastapi",
    "geopandas",
    "jsonschema",
    "keras",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "openeo",
    "pandas",
    "pystac",
    "rasterio",
    "scipy",
    "shapely",
    "tensorflow",
    "xarray",
)
"""Packages that take a tenth of a second or more. Seconds differ by machine; imports do not."""


@pytest.mark.parametrize("package", ["lai_udf", "lai_training", "lai_service", "lai_backend"])
def test_help_imports_nothing_heavy(package: str) -> None:
    code = (
        "import sys\n"
        f"from {package}.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        f"print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == []


@pytest.mark.parametrize("package", ["lai_udf", "lai_training", "lai_stac", "lai_service"])
def test_a_package_imports_its_names_when_they_are_asked_for(package: str) -> None:
    code = f"import sys, {package}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
