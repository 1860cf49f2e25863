"""Seams, robustness and feature maps: known networks give known tables."""

import re

import numpy as np
import pandas as pd
import pytest
from fake_networks import Blur, Filter, made_up

from experiments.networks.activations import read_stages
from experiments.networks.borders import find_contrasts, tabulate_borders
from experiments.networks.report import describe
from experiments.networks.seams import GEOMETRIES, measure_seams, measure_shifts
from experiments.spectra.library import spectral_library
from lai_training.evaluation.networks import SL2P, Network, open_networks
from lai_training.evaluation.scores import Scene, run_cases, simulate_held_out
from lai_training.reporting import REPORT, Chapter, write_report
from lai_training.simulation.spectral_library import SpectralLibrary
from lai_udf.bundle import default_bundle_path


class Blocks(Filter):
    """Pools over blocks of 4 px that begin at the window's corner."""

    def _filter(self, values):
        height, width = (size // 4 * 4 for size in values.shape)
        cells = values[:height, :width].reshape(height // 4, 4, width // 4, 4).mean(axis=(1, 3))
        pooled = values.copy()
        pooled[:height, :width] = cells.repeat(4, 0).repeat(4, 1)
        return pooled


@pytest.fixture(scope="module")
def library() -> SpectralLibrary:
    return spectral_library(3_000, np.random.default_rng(7))


@pytest.fixture(scope="module")
def land_scene(library: SpectralLibrary) -> Scene:
    return simulate_held_out(1, 112, library, seed=3)[0]


@pytest.fixture(scope="module")
def shipped() -> Network:
    with open_networks([default_bundle_path()]) as (network,):
        return network


@pytest.fixture(scope="module")
def chapters(library: SpectralLibrary, shipped: Network) -> list[Chapter]:
    return describe([shipped], library, scenes=1, size_px=96, cut_px=128)


@pytest.fixture(scope="module")
def tables(chapters: list[Chapter]) -> dict[str, pd.DataFrame]:
    return {name: table for each in chapters for name, table in each.tables.items()}


def test_edges_of_real_scenes_are_a_tenth_of_their_pixels(scene):
    scored = np.ones(scene.shape[1:], dtype=bool)
    stripes = scene.copy()
    stripes.values[:] = 0.1 + 0.2 * (np.arange(48) // 24)

    assert find_contrasts(scene, scored).mean() == pytest.approx(0.1, abs=0.01)
    assert np.nonzero(find_contrasts(stripes, scored).all(axis=0))[0].tolist() == [23, 24]


def test_a_network_that_smears_edges_is_worse_at_borders(land_scene):
    results = run_cases([land_scene], [made_up(Blur, 1)])

    table = tabulate_borders(results).set_index(["case", "where", "network"])["rmse"]
    assert table["clean", "border", "Blur"] > 2 * table["clean", "inside", "Blur"]
    assert table["clean", "border", SL2P] == 0


def test_windows_leave_a_seam_only_where_the_overlap_is_shorter_than_the_reach(land_scene):
    table, maps = measure_seams(land_scene.image, [made_up(Blur, 1)])

    assert table["largest"][:2].tolist() == [0, 0]  # 224 + 16 and 96 + 16
    seam = maps["Blur", GEOMETRIES[2]] != 0
    rows, columns = np.nonzero(seam)
    assert seam.any()
    assert np.isin(rows, [95, 96])[~np.isin(columns, [95, 96])].all()


def test_a_moved_origin_moves_the_poolings_and_no_pixelwise_network(land_scene):
    table = measure_shifts(land_scene.image, [made_up(Blocks, 3), made_up(Filter, 0)])

    by_network = table.groupby("network")["p99"].min()
    assert by_network["Filter"] == 0
    assert by_network["Blocks"] > 0.05


def test_the_shipped_network_leaves_no_seam(tables):
    seams = tables["seams"].set_index("cut")["largest"]

    assert seams["windows of 96 + 16 px"] < 1e-4 < seams["windows of 96 + 0 px"]


def test_a_forgotten_offset_is_refused_and_would_cost_half_a_lai(tables, shipped):
    offset = tables["offset"].set_index(["x", "network"])
    name = shipped.name

    assert offset.loc[(0.1, name), "refused"] == 1
    assert "reflectance_offset to -0.1" in offset.loc[(0.1, name), "reason"]
    assert offset.loc[(0.1, name), "bias"] < -0.4
    assert offset.loc[(0.0, name), "refused"] == 0


def test_holes_cost_sl2p_nothing_and_withheld_angles_do(tables):
    clouds, angles = tables["clouds"], tables["angles"].set_index(["x", "network"])["rmse"]

    holes = clouds.query("view == 'holes' and network == @SL2P", local_dict={"SL2P": SL2P})
    assert holes["rmse"].max() == 0
    assert angles["none", SL2P] == 0 < angles["all", SL2P]


def test_feature_maps_of_a_body_stay_at_20_m(shipped, land_scene):
    stages = read_stages(shipped, land_scene.image)

    metres = [int(re.search(r"at (\d+) m", stage.title)[1]) for stage in stages]
    assert set(metres) == {20}
    assert all(
        stage.channels.shape[1] * metre == 112 * 20
        for stage, metre in zip(stages, metres, strict=True)
    )


def test_the_report_shows_every_figure_and_holds_every_table(chapters, tables, tmp_path):
    write_report(chapters, tmp_path)

    figures = {path.name for path in tmp_path.glob("*.png")}
    assert set(re.findall(r"\]\((\w+\.png)\)", (tmp_path / REPORT).read_text("utf-8"))) == figures
    assert len(figures) == 3
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(tables)
    assert set(tables) == {"borders", "seams", "noise", "angles", "offset", "clouds"}
