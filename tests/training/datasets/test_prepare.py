"""`lai-train prepare` over small archives: what the pool and its manifest hold, and going on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_archive import find_image, make_land_dn, product_name, remove_angles, write_land
from fake_products import write_raster
from typer.testing import CliRunner

from lai_training.cli import app
from lai_training.config_files import read_yaml
from lai_training.datasets import patches as prepare_patches
from lai_training.datasets import prepare as prepare_module
from lai_training.datasets.config import PrepareConfig, StacSearch
from lai_training.datasets.pool import open_prepared
from lai_training.datasets.prepare import prepare
from lai_udf.predict import BANDS, NOMINAL_COSINES

REPOSITORY = Path(__file__).parents[3]
SMALL = {"patch_px": 32, "mask_buffer_px": 2, "least_valid_share": 0.5}


def _config(*sources: Path | str | StacSearch, **changes: object) -> PrepareConfig:
    named = [each if isinstance(each, StacSearch) else str(each) for each in sources]
    return PrepareConfig.model_validate({**SMALL, "sources": named, **changes})


@pytest.fixture
def archive(tmp_path):
    """Three dates of two tiles: one half under cloud, one without angles, one before offsets."""
    folder = tmp_path / "archive"
    half_cloudy = np.full((64, 64), 4)
    half_cloudy[:32] = 9
    write_land(folder, tile="31TCJ", date="20220506", scene_class=half_cloudy)
    remove_angles(write_land(folder, tile="31TCJ", date="20220526"))
    write_land(folder / "before", tile="30TYT", date="20181220", baseline="02.12", offsets=False)
    return folder


def _by_date(manifest):
    return {product.date: product for product in manifest.products}


def _rows(manifest, date):
    """Return which training patches are those of a date."""
    counts = {product.date: product.patches.get("train", 0) for product in manifest.products}
    start = sum(counts[before] for before in list(counts)[: list(counts).index(date)])
    return slice(start, start + counts[date])


def _arrays(out, split="train"):
    pool = open_prepared(out, split)
    return {name: np.array(getattr(pool, name)) for name in ("reflectance", "lai", "cosines")}


def test_the_manifest_lists_every_product(archive, tmp_path):
    manifest = prepare(_config(archive), tmp_path / "pool")

    products = _by_date(manifest)
    assert sorted(products) == ["2018-12-20", "2022-05-06", "2022-05-26"]
    cloudy = products["2022-05-06"]
    assert (cloudy.tile, cloudy.platform, cloudy.processing_baseline) == (
        "31TCJ", "sentinel-2a", "04.00",
    )  # fmt: skip
    assert cloudy.product_id == product_name("31TCJ", "20220506")
    assert (cloudy.candidates, cloudy.dropped) == (4, 2)
    assert cloudy.masked_share == pytest.approx(34 / 64, abs=1e-4)
    assert set(products["2022-05-26"].angles.values()) == {"nominal"}
    assert set(cloudy.angles.values()) == {"grid"}
    assert manifest.counts["patches"] == 10
    assert manifest.counts["patches_dropped"] == 2
    assert len(json.loads((tmp_path / "pool/manifest.json").read_text())["products"]) == 3


def test_patches_are_reflectance_with_the_offset_of_the_metadata(tmp_path):
    dn = make_land_dn(seed=3)
    write_land(tmp_path / "new", date="20221005", dn=dn)
    before = {band: layer - 1000 for band, layer in dn.items()}
    write_land(tmp_path / "old", date="20181005", baseline="02.12", offsets=False, dn=before)
    prepare(_config(tmp_path / "new", split={"validation_share": 0}), tmp_path / "a")
    prepare(_config(tmp_path / "old", split={"validation_share": 0}), tmp_path / "b")

    new, old = _arrays(tmp_path / "a"), _arrays(tmp_path / "b")

    np.testing.assert_array_equal(new["reflectance"], old["reflectance"])
    b04 = new["reflectance"][0, BANDS.index("B04")]
    np.testing.assert_allclose(b04, dn["B04"][:32, :32] * 1e-4 - 0.1, rtol=1e-3)
    b08 = new["reflectance"][0, BANDS.index("B08")]  # the mean of 2 x 2: half of it is 2 DN more
    np.testing.assert_allclose(b08, (dn["B08"][:32, :32] + 1) * 1e-4 - 0.1, rtol=1e-3)


def test_angles_of_the_granule_reach_patch_and_label(archive, tmp_path):
    prepare(_config(archive, split={"validation_share": 0}), tmp_path / "pool")

    pool = open_prepared(tmp_path / "pool", "train")

    of = {date: _rows(pool.manifest, date) for date in _by_date(pool.manifest)}
    np.testing.assert_allclose(pool.cosines[of["2022-05-26"]], [NOMINAL_COSINES] * 4)
    view, sun, relative = np.degrees(np.arccos(pool.cosines[of["2018-12-20"]])).T
    np.testing.assert_allclose(view, 3, atol=0.1)  # bands at 2 and 4 degrees
    np.testing.assert_allclose(sun, [40.128, 40.256, 40.256, 40.384], atol=1e-3)  # 1 per 5 km
    np.testing.assert_allclose(relative, 172, atol=0.1)  # sun 172, view 350 and 10: mean 0


def test_no_cloudy_pixel_is_trained_on(archive, tmp_path):
    prepare(_config(archive, split={"validation_share": 0}), tmp_path / "pool")
    pool = open_prepared(tmp_path / "pool", "train")

    rows = _rows(pool.manifest, "2022-05-06")
    lai = pool.lai[rows]

    assert pool.corners[rows].tolist() == [[32, 0], [32, 32]]
    assert np.isnan(lai[:, :2]).all()  # rows 32 and 33 lie within 2 px of cloud
    assert np.isfinite(lai[:, 2:]).all()


def test_strips_do_not_show(archive, tmp_path, monkeypatch):
    whole = prepare(_config(archive, mask_buffer_px=7), tmp_path / "whole")
    monkeypatch.setattr(prepare_patches, "STRIP_ROWS", 32)

    strips = prepare(_config(archive, mask_buffer_px=7), tmp_path / "strips")

    assert strips == whole
    for split in ("train", "validation"):
        if whole.splits[split].patches:
            one, other = _arrays(tmp_path / "whole", split), _arrays(tmp_path / "strips", split)
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_constants_of_eq_1_are_the_extremes_over_training_images(archive, tmp_path):
    select = [{"tile": "30TYT", "split": "test"}, {"tile": "31TCJ", "split": "train"}]
    manifest = prepare(_config(archive, select=select), tmp_path / "pool")

    trained = [product for product in manifest.products if product.tile == "31TCJ"]

    assert manifest.splits["train"].products == 2
    assert manifest.splits["test"].products == 1
    lowest = np.min([product.percentile_2 for product in trained], axis=0)
    highest = np.max([product.percentile_98 for product in trained], axis=0)
    np.testing.assert_array_equal(manifest.normalisation.lowest, lowest)
    np.testing.assert_array_equal(manifest.normalisation.highest, highest)
    pool = open_prepared(tmp_path / "pool", "train")
    shown = np.asarray(pool.reflectance, "float32")
    inside = (shown >= lowest[:, None, None]) & (shown <= highest[:, None, None])
    assert inside[np.isfinite(shown)].mean() > 0.95


def test_the_pool_is_the_same_whoever_made_it(archive, tmp_path):
    manifests = [prepare(_config(archive), tmp_path / name) for name in ("a", "b")]

    assert manifests[0] == manifests[1]
    files = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in _files(tmp_path / name)}
        for name in ("a", "b")
    ]
    assert files[0] == files[1]


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_interrupted_preparation_goes_on(archive, tmp_path, monkeypatch):
    written = []
    write = prepare_module.write_part

    def stop_at_third(source, *rest):
        written.append(source.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(source, *rest)

    monkeypatch.setattr(prepare_module, "write_part", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(_config(archive), tmp_path / "pool")
    assert not (tmp_path / "pool/manifest.json").exists()

    resumed = prepare(_config(archive), tmp_path / "pool")

    assert len(written) == 4  # only the third was made anew
    assert resumed == prepare(_config(archive), tmp_path / "whole")
    assert {path.name for path in (tmp_path / "pool").iterdir()} == {
        "manifest.json", *(product.folder for product in resumed.products),
    }  # fmt: skip


def test_products_are_added_to_a_pool_without_making_the_others_anew(
    archive, tmp_path, monkeypatch
):
    prepare(_config(archive), tmp_path / "pool")
    write_land(archive, tile="31TCJ", date="20220605")
    written = []
    write = prepare_module.write_part
    monkeypatch.setattr(
        prepare_module, "write_part", lambda *a: (written.append(a[0].name), write(*a))[1]
    )

    grown = prepare(_config(archive), tmp_path / "pool")

    assert [Path(name).name for name in written] == [product_name("31TCJ", "20220605") + ".SAFE"]
    monkeypatch.undo()
    assert grown == prepare(_config(archive), tmp_path / "whole")
    for split in ("train", "validation"):
        if grown.splits[split].patches:
            one, other = _arrays(tmp_path / "pool", split), _arrays(tmp_path / "whole", split)
            np.testing.assert_array_equal(one["reflectance"], other["reflectance"])


def test_a_changed_file_is_another_product(archive, tmp_path):
    before = _by_date(prepare(_config(archive), tmp_path / "pool"))["2022-05-26"].checksum
    image = find_image(archive / (product_name("31TCJ", "20220526") + ".SAFE"), "B05")
    write_raster(image, make_land_dn(99)["B05"])

    after = _by_date(prepare(_config(archive), tmp_path / "pool"))["2022-05-26"].checksum

    assert before != after


def test_the_random_division_reports_how_much_it_leaks(archive, tmp_path):
    config = _config(archive, patch_px=16, split={"by": "patch"})

    manifest = prepare(config, tmp_path / "pool")

    assert manifest.leakage.touching > 0.9
    assert "section 4.3" in manifest.leakage.note
    assert manifest.splits["validation"].products == 3


def test_the_command_prints_what_it_did(archive, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL))

    result = CliRunner().invoke(
        app, ["prepare", str(config), str(tmp_path / "pool"), "--source", str(archive)]
    )

    assert result.exit_code == 0, result.output
    assert "3 products used, 0 skipped" in result.stdout
    assert "products that lack an angle (its nominal value stands in): 1" in result.stdout
    assert result.stdout.splitlines()[-1] == str(tmp_path / "pool/manifest.json")


def test_the_papers_config_holds_its_test_tiles_out(archive, tmp_path):
    config = read_yaml(REPOSITORY / "training/configs/paper_data.yaml", PrepareConfig)
    listed = {choice.tile: len(choice.dates) for choice in config.select}
    assert listed == {
        "30TYS": 14,
        "30TYQ": 5,
        "31TCJ": 5,
        "31TCK": 6,
        "30TYM": 8,
        "30TYT": 10,
    }  # tables 2 and 3, and a date of table 6
    changes = {"sources": (str(archive),), "patch_px": 32, "least_valid_share": 0.5, "others": True}

    manifest = prepare(config.model_copy(update=changes), tmp_path / "pool")

    assert (config.patch_px, config.split.by, config.split.validation_share) == (128, "patch", 0.25)
    assert manifest.splits["test"].products == 1
    assert _by_date(manifest)["2018-12-20"].patches == {"test": 4}


def test_real_chips_become_a_pool(shared_data, tmp_path):
    (tmp_path / "chips").mkdir()
    for path in sorted((shared_data / "chips").glob("*v2*.tif"))[:3]:
        shutil.copy(path, tmp_path / "chips")

    manifest = prepare(_config(tmp_path / "chips"), tmp_path / "pool")

    assert manifest.counts["products"] == 3
    assert all(product.tile in product.product_id for product in manifest.products)
    assert manifest.counts["patches"] == 3
