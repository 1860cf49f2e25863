"""Mosaic tiles, TileJSON, WMTS, styles and the dates of the map page."""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import morecantile
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from fastapi.testclient import TestClient
from PIL import Image
from rasterio.io import MemoryFile
from service.fake_items import collection, footprint, publish, stac_item

from lai_service.errors import BadRequestError
from lai_service.web.mosaic import interval_of

WEST, SOUTH, EAST, NORTH = footprint()[0]
MIDDLE = (WEST + EAST) / 2, (SOUTH + NORTH) / 2
QUERY = "collection=lai&date=2024-06-21"


@pytest.fixture
def published(writer: TestClient, make_result: Callable[..., Path]) -> TestClient:
    answer = publish(writer, make_result())
    assert answer.status_code in (200, 201), answer.text
    return writer


def tile_path(zoom: int = 14, longitude: float = MIDDLE[0]) -> str:
    tile = morecantile.tms.get("WebMercatorQuad").tile(longitude, MIDDLE[1], zoom)
    return f"/mosaic/tiles/{zoom}/{tile.x}/{tile.y}.png"


def day_of(client: TestClient) -> str:
    (date,) = client.get("/map/dates?collection=lai").json()["dates"]
    return str(date["date"])


def picture(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


@pytest.mark.parametrize("digits", [10, 7], ids=["day", "month"])
def test_a_tile_of_a_day_or_month_shows_the_item(published: TestClient, digits: int) -> None:
    date = day_of(published)[:digits]
    pixels = picture(published.get(f"{tile_path()}?collection=lai&date={date}"))
    opaque = pixels[pixels[..., 3] == 255]
    assert pixels.shape == (256, 256, 4)
    assert len(opaque) > 5000
    assert opaque[:, 1].mean() > opaque[:, 2].mean()  # greens


def test_lai_of_another_scale_has_the_same_colours(
    writer: TestClient, make_result: Callable[..., Path]
) -> None:
    folder = make_result()
    publish(writer, folder)
    place = f"{tile_path()}?collection=lai&date={day_of(writer)}"
    drawn = picture(writer.get(place))
    path = folder / "lai.tif"
    with rasterio.open(path) as raster:
        profile, values = raster.profile, raster.read(1, masked=True) * 0.001
    with MemoryFile() as memory:
        with memory.open(**profile | {"dtype": "float32", "nodata": np.nan}) as raster:
            raster.write(values.astype("float32").filled(np.nan), 1)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, path, driver="COG")
    answer = publish(writer, folder)
    assert answer.headers["LAI-Publish-Outcome"] == "updated"
    np.testing.assert_array_equal(picture(writer.get(place)), drawn)
    links = writer.get(answer.headers["Location"]).json()["links"]
    (tiles,) = (link["href"] for link in links if link["rel"] == "xyz")
    zoom, column, row = tile_path().removesuffix(".png").split("/")[-3:]
    tile = tiles.replace("{z}", zoom).replace("{x}", column).replace("{y}", row)
    np.testing.assert_array_equal(picture(writer.get(tile)), drawn)


def test_a_tile_without_items_is_empty(published: TestClient) -> None:
    date = day_of(published)
    assert published.get(f"{tile_path()}?collection=lai&date=1999-01").status_code == 204
    far = tile_path(longitude=MIDDLE[0] + 5)
    assert published.get(f"{far}?collection=lai&date={date}").status_code == 204


def test_a_wrong_query_is_refused(published: TestClient, subtests: pytest.Subtests) -> None:
    for query in [
        "collection=lai&date=June",
        "collection=lai&date=2024-13",
        "collection=lai&date=2024-02-30",
        "collection=lai&date=2024-06-21&asset=secret",
    ]:
        with subtests.test(query=query):
            assert published.get(f"{tile_path()}?{query}").status_code == 400


@pytest.mark.parametrize("place", ["3/1/1", "14/99999/3", "25/1/1"])
def test_a_tile_that_is_none_is_refused(published: TestClient, place: str) -> None:
    assert published.get(f"/mosaic/tiles/{place}.png?{QUERY}").status_code == 400


def test_an_interval_covers_the_whole_day_or_month() -> None:
    assert interval_of("2024-02") == "2024-02-01T00:00:00Z/2024-02-29T23:59:59.999999Z"
    assert interval_of("2024-06-21") == "2024-06-21T00:00:00Z/2024-06-21T23:59:59.999999Z"
    with pytest.raises(BadRequestError):
        interval_of("0000-00")


def test_tilejson_and_wmts_name_the_same_tiles(published: TestClient) -> None:
    tilejson = published.get(f"/mosaic/tilejson.json?{QUERY}").json()
    answer = published.get(f"/mosaic/WMTSCapabilities.xml?{QUERY}")
    root = ElementTree.fromstring(answer.text)
    (resource,) = root.iter("{http://www.opengis.net/wmts/1.0}ResourceURL")
    template = resource.attrib["template"]
    for theirs, own in (("TileMatrix", "z"), ("TileCol", "x"), ("TileRow", "y")):
        template = template.replace(f"{{{theirs}}}", f"{{{own}}}")
    assert [template] == tilejson["tiles"]


@pytest.mark.parametrize(
    "appended",
    [
        "service=WMTS&request=GetCapabilities&version=1.0.0",  # OWSLib
        "SERVICE=WMTS&REQUEST=GetCapabilities&AcceptVersions=1.0.0",
    ],
)
def test_wmts_takes_what_its_clients_append(published: TestClient, appended: str) -> None:
    address = f"/mosaic/WMTSCapabilities.xml?{QUERY}"
    assert published.get(f"{address}&{appended}").text == published.get(address).text


@pytest.mark.parametrize("appended", ["service=WMS", "request=GetTile", "styles=lai"])
def test_wmts_refuses_what_is_another_request(published: TestClient, appended: str) -> None:
    assert published.get(f"/mosaic/WMTSCapabilities.xml?{QUERY}&{appended}").status_code == 400


def test_tilejson_and_wmts_go_round_the_world_across_the_antimeridian(writer: TestClient) -> None:
    described = collection()
    described["extent"]["spatial"]["bbox"] = [[179.0, 10.0, -5.0, -178.0, 20.0, 5.0]]
    assert writer.post("/collections", json=described).status_code == 201
    tilejson = writer.get(f"/mosaic/tilejson.json?{QUERY}").json()
    assert tilejson["bounds"] == [-180, 10, 180, 20]
    root = ElementTree.fromstring(writer.get(f"/mosaic/WMTSCapabilities.xml?{QUERY}").text)
    corners = [root.find(f".//{{*}}{name}Corner") for name in ("Lower", "Upper")]
    assert [corner.text for corner in corners] == ["-180 10.0", "180 20.0"]


@pytest.mark.parametrize("asset", ["lai", "lai_sd", "lai_flags"])
def test_styles_for_qgis_are_xml_in_our_colours(client: TestClient, asset: str) -> None:
    answer = client.get(f"/styles/{asset}.qml")
    assert answer.status_code == 200
    assert ElementTree.fromstring(answer.text.split("\n", 1)[1]).tag == "qgis"


def test_the_legend_in_qgis_has_flags_in_words_and_lai_with_its_unit(client: TestClient) -> None:
    flags, lai = (client.get(f"/styles/{asset}.qml").text for asset in ("lai_flags", "lai"))
    entries = {
        entry.get("value"): entry.get("label")
        for entry in ElementTree.fromstring(flags.split("\n", 1)[1]).iter("paletteEntry")
    }
    assert len(entries) == 256
    assert entries["0"] == "0: no flag"
    assert entries["33"] == "33: cloud, shadow or snow near, reflectance out of domain"
    items = list(ElementTree.fromstring(lai.split("\n", 1)[1]).iter("item"))
    assert [items[n].get("label") for n in (0, -1)] == ["0 m² m⁻²", "6 m² m⁻²"]


def test_an_unknown_style_or_collection_is_not_found(client: TestClient) -> None:
    assert client.get("/styles/ndvi.qml").status_code == 404
    assert client.get("/map/dates?collection=none").status_code == 404


def test_no_outline_of_the_map_runs_across_the_whole_world(client: TestClient) -> None:
    for line in client.get("/map/vendor/countries.json").json()["coordinates"]:
        assert np.abs(np.diff(np.array(line)[:, 0])).max() < 180


def test_a_day_comes_with_the_box_of_its_items(published: TestClient) -> None:
    (day,) = published.get("/map/dates?collection=lai").json()["dates"]
    (item,) = published.get("/search").json()["features"]
    assert day["bbox"] == item["bbox"]


def test_a_day_without_a_place_comes_with_the_box_of_its_collection(filled: TestClient) -> None:
    item = {**stac_item("nowhere", "2023-01-01T00:00:00Z"), "geometry": None}
    del item["bbox"]
    if filled.post("/collections/lai/items", json=item).status_code != 201:
        pytest.skip("pgstac stores no item without a place")
    found = filled.get("/map/dates?collection=lai").json()
    assert found["dates"][0] == {"date": "2023-01-01", "items": 1, "bbox": found["bbox"]}


def test_the_page_and_its_parts_are_in_the_package(client: TestClient) -> None:
    page = client.get("/map/")
    assert page.status_code == 200
    for part in (
        "map.js",
        "chart.js",
        "places.js",
        "map.css",
        "vendor/maplibre-gl.mjs",
        "vendor/countries.json",
    ):
        assert client.get(f"/map/{part}").status_code == 200


def test_item_collection_and_landing_page_link_to_the_map(published: TestClient) -> None:
    (item,) = published.get("/search").json()["features"]
    for document in (item, published.get("/collections/lai").json(), published.get("/").json()):
        hrefs = [link["href"] for link in document["links"] if link["rel"] == "alternate"]
        assert any("/map/" in href for href in hrefs)


def test_an_item_sent_back_does_not_store_the_link(published: TestClient) -> None:
    (item,) = published.get("/search").json()["features"]
    path = f"/collections/lai/items/{item['id']}"
    assert published.put(path, json=item).status_code in (200, 204)
    links = published.get(path).json()["links"]
    assert sum("/map/" in link["href"] for link in links) == 1
