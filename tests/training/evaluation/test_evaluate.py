"""The evaluation: known networks give known tables, and the report holds what was measured."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from experiments.spectra.library import spectral_library
from lai_training.cli import app
from lai_training.errors import EvaluationError, ExportError
from lai_training.evaluation.evaluate import SCALES, evaluate
from lai_training.evaluation.networks import SL2P, Network, is_network, open_networks
from lai_training.evaluation.real_imagery import summarise
from lai_training.evaluation.scores import (
    CLEAN,
    NOISY,
    REAL,
    Scene,
    largest,
    read_real,
    run_case,
    simulate_held_out,
)
from lai_training.evaluation.tables import format_images, format_paper_images
from lai_training.evaluation.ten_metres import CUBIC, SNAP_10M, draw_ten_metres, score_native
from lai_training.release import rewrite_bundle
from lai_training.reporting import Chapter
from lai_training.restore.degradation import degrade
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.bundle import default_bundle_path, open_bundle
from lai_udf.predict import ANGLES, LaiModelError
from lai_udf.scenes.geotiff import write_scene_geotiff


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(3_000, np.random.default_rng(7))


@pytest.fixture(scope="module")
def land_scene(library: SpectralLibrary) -> Scene:
    return simulate_held_out(1, 112, library, seed=3)[0]


@pytest.fixture(scope="module")
def chapters(library: SpectralLibrary, scene: xr.DataArray) -> list[Chapter]:
    scored = np.zeros(scene.shape[1:], dtype=bool)
    scored[16:-16, 16:-16] = True
    real = [Scene("field", REAL, scene, scored)]
    with open_networks([default_bundle_path()]) as networks:
        return evaluate(networks, library, scale=SCALES["tiny"], real=real)


@pytest.fixture(scope="module")
def tables(chapters: list[Chapter]) -> dict[str, pd.DataFrame]:
    return {name: table for each in chapters for name, table in each.tables.items()}


@pytest.fixture(scope="module")
def shipped() -> Network:
    with open_networks([default_bundle_path()]) as (network,):
        return network


@pytest.fixture(scope="module")
def report(chapters: list[Chapter], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `lai-train evaluate --report` writes of the evaluation above."""
    folder = tmp_path_factory.mktemp("evaluate") / "report"
    command = ["evaluate", str(default_bundle_path()), "--scale", "tiny", "--report", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lai_training.evaluation.evaluate.evaluate", lambda *_, **__: chapters)
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return Path(result.stdout.strip())


def test_held_out_scenes_are_the_same_for_a_seed_and_others_for_another(library, land_scene):
    again = simulate_held_out(1, 112, library, seed=3)[0]
    other = simulate_held_out(1, 112, library, seed=4)[0]

    np.testing.assert_array_equal(again.image.values, land_scene.image.values)
    assert not np.array_equal(other.image.values, land_scene.image.values)
    assert set(ANGLES) <= set(land_scene.image["bands"].values)
    assert land_scene.scored.sum() > 500


def test_sl2p_is_the_reference_itself_until_there_is_noise(land_scene):
    clean, noisy = (run_case(land_scene, case, []) for case in (CLEAN, NOISY))

    np.testing.assert_array_equal(clean.estimates[SL2P], clean.reference)
    np.testing.assert_array_equal(noisy.reference, clean.reference)
    assert np.std(noisy.estimates[SL2P] - noisy.reference) > 0.02


def test_the_interval_of_the_mean_is_0_373_sigma(tables):
    spread = tables["spread"].query("sd > 0")  # on uniform land nothing is corrected
    ratio = spread["ci"] / spread["sd"]

    np.testing.assert_allclose(ratio, 2.045 / np.sqrt(30), rtol=1e-5)  # eq. 9, t two-sided
    assert spread["one_pass_correlation"].min() > 0.5


def test_the_shipped_network_stays_with_sl2p(tables, shipped):
    scores = tables["scores"].query("image == 'all'")
    rmse = scores.set_index(["case", "kind", "network"])["rmse"]

    for kind in ("simulated", "real"):
        name = shipped.name
        assert rmse["noisy", kind, name] < 0.1  # measured noise, which it hardly takes out
        assert rmse["clean", kind, name] < 0.05


def test_the_report_shows_every_figure_and_the_numbers_of_the_tables(report, tables):
    text = report.read_text(encoding="utf-8")

    figures = {path.name for path in report.parent.glob("*.png")}
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == figures
    assert len(figures) == 2
    assert {path.stem for path in report.parent.glob("*.csv")} == set(tables)
    assert set(tables) == {"scores", "spread"}
    table = pd.read_csv(report.parent / "scores.csv")
    noisy = table.query("kind == 'real' and case == 'noisy' and image == 'all'").iloc[0]
    assert f"| {noisy['distance']:.4f} |" in text
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_table_6_shows_the_images_with_draws_first_and_sums_up_the_rest(tables, shipped):
    name = shipped.name
    own = tables["scores"].query("kind == 'real' and image != 'all' and network == @name")
    many = pd.concat([own.assign(image=f"tile {number}") for number in range(20)])
    drawn = (
        tables["spread"].query("sd > 0").iloc[:1].assign(kind="real", image="tile 7", network=name)
    )

    text = format_images(many, drawn, "real", name)

    assert text.splitlines()[2].startswith("| tile 7 |")
    assert "12 of 20 images" in text


def test_long_names_keep_both_ends(tables, shipped):
    name = shipped.name
    own = tables["scores"].query("kind == 'real' and image != 'all' and network == @name")

    text = format_images(own.assign(image="a" * 40 + "b" * 40), tables["spread"], "real", name)

    assert f"| {'a' * 16}...{'b' * 29} |" in text  # 48 characters


def test_the_papers_own_tables_stand_beside(report):
    text = report.read_text(encoding="utf-8")

    assert "| paper: MLP | paper: UNet |" in text
    assert "| 2018-12-20 | 20,000 | 0.9790 | 0.2140 | 0.09700 | 0.9120 |" in format_paper_images(6)
    assert "T30TYM, 2017" in text


def test_maps_of_10_m_are_held_against_sl2p_at_20_m_and_drawn(land, tmp_path):
    fine = np.tile(land[0].astype("float32"), (1, 2, 2))
    repeated = degrade(fine)  # the 20 m bands as a cube on the 10 m grid holds them
    with open_networks([default_bundle_path()]) as networks:
        table, shown = score_native({"a": repeated, "b": repeated}, networks)
    draw_ten_metres(shown, tmp_path / "maps.png")

    distance = table.query("variable == 'LAI'").set_index("method")["distance"]
    assert distance[networks[0].name] < distance[SNAP_10M]
    assert table.set_index(["method", "variable"]).loc[(CUBIC, "LAI"), "ratio"] == 1
    assert {values.shape for values in shown[0].lai.values()} == {(32, 32), (64, 64)}
    assert (tmp_path / "maps.png").stat().st_size > 10_000


def test_scores_on_real_imagery_are_written_into_the_bundle(land, tmp_path):
    bundle = tmp_path / "own.zip"
    bundle.write_bytes(default_bundle_path().read_bytes())
    fine = degrade(np.tile(land[0].astype("float32"), (1, 2, 2)))
    with open_networks([bundle]) as (network,):
        table, _ = score_native({"a": fine}, [network])
        chapter = Chapter("## Ten metres", [], {"ten_metres": table})
        worth = {"metrics": {"real_imagery": summarise([chapter], network.name)}}
        rewrite_bundle(bundle, worth, bundle)

    metrics = open_bundle(bundle).contract["metrics"]
    lai = table.query("variable == 'LAI'").set_index("method")["distance"]
    found = metrics["real_imagery"]["ten_metres_distance"]
    assert found["network"] == pytest.approx(lai[network.name], abs=1e-4)
    assert set(metrics) > {"real_imagery"}
    assert "cubic interpolation" in bundle.with_suffix(".md").read_text()


def test_scenes_that_cannot_be_read_are_left_out(scene, tmp_path, caplog):
    write_scene_geotiff(scene, tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_text("no raster")

    (good,) = read_real(tmp_path)

    assert (good.name, good.true_lai) == ("good", None)
    assert set(ANGLES) <= set(good.image["bands"].values)
    assert "bad.tif skipped" in caplog.text
    (tmp_path / "good.tif").unlink()
    with pytest.raises(EvaluationError):
        read_real(tmp_path)


def test_the_largest_scenes_have_the_most_scored_pixels(land_scene):
    small = dataclasses.replace(land_scene, name="small", scored=np.zeros((2, 2), dtype=bool))

    assert [scene.name for scene in largest([small, land_scene], 1)] == [land_scene.name]


def test_two_bundles_of_one_name_get_columns_of_their_own():
    with open_networks([default_bundle_path(), default_bundle_path()]) as networks:
        first, second = (network.name for network in networks)

    assert second == f"{first} #2"
    with pytest.raises(EvaluationError), open_networks([]):
        pass
    with pytest.raises(LaiModelError), open_networks([Path("nowhere.zip")]):
        pass


def test_a_run_without_weights_is_refused(tmp_path):
    (tmp_path / "provenance.json").write_text("{}")

    assert is_network(tmp_path)
    assert not is_network(tmp_path / "scenes")
    with (
        pytest.raises(ExportError),
        open_networks([tmp_path]),
    ):
        pass


def test_evaluate_without_scenes_and_report_is_misuse():
    assert CliRunner().invoke(app, ["evaluate", str(default_bundle_path())]).exit_code == 2


def test_evaluate_without_a_bundle_fails_in_one_sentence(tmp_path):
    command = ["evaluate", str(tmp_path / "no.zip"), "--report", str(tmp_path / "report")]

    result = CliRunner().invoke(app, command)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be read" in result.stderr
    assert not (tmp_path / "report").exists()
