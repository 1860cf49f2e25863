"""The same scene, cut into other windows by a real back-end, gives the same LAI."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import openeo
import pytest
import xarray as xr

from end_to_end.conftest import Backend, DemoRun
from end_to_end.scenes import SIZE_PX
from lai_demo.steps import COLLECTION, SCENE_SCALE
from lai_udf.bundle import open_bundle
from lai_udf.process_graph import lai_cube
from lai_udf.results import read_lai_geotiff
from lai_udf.run import predict_scene
from lai_udf.scenes.read import read_scene

# rioxarray multiplies affine transforms with `*`
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

TOLERANCE_LAI = 1e-4
BANDS = ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER")


def graph(backend: Backend, size: int, overlap: int) -> openeo.DataCube:
    cube = backend.connection.load_collection(COLLECTION)
    settings = {"reflectance_scale": SCENE_SCALE}
    if overlap:
        return lai_cube(cube, model=backend.model, size=size, overlap=overlap, **settings)
    # `lai_cube` refuses to cut without overlap: ask for it, and take it away from the graph.
    flat = lai_cube(cube, model=backend.model, size=size, **settings).flat_graph()
    (cutting,) = (node for node in flat.values() if node["process_id"] == "apply_neighborhood")
    for side in cutting["arguments"]["overlap"]:
        side["value"] = 0
    (udf,) = cutting["arguments"]["process"]["process_graph"].values()
    udf["arguments"]["context"]["overlap"] = 0
    return backend.connection.datacube_from_flat_graph(flat)


@pytest.fixture(scope="module")
def cut(
    backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int], xr.DataArray]:
    """Return the LAI bands, dims (bands, y, x), of a synchronous request by window and overlap."""
    folder = tmp_path_factory.mktemp("cuts")

    @cache
    def ask(size: int, overlap: int) -> xr.DataArray:
        path = folder / f"{size}+{overlap}.nc"
        graph(backend, size, overlap).download(path, format="netCDF")
        with xr.open_dataset(path) as dataset:
            return dataset[list(BANDS)].isel(t=0).to_dataarray("bands").load()

    return ask


@pytest.fixture(scope="module")
def uncut(scene: Path) -> xr.DataArray:
    """Return the bands of the whole scene, predicted at once without a back-end."""
    return predict_scene(read_scene(scene))


def difference(one: xr.DataArray, other: xr.DataArray, band: str) -> np.ndarray:
    first, second = (cube.sel(bands=band).values for cube in (one, other))
    assert first.shape == second.shape == SIZE_PX
    np.testing.assert_array_equal(np.isnan(first), np.isnan(second))
    return np.nan_to_num(np.abs(first - second))


@pytest.mark.parametrize("band", BANDS)
def test_the_batch_job_of_96_plus_16_equals_the_uncut_scene(demo_run: DemoRun, uncut, band):
    job = read_lai_geotiff(demo_run.job_raster)
    assert difference(job, uncut, band).max() <= TOLERANCE_LAI


@pytest.mark.slow
@pytest.mark.parametrize("band", BANDS)
def test_224_plus_16_equals_the_uncut_scene(cut, uncut, band):
    assert difference(cut(224, 16), uncut, band).max() <= TOLERANCE_LAI


def test_an_overlap_above_the_reach_is_enough(cut, uncut):
    assert open_bundle().contract["bodies"]["20"]["reach_px"] < 4
    assert difference(cut(96, 4), uncut, "LAI").max() <= TOLERANCE_LAI


def test_no_overlap_shows_its_seams_and_only_there(cut, uncut):
    seams = difference(cut(96, 0), uncut, "LAI")
    assert seams.max() > 100 * TOLERANCE_LAI
    far = np.ones(SIZE_PX, dtype=bool)
    for row in range(96, SIZE_PX[0], 96):
        far[row - 16 : row + 16] = False
    for column in range(96, SIZE_PX[1], 96):
        far[:, column - 16 : column + 16] = False
    assert seams[far].max() <= TOLERANCE_LAI
