"""What may not be published is refused with one sentence, and nothing of it is stored."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from service.fake_items import SIZE, edit_item, publish, stored_files

from lai_service import Settings

# rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

Make = Callable[..., Path]
ITEM = "lai_s2_32tpu_20240621"


def _href(value: str) -> Callable[[dict[str, Any]], object]:
    return lambda item: item["assets"]["lai"].update(href=value)


BAD_ITEMS: dict[str, tuple[Callable[[dict[str, Any]], object], int, str]] = {
    "absolute": (_href("/etc/passwd"), 403, "fetches nothing"),
    "parent": (_href("../../secret.tif"), 403, "fetches nothing"),
    "encoded parent": (_href("%2e%2e/secret.tif"), 403, "fetches nothing"),
    "http": (_href("http://169.254.169.254/x.tif"), 403, "fetches nothing"),
    "vsicurl": (_href("/vsicurl/http://127.0.0.1/x.tif"), 403, "fetches nothing"),
    "vrt": (_href("./lai.vrt"), 403, "fetches nothing"),
    "file": (_href("file:///etc/passwd"), 403, "fetches nothing"),
    "missing file": (_href("./nothing.tif"), 404, "does not exist"),
    "endless name": (_href("x" * 300 + ".tif"), 404, "does not exist"),
    "no assets": (lambda item: item.update(assets={}), 422, "no assets"),
    "no geometry": (lambda item: item.pop("geometry"), 422, "geometry"),
    "id with slash": (lambda item: item.update(id="../../x"), 422, "id"),
    "bad time": (lambda item: item["properties"].update(datetime="yesterday"), 422, "datetime"),
    "other crs": (
        lambda item: item["properties"].update({"proj:code": "EPSG:32633"}),
        422,
        "EPSG:32633",
    ),
    "inverted bbox": (
        lambda item: item.update(bbox=[item["bbox"][n] for n in (0, 3, 2, 1)]),
        422,
        "south above its north",
    ),
    "unknown collection id": (lambda item: item.update(collection="../lai"), 422, "dot"),
    "hidden file": (_href(".hidden.tif"), 403, "fetches nothing"),
    "elsewhere": (lambda item: item.update(bbox=[10, 10, 11, 11]), 422, "bbox"),
    "bow tie": (
        lambda item: item["geometry"].update(
            coordinates=[[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]
        ),
        422,
        "geometry",
    ),
    "wrong checksum": (
        lambda item: item["assets"]["lai"].update({"file:checksum": "1220" + "0" * 64}),
        422,
        "checksum",
    ),
    "our schema": (
        lambda item: (
            item.update(
                stac_extensions=["https://sentinel2-lai.github.io/lai-quality/v0.1.0/schema.json"]
            ),
            item["properties"].update({"laiq:valid_fraction": 7}),
        ),
        422,
        "laiq:valid_fraction",
    ),
    "unknown extension": (
        lambda item: item.update(stac_extensions=["http://127.0.0.1:9/schema.json"]),
        422,
        "nothing is fetched",
    ),
    "model": (
        lambda item: (
            item.pop("collection", None),
            item["properties"].update({"mlm:name": "unet"}),
        ),
        422,
        "mlm:name",
    ),
    "script link": (
        lambda item: item["links"].append({"rel": "about", "href": "javascript:alert(1)"}),
        422,
        "javascript",
    ),
}


def test_bad_item_is_refused_with_one_sentence_and_nothing_is_stored(
    writer: TestClient, make_result: Make, settings: Settings, subtests: pytest.Subtests
) -> None:
    for case in BAD_ITEMS:
        with subtests.test(case=case):
            change, status, words = BAD_ITEMS[case]
            folder = make_result()
            (folder / "lai.vrt").write_text("<VRTDataset/>")
            edit_item(folder, change)

            answer = publish(writer, folder)

            assert answer.status_code == status, answer.text
            assert words in answer.json()["description"]
            assert writer.get("/search").json()["features"] == []
            assert stored_files(settings) == []


def test_raster_that_is_no_cog_is_refused(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    folder = make_result()
    values = np.ones((SIZE * 20, SIZE * 20), "int16")
    profile = {"driver": "GTiff", "width": SIZE * 20, "height": SIZE * 20, "count": 1}
    with rasterio.open(
        folder / "lai.tif",
        "w",
        dtype="int16",
        crs="EPSG:32632",
        transform=rasterio.transform.from_origin(600_000, 5_300_000, 1, 1),
        **profile,
    ) as raster:
        raster.write(values, 1)
    answer = publish(writer, folder)
    assert answer.status_code == 422
    assert stored_files(settings) == []


def test_layers_of_different_grids_are_refused(
    writer: TestClient, make_result: Make, settings: Settings
) -> None:
    folder = make_result()
    with rasterio.open(folder / "lai_sd.tif") as whole, MemoryFile() as memory:
        part = {**whole.profile, "driver": "GTiff", "width": SIZE - 8, "tiled": False}
        with memory.open(**part) as raster:
            raster.write(whole.read(1)[:, : SIZE - 8], 1)
        with memory.open() as raster:
            rasterio.shutil.copy(raster, folder / "part.tif", driver="COG")
    (folder / "part.tif").rename(folder / "lai_sd.tif")
    answer = publish(writer, folder)
    assert answer.status_code == 422
    assert stored_files(settings) == []


@pytest.mark.parametrize("content", [b"<VRTDataset/>", b"", b"II*\x00garbage"])
def test_file_that_is_no_raster_is_refused(
    writer: TestClient, make_result: Make, content: bytes
) -> None:
    folder = make_result()
    (folder / "lai.tif").write_bytes(content)
    answer = publish(writer, folder)
    assert answer.status_code == 422


def test_folder_outside_the_allowed_roots_is_refused(
    writer: TestClient, make_result: Make, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(make_result(), outside)
    (tmp_path / "results" / "link").symlink_to(outside)
    for path in (outside, tmp_path / "results" / ".." / "outside", tmp_path / "results" / "link"):
        answer = writer.post("/publish", json={"directory": str(path)})
        assert answer.status_code == 403, path


def test_folder_whose_name_cannot_be_is_not_found(writer: TestClient, tmp_path: Path) -> None:
    for name in ("x" * 300, "a\x00b"):
        body = {"directory": str(tmp_path / "results" / name)}
        assert writer.post("/publish", json=body).status_code == 404, name


def test_link_to_a_file_outside_is_not_followed(
    writer: TestClient, make_result: Make, tmp_path: Path
) -> None:
    folder = make_result()
    (tmp_path / "secret.tif").write_bytes((folder / "lai.tif").read_bytes())
    (folder / "lai.tif").unlink()
    (folder / "lai.tif").symlink_to(tmp_path / "secret.tif")
    assert publish(writer, folder).status_code == 403


def test_item_json_that_is_not_utf8_is_refused(writer: TestClient, make_result: Make) -> None:
    folder = make_result()
    (folder / f"{ITEM}.json").write_bytes(b'{"id": "\xff\xfe"}')
    answer = publish(writer, folder)
    assert answer.status_code == 422


def test_files_of_a_replaced_version_are_not_put_back(
    writer: TestClient, make_result: Make
) -> None:
    publish(writer, make_result())
    old = writer.get(f"/collections/lai/items/{ITEM}").json()
    publish(writer, make_result(offset=1.0))
    answer = writer.put(f"/collections/lai/items/{ITEM}", json=old)
    assert answer.status_code == 422
