"""The UDF ships alone: its text, run as a back-end runs it, where none of our packages exist."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fake_cubes import fake_cube, to_digital_numbers
from openeo.metadata import BandDimension, CubeMetadata, SpatialDimension
from openeo.udf.run_code import extract_udf_dependencies, load_module_from_string

from lai_udf.predict import BANDS, OUTPUT_BANDS, apply_datacube

RUNNER = """
import json, sys
from pathlib import Path

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("lai_"):
            raise ImportError("forbidden here: " + name)

sys.meta_path.insert(0, Forbid())

import numpy as np
import xarray as xr
from openeo.udf import UdfData, XarrayDataCube
from openeo.udf.run_code import run_udf_code

code, folder = Path(sys.argv[1]).read_text(), Path(sys.argv[2])
for path in sorted(folder.glob("*.npz")):
    case = np.load(path)
    labels = {"bands": case["bands"].tolist(), "y": case["y"], "x": case["x"]}
    cube = xr.DataArray(case["values"], dims=case["dims"].tolist(), coords=labels)
    context = json.loads(str(case["context"]))
    data = UdfData(datacube_list=[XarrayDataCube(cube)], user_context=context)
    (result,) = run_udf_code(code, data).get_datacube_list()
    array = result.get_array()
    assert array["y"].equals(cube["y"]) and array["x"].equals(cube["x"]), "the window was cropped"
    np.savez(
        path.with_suffix(".out"), values=array.values, dims=array.dims, bands=array["bands"].values
    )
assert not [name for name in sys.modules if name.startswith("lai_")], "our packages were imported"
print("alone")
"""


def make_cases(known: str) -> dict[str, tuple[xr.DataArray, dict[str, object]]]:
    cube = fake_cube(np.random.default_rng(1), 32, dates=2)
    numbers = to_digital_numbers(cube)
    scaled = {"reflectance_scale": 1e-4, "reflectance_offset": -0.1}
    return {
        "float32_4d": (cube, {"model": known}),
        "float32_3d": (cube.isel(t=0, drop=True), {"model": known}),
        "int16_4d": (numbers, {"model": known} | scaled),
        "int16_3d": (numbers.isel(t=1, drop=True), {"model": known} | scaled),
        "two_bands": (cube, {"model": known, "bands": ["LAI_FLAGS", "LAI"]}),
    }


@pytest.fixture(scope="module")
def alone(
    known: str, udf_code: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[np.ndarray, list[str], list[str]]]:
    """Run all cases in one process that cannot import our packages; (values, dims, bands) each."""
    import json

    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "udf.txt").write_text(udf_code)
    for name, (cube, context) in make_cases(known).items():
        np.savez(
            folder / name,
            values=cube.values,
            dims=cube.dims,
            bands=cube["bands"].values,
            y=cube["y"].values,
            x=cube["x"].values,
            context=json.dumps(context),
        )
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, "udf.txt", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.stdout.strip().endswith("alone"), done.stderr[-3000:]
    found = {}
    for name in make_cases(known):
        result = np.load(folder / f"{name}.out.npz")
        found[name] = (result["values"], result["dims"].tolist(), result["bands"].tolist())
    return found


@pytest.mark.parametrize("name", ["float32_4d", "float32_3d", "int16_4d", "int16_3d", "two_bands"])
def test_text_runs_where_our_packages_do_not_exist(
    alone: dict[str, tuple[np.ndarray, list[str], list[str]]], known: str, name: str
) -> None:
    values, dims, bands = alone[name]
    cube, context = make_cases(known)[name]

    assert dims == list(cube.dims)
    assert bands == list(context.get("bands", OUTPUT_BANDS))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, apply_datacube(cube, context).values)


def test_int16_digital_numbers_give_the_lai_of_their_reflectance(
    alone: dict[str, tuple[np.ndarray, list[str], list[str]]],
) -> None:
    # Rounding to 1e-4 of reflectance is 1e-3 of LAI with the known network (10 x B8A) at most.
    np.testing.assert_allclose(alone["int16_4d"][0][:, 0], alone["float32_4d"][0][:, 0], atol=1e-3)


def test_one_date_without_t_equals_that_date_of_the_full_cube(
    alone: dict[str, tuple[np.ndarray, list[str], list[str]]],
) -> None:
    np.testing.assert_array_equal(alone["float32_3d"][0], alone["float32_4d"][0][0])


def test_no_header_of_dependencies_beside_the_archives(udf_code: str) -> None:
    # geopyspark would unpack all archives again for every chunk
    assert extract_udf_dependencies(udf_code) is None


def test_text_avoids_what_the_loader_cannot_take(udf_code: str) -> None:
    assert "__future__" not in udf_code
    assert "__file__" not in udf_code
    assert not re.search(r"^\s*from \.", udf_code, re.MULTILINE)
    assert "UdfData" not in udf_code


def test_word_of_the_metadata_hook_occurs_once_at_the_start_of_a_line(udf_code: str) -> None:
    # One path of the cloud back-end looks for the word anywhere, another for a line that starts
    # with it: a mention in a comment or a docstring breaks the first.
    assert len(re.findall("apply_metadata", udf_code)) == 1
    assert re.search(r"^def\s+apply_metadata\s*\(", udf_code, re.MULTILINE)


def test_metadata_hook_renames_the_bands(udf_code: str) -> None:
    metadata = CubeMetadata(
        dimensions=[
            SpatialDimension("x", extent=[0, 1]),
            SpatialDimension("y", extent=[0, 1]),
            BandDimension("bands", [{"name": band} for band in BANDS]),
        ]
    )
    hook = load_module_from_string(udf_code)["apply_metadata"]

    assert hook(metadata, {}).band_names == list(OUTPUT_BANDS)
    assert hook(metadata, {"bands": ["LAI", "LAI_SD"]}).band_names == ["LAI", "LAI_SD"]


def test_text_can_be_loaded_from_any_folder(
    udf_code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "apply_datacube" in load_module_from_string(udf_code + "\n# another text, not cached")
