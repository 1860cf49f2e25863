"""What one run of the demo leaves behind, read by programs that are not ours."""

import re
import subprocess
from pathlib import Path

import numpy as np
import odc.stac
import pystac
import pystac.validation
import pystac_client
import pytest
import rasterio
import requests
import rioxarray
import xarray as xr
from rio_cogeo.cogeo import cog_validate

from end_to_end.conftest import DEMO, DemoRun, environment
from end_to_end.scenes import SIZE_PX
from lai_stac.validation import local_schemas, validate_item
from lai_udf.predict import NO_DATA_NEAR, OUTPUT_BANDS
from lai_udf.results import read_lai_geotiff

pytestmark = [
    # rioxarray and odc-geo multiply affine transforms with `*`
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    # odc-geo calls a function that shapely 2.2 has renamed
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),
]

LAI_KEYS = ("lai", "lai_sd", "lai_lower", "lai_upper")
HALF_A_STEP = 0.0005 + 1e-6


@pytest.fixture(scope="module")
def item(demo_run: DemoRun) -> pystac.Item:
    folder = demo_run.item_folder
    return pystac.Item.from_file(str(folder / f"{folder.name}.json"))


@pytest.fixture(scope="module")
def computed(demo_run: DemoRun) -> xr.DataArray:
    """Return what the batch job computed, float32, before it was encoded."""
    return read_lai_geotiff(demo_run.job_raster)


def values_of(cube: xr.DataArray, key: str) -> np.ndarray:
    return cube.sel(bands=key.upper()).values


def test_the_folder_holds_item_rasters_and_thumbnail_under_their_names(demo_run, item):
    names = {path.name for path in demo_run.item_folder.iterdir()}
    assert {f"{item.id}.json", "thumbnail.png", "lai_flags.tif"} <= names
    assert {f"{key}.tif" for key in LAI_KEYS} <= names
    assert {*LAI_KEYS, "lai_flags", "thumbnail"} <= set(item.assets)
    for key, asset in item.assets.items():
        suffix = ".png" if key in ("thumbnail", "quicklook") else ".tif"
        if key in (*LAI_KEYS, "lai_flags", "thumbnail"):
            assert Path(asset.href).name == f"{key}{suffix}"
    assert not list(demo_run.out.glob(".*")), "work folders stay behind"


def test_every_raster_is_a_cog_with_the_promised_encoding(demo_run):
    for key in (*LAI_KEYS, "lai_flags"):
        path = demo_run.item_folder / f"{key}.tif"
        valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
        assert valid, (key, errors, warnings)
        with rasterio.open(path) as dataset:
            found = (dataset.dtypes[0], dataset.scales[0], dataset.nodata)
        assert found == (("int16", 0.001, -32768) if key != "lai_flags" else ("uint8", 1.0, None))


def test_pystac_validates_the_item_offline_with_our_schema(item, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("validation asked the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("urllib3.PoolManager.request", refuse)
    validator = pystac.validation.JsonSchemaSTACValidator()
    validator.schema_cache.update(local_schemas())
    checked = pystac.validation.validate(item, validator=validator)

    assert any("lai-quality" in uri for uri in checked)
    validate_item(item)


def test_rioxarray_reads_what_the_job_computed(demo_run, computed):
    for key in LAI_KEYS:
        path = demo_run.item_folder / f"{key}.tif"
        with rioxarray.open_rasterio(path, mask_and_scale=True) as opened:
            read = opened.sel(band=1).values
        np.testing.assert_array_equal(np.isnan(read), np.isnan(values_of(computed, key)))
        assert np.nanmax(np.abs(read - values_of(computed, key))) <= HALF_A_STEP


def test_odc_stac_reads_what_the_job_computed_from_the_item_alone(item, computed):
    loaded = odc.stac.load([item], bands=[*LAI_KEYS, "lai_flags"])
    for key in LAI_KEYS:
        numbers = loaded[key].isel(time=0)
        bands = item.assets[key].to_dict()
        scale = bands.get("raster:scale") or bands["bands"][0]["raster:scale"]
        assert numbers.attrs["nodata"] == -32768
        read = np.where(numbers == -32768, np.nan, numbers * scale)
        np.testing.assert_array_equal(np.isnan(read), np.isnan(values_of(computed, key)))
        assert np.nanmax(np.abs(read - values_of(computed, key))) <= HALF_A_STEP
    flags = loaded["lai_flags"].isel(time=0).values
    np.testing.assert_array_equal(flags, values_of(computed, "lai_flags").astype("uint8"))


def test_the_raster_lies_where_the_scene_lies(demo_run, scene):
    with rasterio.open(scene) as before, rasterio.open(demo_run.item_folder / "lai.tif") as after:
        assert (after.crs, after.transform, after.shape) == (before.crs, before.transform, SIZE_PX)


def test_the_corner_without_data_stays_without_data(computed):
    corner = computed.isel(y=slice(0, 24), x=slice(0, 30))
    assert corner.sel(bands="LAI").isnull().all()
    flags = corner.sel(bands="LAI_FLAGS").values.astype(int)
    assert (flags & NO_DATA_NEAR).all()


def test_the_interval_holds_the_estimate(computed):
    lower, lai, upper = (values_of(computed, key) for key in ("lai_lower", "lai", "lai_upper"))
    seen = np.isfinite(lai)
    assert (lower[seen] <= lai[seen]).all()
    assert (lai[seen] <= upper[seen]).all()


def test_the_summary_lists_lai_agreement_files_and_addresses(demo_run, item, computed):
    found = re.search(r"r ([\d.]+), mean \|difference\| ([\d.]+)", demo_run.printed)
    assert found is not None, demo_run.printed
    assert float(found[1]) >= 0.99
    median = re.search(r"LAI +median ([\d.]+)", demo_run.printed)
    assert median is not None
    assert float(median[1]) == pytest.approx(np.nanmedian(values_of(computed, "lai")), abs=0.006)
    assert str(demo_run.item_folder / "lai.tif") in demo_run.printed
    assert f"/collections/lai/items/{item.id}" in demo_run.printed
    assert "created: http" in demo_run.printed


def test_the_graph_beside_the_item_names_what_was_run(demo_run, item):
    (link,) = item.get_links("processing-expression")
    graph = (demo_run.item_folder / Path(link.target).name).read_text()
    assert "apply_neighborhood" in graph
    assert set(OUTPUT_BANDS) <= set(re.findall(r"LAI(?:_[A-Z]+)?", graph))


@pytest.mark.slow
def test_the_same_scene_again_is_unchanged(scene, tmp_path):
    command = [*DEMO, f"--scene={scene}", f"--out={tmp_path}", "--window=96"]
    for outcome in ("created", "unchanged"):
        run = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        assert f"{outcome}: http" in run.stdout
        assert "make demo SERVE=1" in run.stdout


@pytest.mark.parametrize(
    "field", ["laiq:valid_fraction", "laiq:lai_median"], ids=["share", "median"]
)
def test_pystac_client_finds_the_item_by_place_time_and_field(demo_run, item, field):
    client = pystac_client.Client.open(demo_run.url)
    value = item.properties[field]

    def search(filter_value: float, **changed: object) -> list[str]:
        asked = {
            "bbox": item.bbox,
            "datetime": "2020-06-01/2020-06-30",
            "filter": {"op": ">=", "args": [{"property": field}, filter_value]},
            "filter_lang": "cql2-json",
            **changed,
        }
        return [found.id for found in client.search(collections=["lai"], **asked).items()]

    assert search(value - 0.001) == [item.id]
    assert search(value + 0.001) == []
    assert search(value - 0.001, bbox=[100, 10, 101, 11]) == []
    assert search(value - 0.001, datetime="2021-01-01/..") == []


def test_the_published_rasters_are_served_byte_for_byte(demo_run, item):
    published = requests.get(f"{demo_run.url}/collections/lai/items/{item.id}", timeout=10).json()
    answer = requests.get(published["assets"]["lai"]["href"], timeout=10)
    assert answer.content == (demo_run.item_folder / "lai.tif").read_bytes()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer guessed"}, 401)],
    ids=["no token", "wrong token"],
)
def test_publishing_without_the_right_token_stores_nothing(demo_run, headers, status):
    body = {"directory": str(demo_run.item_folder), "collection": "stolen"}
    stored = {path for path in (demo_run.out / "service").rglob("*") if path.is_dir()}
    answer = requests.post(f"{demo_run.url}/publish", json=body, headers=headers, timeout=10)

    assert answer.status_code == status
    assert "token" in answer.json()["description"].lower()
    assert requests.get(f"{demo_run.url}/collections/stolen", timeout=10).status_code == 404
    assert {path for path in (demo_run.out / "service").rglob("*") if path.is_dir()} == stored
