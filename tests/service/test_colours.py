"""Tiles in the colours of the thumbnails, flags by their gravest bit, and what the browser gets."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from rasterio.io import MemoryFile
from service.fake_items import KEYS

from lai_service import Settings, create_app
from lai_service.web import web_file
from lai_service.web.colours import STYLES, colour_maps
from lai_udf.picture import colour_lai

pytestmark = [
    # rasterio 1.4 multiplies transforms with `*`, which affine 3 announces to deprecate.
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
    # a PNG has no place on the earth
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
NODE = shutil.which("node")


def test_every_output_has_a_style_with_a_legend() -> None:
    assert set(STYLES) == set(KEYS)
    assert all(style.colour_map in colour_maps().list() for style in STYLES.values())
    assert "6 m² m⁻²" in STYLES["lai"].legend


@pytest.mark.parametrize(
    ("flags", "same_as"),
    [(64 | 32 | 1, 64), (32 | 8, 32), (16 | 1, 8), (4 | 1, 2), (1, 1)],
    ids=["no data", "cloud", "out of range", "clipped", "out of domain"],
)
def test_gravest_flag_gives_the_colour(flags: int, same_as: int) -> None:
    colours = colour_maps().get("lai_flags")
    assert colours[flags] == colours[same_as]
    assert len({colours[number] for number in (64, 32, 8, 2, 1, 0)}) == 6
    assert colours[0][3] == 0  # no flag, nothing drawn


def test_preview_has_the_colours_of_the_thumbnail(
    writer: TestClient, make_result: Callable[..., Path]
) -> None:
    item = writer.post("/publish", json={"directory": str(make_result())}).json()
    look = {"url": item["assets"]["lai"]["href"], "rescale": "0,6000", "colormap_name": "lai"}
    preview = writer.get("/cog/preview.png", params=look).content
    with MemoryFile(preview) as file, file.open() as picture:
        drawn = picture.read([1, 2, 3]).astype(int)
    lai = np.broadcast_to(1.0 + np.arange(64) * 0.05, (64, 64))
    expected = colour_lai(lai)[:3].astype(int)
    assert np.abs(drawn - expected)[:, 8:, 8:].max() <= 4  # 256 steps, rounded either way


def test_config_of_the_browser_names_styles_and_this_address(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("")
    with TestClient(create_app(settings.model_copy(update={"browser": tmp_path}))) as client:
        text = client.get("/browser/config.js", headers={"Host": "lai.example.org"}).text
    assert 'const base = "http://lai.example.org/";' in text
    found = re.search(r"^const styles = (.*);$", text, re.M)
    assert found is not None
    styles = json.loads(found[1])
    assert styles["lai"]["query"] == "unscale=true&rescale=0,6&colormap_name=lai&"
    assert styles["lai_flags"]["query"] == "colormap_name=lai_flags&"


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_fields_of_the_browser_escape_values_of_items(tmp_path: Path) -> None:
    registry = "const shown = {}; const Registry = { addExtension() {}, "
    registry += "getSpecification() { return {}; }, "
    registry += "addMetadataField(name, spec) { shown[name] = spec; } };"
    script = re.sub(r"^import .*$", registry, web_file("fields.config.js"), flags=re.M)
    script += """
    const graph = { a: { process_id: '<img src=x>', arguments: { udf: '<script>' } } };
    const show = shown['processing:expression'].formatter;
    const part = shown['laiq:valid_fraction'].formatter;
    console.log(JSON.stringify({
      graph: show({ format: 'openeo', expression: graph }),
      other: show({ format: 'rio-calc', expression: 'a < b' }),
      none: show(null),
      shares: [part(0.059727), part(0), part(1), part('<b>')],
    }));
    """
    (tmp_path / "fields.mjs").write_text(script)
    done = subprocess.run(
        [NODE or "", str(tmp_path / "fields.mjs")], capture_output=True, text=True, check=True
    )
    drawn = json.loads(done.stdout)
    assert "<img" not in drawn["graph"]
    assert "<script" not in drawn["graph"]
    assert "&#60;img src=x&#62;" in drawn["graph"]
    assert "a &#60; b" in drawn["other"]
    assert drawn["shares"][:3] == ["5.97 %", "0 %", "100 %"]
    assert "<b>" not in drawn["shares"][3]
