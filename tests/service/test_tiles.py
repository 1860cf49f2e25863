"""titiler shows published rasters and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from service.fake_items import footprint

from lai_service import Settings

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def href(writer: TestClient, make_result: Callable[..., Path]) -> str:
    answer = writer.post("/publish", json={"directory": str(make_result())})
    return answer.json()["assets"]["lai"]["href"]


def test_preview_point_and_statistics_are_in_physical_units(client: TestClient, href: str) -> None:
    west, south, east, north = footprint()[0]
    lon, lat = (west + east) / 2, (south + north) / 2
    point = client.get(f"/cog/point/{lon},{lat}", params={"url": href, "unscale": True}).json()
    assert 1.0 < point["values"][0] < 4.2
    statistics = client.get("/cog/statistics", params={"url": href, "unscale": True}).json()
    (band,) = statistics.values()
    assert (band["min"], band["max"]) == (pytest.approx(1.0), pytest.approx(4.15))


def test_preview_and_tiles_are_pictures(client: TestClient, href: str) -> None:
    look = {"url": href, "rescale": "0,6000", "colormap_name": "ylgn"}
    preview = client.get("/cog/preview.png", params=look)
    assert (preview.status_code, preview.content[:4]) == (200, b"\x89PNG")
    tilejson = client.get("/cog/WebMercatorQuad/tilejson.json", params=look).json()
    z = 14
    west, south, east, north = tilejson["bounds"]
    x, y = _tile((west + east) / 2, (south + north) / 2, z)
    tile = client.get(f"/cog/tiles/WebMercatorQuad/{z}/{x}/{y}.png", params=look)
    assert (tile.status_code, tile.content[:4]) == (200, b"\x89PNG")
    assert client.get(f"/cog/tiles/WebMercatorQuad/{z}/0/0.png", params=look).status_code == 404


def test_algorithms_of_titiler_are_not_on_offer(client: TestClient, href: str) -> None:
    asked = {"url": href, "algorithm": "toGrayscale", "algorithm_params": "null"}
    assert client.get("/cog/preview.png", params={**asked, "rescale": "0,6000"}).status_code == 400
    assert "algorithm_params" not in client.get("/api").text


def test_values_that_titiler_cannot_use_are_refused(
    client: TestClient, href: str, subtests: pytest.Subtests
) -> None:
    for values in [
        *({"bidx": "-1"}, {"bidx": "9" * 20}, {"nodata": "NaN"}, {"nodata": "inf"}),
        *({"p": "9" * 20}, {"histogram_bins": "0"}, {"c": "x", "categorical": "true"}),
    ]:
        with subtests.test(values=values):
            answer = client.get("/cog/statistics", params={"url": href, **values})
            assert answer.status_code == 400
            assert answer.json()["description"]


def test_parameters_that_a_route_lacks_are_refused(
    client: TestClient, href: str, subtests: pytest.Subtests
) -> None:
    for path in [
        "/cog/preview.png?url={}&colormap=lai&colour_map=lai",
        "/cog/info?url={}&band=1",
        "/cog/preview.jp2?url={}&max_size=1024",
        "/map/dates?collection=lai&year=2024",
        "/map/colours?x=1",
    ]:
        with subtests.test(path=path):
            assert client.get(path.format(href)).status_code == 400


def test_preview_is_there_as_jpeg_2000_too(client: TestClient, href: str) -> None:
    answer = client.get("/cog/preview.jp2", params={"url": href})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jp2")


def test_a_box_without_width_is_refused(client: TestClient, href: str) -> None:
    assert client.get("/cog/bbox/1,1,1,1.png", params={"url": href}).status_code == 400


def _tile(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    import morecantile

    tile = morecantile.tms.get("WebMercatorQuad").tile(lon, lat, zoom)
    return tile.x, tile.y


def test_path_below_the_data_root_names_a_raster_too(client: TestClient, href: str) -> None:
    path = href.split("/data/")[1]
    assert client.get("/cog/info", params={"url": path}).status_code == 200


def test_anything_else_is_refused_before_gdal_sees_it(
    client: TestClient, href: str, settings: Settings, subtests: pytest.Subtests
) -> None:
    for url in [
        "/etc/passwd",
        "../secret.tif",
        "lai/../../secret.tif",
        "%2e%2e/secret.tif",
        "http://169.254.169.254/latest.tif",
        "https://example.org/x.tif",
        "/vsicurl/http://127.0.0.1/x.tif",
        "vsicurl/../../x",
        "file:///etc/passwd",
        "s3://bucket/x.tif",
        "x.vrt",
        "<VRTDataset></VRTDataset>",
        ".catalogue/catalogue.sqlite",
        "http://testserver/data/../../etc/passwd",
        "http://testserver/data/%2e%2e/%2e%2e/etc/passwd",
        "http://testserver/data//etc/passwd",
        "http://testserver.evil.org/data/x.tif",
        "",
        "lai",
        "nothing.tif",
        "x" * 300 + ".tif",
        "GTIFF_DIR:1:/etc/passwd",
        "NETCDF:/etc/passwd:x",
    ]:
        with subtests.test(url=url):
            for route in ("info", "statistics", "preview.png", "WebMercatorQuad/tilejson.json"):
                answer = client.get(f"/cog/{route}", params={"url": url})
                assert answer.status_code in (400, 403, 404), (route, answer.text)
                assert str(settings.data) not in answer.text


def test_vrt_that_calls_itself_tif_is_not_opened(
    client: TestClient, href: str, settings: Settings
) -> None:
    trap = settings.data / "lai" / "trap.tif"
    trap.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    answer = client.get("/cog/info", params={"url": "lai/trap.tif"})
    assert answer.status_code == 400


def test_raster_that_is_damaged_is_reported_without_its_path(
    client: TestClient, href: str, settings: Settings
) -> None:
    (raster,) = settings.data.glob("lai/*/*/lai.tif")
    for content in (b"II*\x00garbage", raster.read_bytes()[:600]):
        raster.write_bytes(content)
        for route in ("preview.png", "statistics"):
            answer = client.get(f"/cog/{route}", params={"url": href})
            assert (answer.status_code, answer.json()["code"]) == (500, "BrokenFile")
            assert "lai-service repair" in answer.json()["description"]
            assert str(settings.data) not in answer.text
