"""The second UDF ships alone: its text, run as a back-end runs it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from fake_series import fake_series
from openeo.metadata import BandDimension, CubeMetadata, SpatialDimension, TemporalDimension
from openeo.udf import UdfData, XarrayDataCube
from openeo.udf.run_code import load_module_from_string, run_udf_code

from lai_udf import series

TEXT = Path(series.__file__).read_text()
CONTEXT = {"step_days": 8, "start": "2024-03-01", "end": "2024-08-01"}
RUNNER = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("lai_"):
            raise ImportError("forbidden here: " + name)

sys.meta_path.insert(0, Forbid())
from openeo.udf.run_code import load_module_from_string
module = load_module_from_string(open(sys.argv[1]).read())
assert callable(module["apply_datacube"])
print("alone")
"""


def test_text_runs_where_our_packages_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "udf.txt").write_text(TEXT)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, "udf.txt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.stdout.strip() == "alone", done.stderr[-2000:]


def test_text_run_by_a_back_end_equals_the_function(rng: np.random.Generator) -> None:
    cube = fake_series(rng, haze=(30,))
    data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context=CONTEXT)
    (result,) = run_udf_code(TEXT, data).get_datacube_list()

    np.testing.assert_array_equal(
        result.get_array().values, series.apply_datacube(cube, CONTEXT).values
    )


def test_text_imports_only_what_every_back_end_has() -> None:
    imported = set()
    for node in ast.walk(ast.parse(TEXT)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])

    assert imported - set(sys.stdlib_module_names) == {"numpy", "xarray", "openeo"}
    assert "__future__" not in imported


def test_back_end_learns_the_labels_from_the_text() -> None:
    assert len(re.findall(r"^def apply_metadata\(", TEXT, re.MULTILINE)) == 1
    assert TEXT.count("apply_metadata") == 1
    metadata = CubeMetadata(
        dimensions=[
            SpatialDimension("x", [0, 1]),
            SpatialDimension("y", [0, 1]),
            TemporalDimension("t", ["2024-01-01", "2024-02-01"]),
            BandDimension("bands", []),
        ]
    )
    module = load_module_from_string(TEXT)

    grid = module["apply_metadata"](metadata, CONTEXT)
    observed = module["apply_metadata"](metadata, {"dates": "observed"})
    assert grid.band_names == list(series.OUTPUT_BANDS)
    assert observed.band_names == [*series.OUTPUT_BANDS, "REJECTED"]
