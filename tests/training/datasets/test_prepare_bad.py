"""Bad input: one bad product among many is a recorded skip, all bad is one clear error."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_archive import (
    find_image,
    make_land_dn,
    product_name,
    remove_angles,
    truncate,
    write_land,
)
from fake_products import CORNER, write_multiband, write_raster
from typer.testing import CliRunner

from lai_training.cli import app
from lai_training.config_files import read_yaml
from lai_training.datasets.config import PrepareConfig
from lai_training.datasets.pool import open_prepared
from lai_training.datasets.prepare import prepare
from lai_training.errors import ConfigError, PrepareError
from lai_udf.errors import OutputNotWritableError

SMALL = {"patch_px": 32, "mask_buffer_px": 2, "least_valid_share": 0.5}


def _config(*sources: Path, **changes: object) -> PrepareConfig:
    return PrepareConfig.model_validate(
        {**SMALL, "sources": [str(each) for each in sources], **changes}
    )


def _truncated_jp2(folder):
    truncate(find_image(write_land(folder), "B05"))


def _truncated_10m_jp2(folder):
    truncate(find_image(write_land(folder), "B08"), 0.98)


def _truncated_scene_classes(folder):
    truncate(find_image(write_land(folder), "SCL"), 0.7)


def _truncated_tiff(folder):
    name = product_name().replace("T29UNU", "T29UNV")
    truncate(write_multiband(folder / f"{name}.tif", make_land_dn()), 0.7)


def _undeclared_offset(folder):
    write_land(folder, offsets=False)


def _undeclared_scale(folder):
    write_multiband(folder / f"{product_name()}.tif", make_land_dn(), scales=None, offsets=None)


def _missing_band(folder):
    find_image(write_land(folder), "B11").unlink()


def _band_on_another_grid(folder):
    image = find_image(write_land(folder), "B11")
    write_raster(image, make_land_dn()["B11"], corner=(CORNER[0] + 20, CORNER[1]))


def _all_cloud(folder):
    write_land(folder, scene_class=np.full((64, 64), 9))


def _all_missing(folder):
    write_land(folder, dn={band: dn * 0 for band, dn in make_land_dn().items()})


def _smaller_than_a_patch(folder):
    small = {band: dn[:20, :20] for band, dn in make_land_dn().items()}
    write_multiband(folder / f"{product_name()}.tif", small)


def _not_an_item(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "item.json").write_text('{"type": "Feature"')


BAD = {
    _truncated_jp2: "B05: cannot read .*truncated",
    _truncated_10m_jp2: "B08: cannot read .*truncated",
    _truncated_scene_classes: "SCL: cannot read .*truncated",
    _truncated_tiff: "cannot read .*truncated",
    _undeclared_offset: "without BOA_ADD_OFFSET in the metadata",
    _undeclared_scale: "whole numbers without a scale",
    _missing_band: "lacks B11",
    _band_on_another_grid: "B11 .* lies on another grid",
    _all_cloud: "none of 4 patches has 50% of clear data: 0% .* no data, 100% .* cloud",
    _all_missing: "none of 4 patches has 50% of clear data: 100% .* no data",
    _smaller_than_a_patch: "20 x 20 px is smaller than a patch: set patch_px below 32",
    _not_an_item: "as a STAC Item or Collection",
}


@pytest.mark.parametrize(("make", "reason"), BAD.items(), ids=[make.__name__ for make in BAD])
def test_one_bad_product_is_a_recorded_skip_and_alone_an_error(make, reason, tmp_path, caplog):
    bad, out = tmp_path / "bad", tmp_path / "pool"
    make(bad)
    with pytest.raises(PrepareError, match=f"no product gives a patch .*{reason}"):
        prepare(_config(bad), out)
    assert not (out / "manifest.json").exists()
    write_land(tmp_path / "good", tile="31TCJ", date="20220506")

    with caplog.at_level(logging.WARNING, "lai_training"):
        manifest = prepare(_config(bad, tmp_path / "good"), out)

    (skip,) = manifest.skipped
    assert manifest.counts["products"] == 1
    assert skip.source.startswith(str(bad))
    assert re.search(reason, skip.reason)
    assert any(skip.reason in text for text in caplog.messages)
    assert not list(out.glob(".*"))


def test_a_missing_angle_file_costs_the_angles_and_is_logged(tmp_path, caplog):
    remove_angles(write_land(tmp_path / "archive"))

    manifest = prepare(_config(tmp_path / "archive"), tmp_path / "pool")

    assert set(manifest.products[0].angles.values()) == {"nominal"}
    assert "MTD_TL.xml is missing" in caplog.text


def test_the_same_product_twice_counts_once(tmp_path):
    write_land(tmp_path / "one")
    write_land(tmp_path / "two")

    manifest = prepare(_config(tmp_path / "one", tmp_path / "two"), tmp_path / "pool")

    assert manifest.counts["products"] == 1
    assert "the same product as" in manifest.skipped[0].reason


def test_copies_under_another_name_count_once(tmp_path):
    first = tmp_path / "a" / f"{product_name()}.tif"
    write_multiband(first, make_land_dn())
    shutil.copy(first, tmp_path / "a" / f"{product_name(tile='31TCJ')}.tif")

    manifest = prepare(_config(tmp_path / "a"), tmp_path / "pool")

    assert manifest.counts["products"] == 1
    assert "the same files as" in manifest.skipped[0].reason


def _write_label(folder, **changes):
    lai = np.full((1, 64, 64), 2.5, "float32")
    lai[0, :40, :40] = np.nan
    path = folder / f"{product_name()}.tif"
    return write_raster(path, lai, nodata=np.nan, descriptions=("LAI",), **changes)


def test_labels_from_elsewhere_take_the_place_of_sl2p(tmp_path):
    write_land(tmp_path / "archive")
    _write_label(tmp_path / "labels")

    config = _config(
        tmp_path / "archive", labels=str(tmp_path / "labels"), split={"validation_share": 0}
    )
    manifest = prepare(config, tmp_path / "pool")

    lai = np.array(open_prepared(tmp_path / "pool", "train").lai)
    assert set(np.unique(lai[np.isfinite(lai)])) == {2.5}
    assert np.isnan(lai).sum() == 40 * 40
    assert manifest.products[0].labels == "raster"


@pytest.mark.parametrize(
    "changes", [{"corner": (CORNER[0], CORNER[1] + 20)}, {"pixel": 10}, {"crs": "EPSG:32630"}]
)
def test_a_label_on_another_grid_is_refused(changes, tmp_path):
    write_land(tmp_path / "archive")
    _write_label(tmp_path / "labels", **changes)

    with pytest.raises(PrepareError):
        prepare(_config(tmp_path / "archive", labels=str(tmp_path / "labels")), tmp_path / "pool")


def test_a_missing_label_is_refused(tmp_path):
    write_land(tmp_path / "archive")

    with pytest.raises(PrepareError):
        prepare(_config(tmp_path / "archive", labels=str(tmp_path)), tmp_path / "pool")


def test_a_truncated_label_is_refused(tmp_path):
    write_land(tmp_path / "archive")
    truncate(_write_label(tmp_path / "labels"), 0.8)

    with pytest.raises(PrepareError):
        prepare(_config(tmp_path / "archive", labels=str(tmp_path / "labels")), tmp_path / "pool")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 128}, "unknown key patch"),
        ({"split": {"by": "patch", "share": 0.2}}, "unknown key split.share"),
        ({"select": [{"tile": "T31TCJ"}]}, "select.0.tile: .*got 'T31TCJ'"),
        ({"select": [{"tile": "31TCJ", "dates": ["6 May"]}]}, "select.0.dates.0"),
        ({"patch_px": 100}, "patch_px: .*multiple of 16"),
        ({"sources": [{"api": "https://a"}]}, "datetime is missing"),
    ],
)
def test_a_wrong_config_is_refused_with_the_key(changes, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))

    with pytest.raises(ConfigError, match=message):
        read_yaml(path, PrepareConfig)


@pytest.mark.parametrize(
    "config",
    [
        _config(),
        _config(Path("absent")),
        _config(Path(__file__).parent),
    ],
)
def test_sources_without_products_are_refused(config, tmp_path):
    with pytest.raises(PrepareError):
        prepare(config, tmp_path / "pool")
    assert not (tmp_path / "pool").exists()


def test_nothing_selected_is_an_error(tmp_path):
    write_land(tmp_path / "archive")

    with pytest.raises(PrepareError):
        prepare(_config(tmp_path / "archive", select=[{"tile": "31TCJ"}]), tmp_path / "pool")


def test_a_pool_of_other_settings_is_not_overwritten(tmp_path):
    write_land(tmp_path / "archive")
    before = prepare(_config(tmp_path / "archive"), tmp_path / "pool")

    with pytest.raises(PrepareError):
        prepare(_config(tmp_path / "archive", patch_px=16), tmp_path / "pool")

    split = next(name for name, record in before.splits.items() if record.patches)
    assert open_prepared(tmp_path / "pool", split).manifest == before


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    write_land(tmp_path / "archive")
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputNotWritableError):
        prepare(_config(tmp_path / "archive"), tmp_path / "file" / "pool")


def test_a_damaged_pool_is_not_opened(tmp_path):
    write_land(tmp_path / "archive")
    manifest = prepare(
        _config(tmp_path / "archive", split={"validation_share": 0}), tmp_path / "pool"
    )
    with pytest.raises(PrepareError):
        open_prepared(tmp_path / "pool", "test")
    truncate(tmp_path / "pool" / manifest.products[0].folder / "lai.npy")

    with pytest.raises(PrepareError):
        open_prepared(tmp_path / "pool", "train")
    (tmp_path / "pool/manifest.json").write_text("{}")
    with pytest.raises(PrepareError):
        open_prepared(tmp_path / "pool", "train")
    with pytest.raises(PrepareError):
        open_prepared(tmp_path, "train")


def test_the_command_fails_in_one_sentence(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "cloud": 3}))

    result = CliRunner().invoke(app, ["prepare", str(config), str(tmp_path / "pool")])

    assert result.exit_code == 1
    assert result.stderr.strip() == f"lai-train: config {config}: unknown key cloud"
