"""The process `sentinel2_lai` by name, on bands of 10 m and 20 m: whole windows, right borders."""

import json

import numpy as np
import pytest
import rasterio
import xarray as xr
from fake_cubes import fake_cube, to_digital_numbers, with_bands
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from lai_udf import series
from lai_udf.bundle import default_bundle_path
from lai_udf.errors import LaiGraphError
from lai_udf.predict import BANDS, apply_datacube
from lai_udf.process_graph import lai_from_collection
from lai_udf.udp import PROCESS_ID, build_process

ROWS, COLUMNS, STEP = 88, 96, 20.0
WEST, NORTH, CRS = 600_000.0, 5_000_000.0, "EPSG:32633"
OF_10_M = ("B02", "B03", "B04", "B08")
SCALING = {"reflectance_scale": 0.0001, "reflectance_offset": -0.1}
# 10 m inside a pixel of 20 m on every side: the result holds columns 20 to 59 and rows 24 to 55.
# Multiples of 4 px, as otherwise the poolings fall elsewhere than in the whole scene.
BOX = {
    "west": WEST + 20 * STEP + 10,
    "east": WEST + 60 * STEP - 10,
    "north": NORTH - 24 * STEP - 10,
    "south": NORTH - 56 * STEP + 10,
    "crs": 32633,
}
JUNE = ["2024-06-01", "2024-06-02"]


@pytest.fixture(scope="module")
def numbers() -> xr.DataArray:
    """Digital numbers of one date at 20 m, with the scene classes."""
    cube = to_digital_numbers(fake_cube(np.random.default_rng(5), (ROWS, COLUMNS)))
    classes = np.full((ROWS, COLUMNS), 4.0)
    classes[30:34, 40:45] = 9  # a cloud
    return with_bands(cube.astype("float32"), SCL=classes)


@pytest.fixture(scope="module")
def collection(numbers, tiny) -> str:
    """The same scene as a collection: some bands at 10 m, the rest at 20 m."""
    home = tiny.folder / "MIXED"
    home.mkdir()
    assets = {}
    for name in (*BANDS, "SCL"):
        plane = numbers.sel(bands=name)[0].values.astype("uint16")
        times = 2 if name in OF_10_M else 1
        plane = plane.repeat(times, 0).repeat(times, 1)
        profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "crs": CRS, "nodata": 0}
        profile |= {"height": plane.shape[0], "width": plane.shape[1]}
        profile["transform"] = from_origin(WEST, NORTH, STEP / times, STEP / times)
        with rasterio.open(home / f"{name}.tif", "w", **profile) as dataset:
            dataset.write(plane, 1)
        assets[name] = {"href": f"./{name}.tif", "bands": [{"name": name, "nodata": 0}]}
    east, south = WEST + COLUMNS * STEP, NORTH - ROWS * STEP
    box = list(transform_bounds(CRS, 4326, WEST, south, east, NORTH, densify_pts=21))
    common = {"stac_version": "1.1.0", "links": []}
    item = {"type": "Feature", "id": "one", "bbox": box, "assets": assets, **common}
    item["properties"] = {"datetime": "2024-06-01T10:20:30Z"}
    (home / "one.json").write_text(json.dumps(item))
    described = {"type": "Collection", "id": "MIXED", "license": "CC0-1.0", **common}
    described["extent"] = {
        "spatial": {"bbox": [box]},
        "temporal": {"interval": [["2024-06-01T00:00:00Z", None]]},
    }
    (home / "collection.json").write_text(json.dumps(described | {"description": "Fields."}))
    yield "MIXED"
    (home / "collection.json").unlink()  # other tests list the collections


@pytest.fixture(scope="module")
def expected(numbers) -> np.ndarray:
    """LAI of the whole scene at once, cut to the pixels that the box touches."""
    settings = {"model": str(default_bundle_path()), **SCALING}
    return apply_datacube(numbers, settings).values[0, :, 24:56, 20:60]


def read(path) -> np.ndarray:
    with xr.open_dataset(path, decode_coords="all") as dataset:
        return dataset.to_dataarray("bands").transpose("t", "bands", "y", "x").values[0]


def test_the_stored_process_has_right_borders(connection, collection, expected, tmp_path):
    process = build_process("sentinel2-lai-9.9.9")
    connection.save_user_defined_process(
        PROCESS_ID, process["process_graph"], parameters=process["parameters"]
    )
    lai = connection.datacube_from_process(
        PROCESS_ID,
        spatial_extent=BOX,
        temporal_extent=JUNE,
        collection=collection,
        auxiliary_bands=["SCL"],
        model=str(default_bundle_path()),
        **SCALING,
    )
    lai.download(tmp_path / "lai.nc", format="netCDF")
    result = read(tmp_path / "lai.nc")
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1e-4)
    connection.user_defined_process(PROCESS_ID).delete()


def test_the_lines_of_the_readme_have_right_borders(connection, collection, expected, tmp_path):
    lai = lai_from_collection(
        connection,
        spatial_extent=BOX,
        temporal_extent=JUNE,
        collection=collection,
        auxiliary_bands=["SCL"],
        model=str(default_bundle_path()),
        size=32,
        **SCALING,
    )
    lai.download(tmp_path / "lai.nc", format="netCDF")
    result = read(tmp_path / "lai.nc")
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_a_series_over_http_is_that_of_both_functions(connection, collection, numbers, tmp_path):
    lai = lai_from_collection(
        connection,
        spatial_extent=BOX,
        temporal_extent=["2024-06-01", "2024-06-08"],
        collection=collection,
        auxiliary_bands=["SCL"],
        model=str(default_bundle_path()),
        size=32,
        step_days=3,
        **SCALING,
    )
    lai.download(tmp_path / "series.nc", format="netCDF")

    with xr.open_dataset(tmp_path / "series.nc", decode_coords="all") as dataset:
        days = [str(day)[:10] for day in dataset["t"].values]
        found = dataset.to_dataarray("bands").transpose("t", "bands", "y", "x").values
    assert days == ["2024-06-01", "2024-06-04", "2024-06-07"]
    passed = [*series.EVIDENCE_BANDS, "SCL"]
    settings = {"model": str(default_bundle_path()), "pass_through": passed, **SCALING}
    predicted = apply_datacube(numbers, settings)
    expected = series.apply_datacube(predicted, {"dates": days, **SCALING})
    np.testing.assert_allclose(found, expected.values[..., 24:56, 20:60], atol=1e-4)


def test_a_collection_that_lacks_a_band_is_refused_before_the_job(connection):
    with pytest.raises(LaiGraphError) as caught:
        lai_from_collection(connection, collection="TINY", spatial_extent=BOX, temporal_extent=JUNE)
    assert caught.value.parameter == "collection"
