"""Programs that are not ours read what we describe: odc-stac, rioxarray, GDAL, stac-check."""

import json
from pathlib import Path

import numpy as np
import pytest
import rioxarray
from linters import ACCEPTED, local_stac_check

from lai_stac.item import write_item

# Not ours: rioxarray and odc-geo multiply affine transforms with `*`, which affine 3 frowns on,
# and odc-geo calls a function that shapely 2.2 has renamed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),
]

EXAMPLES = Path(__file__).parents[2] / "stac_extension" / "examples"


def test_rioxarray_reads_lai_with_scale_and_no_data(item, product, layers):
    path = product / item.assets["lai"].href
    with rioxarray.open_rasterio(path, mask_and_scale=True) as opened:
        lai = opened.sel(band=1).values
    assert np.array_equal(np.isnan(lai), np.isnan(layers["LAI"]))
    assert np.nanmax(np.abs(lai - layers["LAI"])) <= 0.0005 + 1e-6


def test_odc_stac_finds_the_bands_with_type_and_no_data(item, product, layers):
    odc_stac = pytest.importorskip("odc.stac")
    item.set_self_href(str(write_item(item, product)))
    loaded = odc_stac.load([item], bands=["lai", "lai_upper", "lai_flags"])
    lai = loaded["lai"].isel(time=0)
    assert lai.dtype == "int16"
    assert lai.attrs["nodata"] == -32768
    assert loaded.odc.crs.epsg == 32632
    scale = item.assets["lai"].extra_fields["bands"][0]["raster:scale"]
    values = np.where(lai == -32768, np.nan, lai * scale)
    assert np.array_equal(np.isnan(values), np.isnan(layers["LAI"]))
    assert np.nanmax(np.abs(values - layers["LAI"])) <= 0.0005 + 1e-6
    assert loaded["lai_flags"].dtype == "uint8"


@pytest.fixture
def stac_check(monkeypatch: pytest.MonkeyPatch):
    return local_stac_check(monkeypatch)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_stac_check_has_no_complaint(item, product, stac_check):
    write_item(item, product)
    written = product / f"{item.id}.json"
    linter = stac_check(str(written), assets_open_urls=False)
    assert linter.valid_stac, linter.error_msg
    assert set(linter.create_best_practices_dict()) <= ACCEPTED


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["item", "collection"])
def test_stac_check_has_no_complaint_about_the_examples(name, stac_check):
    document = json.loads((EXAMPLES / f"{name}.json").read_text())
    linter = stac_check(document, assets_open_urls=False)
    assert linter.valid_stac, linter.error_msg
    assert set(linter.create_best_practices_dict()) <= ACCEPTED
