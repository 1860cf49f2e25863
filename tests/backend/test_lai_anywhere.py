"""The shipped UDF and model: the same numbers however a cube is cut, and wherever a graph runs."""

import json

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from fake_cubes import fake_cube, to_digital_numbers
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from backend.udfs import px
from lai_backend.neighborhood import apply_neighborhood
from lai_backend.udf_runner import LocalUdf
from lai_udf.bundle import default_bundle_path
from lai_udf.emulation import Cutting, run_graph_in_windows, run_udf_in_windows
from lai_udf.predict import BANDS, OUTPUT_BANDS, apply_datacube
from lai_udf.process_graph import lai_cube, lai_udf_code

pytestmark = pytest.mark.filterwarnings(
    # openeo_processes_dask.specs leaves the files it reads open
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
HEIGHT, WIDTH, STEP = 72, 100, 20.0
WEST, NORTH = 600_000.0, 5_000_000.0
SETTINGS = {
    "model": str(default_bundle_path()),
    "reflectance_scale": 0.0001,
    "reflectance_offset": -0.1,
    "overlap": 16,
}


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    """Digital numbers of two dates, with real edges and noise."""
    rng = np.random.default_rng(11)
    numbers = to_digital_numbers(fake_cube(rng, (HEIGHT, WIDTH), dates=2)).astype("float32")
    return numbers.rio.write_crs("EPSG:32633")


def predict(cube, size, *, threads=1, chunk=None, **settings) -> xr.DataArray:
    code = lai_udf_code(SETTINGS | settings)
    call = LocalUdf(code.code, code.context)
    chunked = cube.chunk({"y": chunk or size, "x": chunk or size})
    with dask.config.set(scheduler="threads", num_workers=threads):
        return apply_neighborhood(chunked, call, px(size), px(16)).compute()


@pytest.mark.parametrize("origin", [(5, 60), (33, 1)])
def test_a_shifted_tile_origin_changes_no_number(cube, origin):
    """The network has no pooling at 20 m, and sees less far than the overlap."""
    code, bands = lai_udf_code(SETTINGS), list(OUTPUT_BANDS)
    shifted = run_udf_in_windows(code.code, cube, code.context, Cutting(64, 16, False, origin))
    expected = predict(cube, 64).sel(bands=bands)
    np.testing.assert_allclose(shifted.sel(bands=bands), expected, atol=1e-4)


def test_sums_of_lai_sd_do_not_depend_on_chunks_or_workers(cube, monkeypatch):
    monkeypatch.setattr("lai_backend.neighborhood.BLOCK_PX", 64)
    ways = [(32, 1, 32), (32, 2, 100), (64, 1, 17), (48, 2, 48), (128, 1, 128)]
    maps = [
        predict(cube, size, threads=threads, chunk=chunk, samples=4, seed=9, bands=["LAI_SD"])
        for size, threads, chunk in ways
    ]
    assert float(maps[0].mean()) > 0
    assert len({float(lai_sd.sum(dtype="float64")) for lai_sd in maps}) == 1


@pytest.fixture(scope="module")
def item(cube, tiny):
    """The cube's first date as a STAC item on disk."""
    home = tiny.folder / "ten_bands"
    home.mkdir()
    profile = {
        "driver": "GTiff",
        "dtype": "uint16",
        "count": len(BANDS),
        "height": HEIGHT,
        "width": WIDTH,
        "crs": "EPSG:32633",
        "transform": from_origin(WEST - STEP / 2, NORTH + STEP / 2, STEP, STEP),
        "nodata": 0,
    }
    with rasterio.open(home / "bands.tif", "w", **profile) as dataset:
        dataset.write(cube[0].values.astype("uint16"))
        box = transform_bounds("EPSG:32633", 4326, *dataset.bounds)
    bands = [{"name": name, "nodata": 0} for name in BANDS]
    content = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "ten_bands",
        "bbox": list(box),
        "properties": {"datetime": "2024-06-01T10:20:30Z"},
        "assets": {"bands": {"href": "./bands.tif", "type": "image/tiff", "bands": bands}},
    }
    (home / "item.json").write_text(json.dumps(content))
    return home / "item.json"


@pytest.fixture(scope="module")
def text(connection, item) -> str:
    """One process graph as JSON; every way below runs this very text."""
    loaded = connection.load_stac(str(item), bands=list(BANDS))
    options = {key: value for key, value in SETTINGS.items() if key != "overlap"}
    return lai_cube(loaded, size=64, overlap=16, samples=3, seed=2, **options).to_json()


@pytest.fixture(scope="module")
def in_windows(text, cube) -> np.ndarray:
    """What the emulation of the cloud gives, shape (bands, y, x)."""
    return run_graph_in_windows(json.loads(text)["process_graph"], cube[[0]]).values[0]


def test_the_emulation_gives_what_the_function_gives_on_the_whole_scene(cube, in_windows):
    settings = {**SETTINGS, "samples": 3, "seed": 2}
    del settings["overlap"]  # nobody trims
    whole = apply_datacube(cube[0], settings)
    np.testing.assert_allclose(in_windows, whole, atol=1e-4)
    assert np.isfinite(in_windows).mean() > 0.9


def test_the_emulation_with_another_tile_origin_gives_the_same(text, cube, in_windows):
    graph = json.loads(text)["process_graph"]
    shifted = run_graph_in_windows(graph, cube[[0]], origin_px=(7, 21)).values[0]
    np.testing.assert_allclose(shifted, in_windows, atol=1e-4)


def test_a_synchronous_request_gives_what_the_emulation_gives(
    connection, text, in_windows, tmp_path
):
    connection.download(save(text, "netCDF"), tmp_path / "lai.nc")
    with xr.open_dataset(tmp_path / "lai.nc", decode_coords="all") as dataset:
        result = dataset.to_dataarray("bands").transpose("t", "bands", "y", "x").values[0]
    assert_same(result, in_windows)


def test_a_batch_job_gives_what_the_emulation_gives(connection, text, in_windows, tmp_path):
    job = connection.create_job(save(text, "GTiff"))
    job.start_and_wait(print=lambda *_: None, max_poll_interval=0.3)
    path = job.get_results().download_file(tmp_path / "lai.tif")
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS")
        assert_same(dataset.read(), in_windows)


def test_a_local_connection_gives_what_the_emulation_gives(text, item, in_windows):
    from lai_backend.local import LocalConnection

    result = LocalConnection(allow=[item.parent]).execute(text)
    assert_same(result.values[0], in_windows)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare bit by bit: one thread a window, so the same windows give the same sums."""
    np.testing.assert_array_equal(found, expected)


def save(text: str, form: str) -> dict[str, object]:
    """Return the graph with its result saved; a server needs to know the format, no other node."""
    graph = json.loads(text)["process_graph"]
    (end,) = (name for name, node in graph.items() if node.pop("result", False))
    arguments = {"data": {"from_node": end}, "format": form}
    return graph | {"save": {"process_id": "save_result", "arguments": arguments, "result": True}}
