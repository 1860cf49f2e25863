"""PROSPECT-D and 4SAIL of our own: against the PROSAIL package, the reference runs and physics."""

from pathlib import Path

import numpy as np
import pytest

from experiments.spectra.band_tables import (
    BANDS,
    NODES_PER_BAND,
    SENSORS,
    band_quadrature,
    quadrature_nodes,
    soil_spectra,
)
from experiments.spectra.prosail import (
    CanopyParameters,
    draw_canopy_parameters,
    simulate_reflectance,
)
from experiments.spectra.prospect import leaf_optics, leaf_reflectance, surface_transmittance
from experiments.spectra.sail import canopy_reflectance, leaf_angle_distribution

WAVELENGTH_NM = np.arange(400.0, 2501.0, 25.0)
ABSOLUTE = {"rtol": 0, "atol": 1e-6}


def _geometry(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.uniform(15, 70, n), rng.uniform(0, 12, n), rng.uniform(0, 180, n)


def _chemistry(canopy: CanopyParameters) -> np.ndarray:
    return np.stack(
        [
            canopy.chlorophyll,
            0.25 * canopy.chlorophyll,
            canopy.brown_pigment,
            canopy.water_cm,
            canopy.dry_matter,
        ],
        axis=1,
    )


@pytest.fixture(autouse=True, scope="module")
def _numba_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give progeosail's compiled code a place of its own: its package may not be writable."""
    import numba

    numba.config.CACHE_DIR = str(tmp_path_factory.mktemp("numba"))


def _our_spectra(
    canopy: CanopyParameters, angles: tuple[np.ndarray, ...], soil: np.ndarray
) -> np.ndarray:
    """Run our implementation: (n, wavelengths)."""
    leaf = leaf_reflectance(canopy.leaf_layers, _chemistry(canopy), leaf_optics(WAVELENGTH_NM))
    return canopy_reflectance(
        *leaf,
        soil[:, : len(WAVELENGTH_NM)],
        canopy.lai,
        canopy.hot_spot,
        (canopy.average_leaf_angle_deg, *angles),
    )


def _package_spectra(
    canopy: CanopyParameters, angles: tuple[np.ndarray, ...], soil: np.ndarray
) -> np.ndarray:
    """Run the GPL package once per canopy: (n, 2101), 400-2500 nm; soil (n, 2101)."""
    from progeosail import run_prosail

    c = canopy
    return np.array(
        [
            run_prosail(
                c.leaf_layers[i],
                c.chlorophyll[i],
                0.25 * c.chlorophyll[i],
                c.brown_pigment[i],
                c.water_cm[i],
                c.dry_matter[i],
                c.lai[i],
                c.average_leaf_angle_deg[i],
                c.hot_spot[i],
                *(a[i] for a in angles),
                ant=0,
                prospect_version="D",
                rsoil0=soil[i],
            )
            for i in range(len(c.lai))
        ]
    )


@pytest.mark.parametrize("law", ["ATBD_v2.1", "v3"])
def test_spectra_equal_those_of_the_prosail_package(rng: np.random.Generator, law: str) -> None:
    canopy = draw_canopy_parameters(40, rng, law)
    canopy.lai[0] = 0.0
    angles = _geometry(40, rng)
    angles[0][1], angles[1][1], angles[2][1] = 30.0, 10.0, 0.0
    soil = np.repeat(rng.uniform(0.02, 0.5, (40, 1)), 2101, axis=1)

    ours = _our_spectra(canopy, angles, soil)

    np.testing.assert_allclose(ours, _package_spectra(canopy, angles, soil)[:, ::25], **ABSOLUTE)


@pytest.mark.parametrize("zenith_deg", [0.0, 12.0])
def test_the_pure_hot_spot_and_the_nadir_view_agree_with_the_package(
    rng: np.random.Generator, zenith_deg: float
) -> None:
    canopy = draw_canopy_parameters(5, rng)
    angles = (np.full(5, zenith_deg), np.full(5, zenith_deg), np.zeros(5))
    soil = np.full((5, 2101), 0.2)

    ours = _our_spectra(canopy, angles, soil)

    np.testing.assert_allclose(
        ours, _package_spectra(canopy, angles, soil)[:, ::25], rtol=0, atol=1e-5
    )


def test_reference_simulations_are_reproduced(shared_data: Path) -> None:
    """10,000 noise-free S2A runs of the ATBD v2.1 laws made with another package (prosail 2.0.5).

    B02 differs by a different issue of the response, the rest by soils at 41 wavelengths.
    """
    pandas = pytest.importorskip("pandas")
    runs = pandas.read_csv(shared_data / "prosail" / "sim_ATBD_v2.1_10000.csv.gz").iloc[::5]
    columns = ["lai", "ala", "hotspot", "N", "Cab", "Cdm", "Cw_rel", "Cbp", "Bs"]
    canopy = CanopyParameters(*(runs[name].to_numpy() for name in columns))
    expected = runs[["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"]].to_numpy()

    ours = simulate_reflectance(
        canopy, runs.tts.to_numpy(), runs.tto.to_numpy(), runs.psi.to_numpy(), runs.soil.to_numpy()
    )

    difference = ours - expected
    assert np.abs(difference).max() < 1.0e-3
    assert np.sqrt(np.mean(difference**2, axis=0)).max() < 1.2e-4


@pytest.mark.parametrize(
    ("sensor", "file", "prefix"),
    [
        ("S2A", "srf_ESA_v3.1_S2A.csv", "S2A_SR_AV_B"),
        ("S2B", "srf_ESA_v3.1_S2B.csv", "S2B_SR_AV_B"),
        ("S2C", "srf_S2C.csv", "B"),
    ],
)
def test_the_band_table_is_made_from_the_published_responses(
    shared_data: Path, sensor: str, file: str, prefix: str
) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(shared_data / "prosail" / file)
    quadrature = band_quadrature(sensor)

    for column, (band, count) in enumerate(NODES_PER_BAND.items()):
        response = table[prefix + band[1:].lstrip("0")].to_numpy(float)
        centre, weight = quadrature_nodes(table.iloc[:, 0].to_numpy(float), response, count)
        here = quadrature.weights[:, column] > 0
        np.testing.assert_allclose(quadrature.wavelength_nm[here], centre, rtol=0, atol=0.006)
        np.testing.assert_allclose(quadrature.weights[here, column], weight, rtol=0, atol=1e-5)


def test_few_wavelengths_stand_for_a_whole_band(
    shared_data: Path, rng: np.random.Generator
) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(shared_data / "prosail" / "srf_ESA_v3.1_S2A.csv")
    grid = np.arange(400.0, 2501.0)
    response = table.set_index("SR_WL").loc[grid]
    canopy = draw_canopy_parameters(30, rng)
    angles = _geometry(30, rng)
    soil_of = np.arange(30) % 7
    soil = np.clip(canopy.soil_brightness[:, None] * soil_spectra(grid)[soil_of], 0.001, 0.95)
    spectra = _package_spectra(canopy, angles, soil)

    ours = simulate_reflectance(canopy, *angles, soil_of)

    for column, band in enumerate(BANDS):
        weight = response["S2A_SR_AV_B" + band[1:].lstrip("0")].to_numpy()
        expected = spectra @ weight / weight.sum()
        np.testing.assert_allclose(ours[:, column], expected, rtol=0, atol=2e-4, err_msg=band)


@pytest.mark.parametrize("sensor", SENSORS)
def test_band_centres_are_those_of_the_sentinel_2_user_guide(sensor: str) -> None:
    """Sentinel-2 user guide, table of spatial and spectral resolution; S2C within 3 nm of S2A."""
    centre = {"B03": 559.8, "B04": 664.6, "B05": 704.1, "B06": 740.5, "B07": 782.8, "B08": 832.8}
    quadrature = band_quadrature(sensor)

    ours = quadrature.wavelength_nm @ quadrature.weights

    for band, expected in centre.items():
        assert ours[BANDS.index(band)] == pytest.approx(expected, abs=3.3)


def test_unknown_sensors_and_laws_are_named(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match=r"S2D.*S2A, S2B, S2C"):
        band_quadrature("S2D")
    with pytest.raises(ValueError, match=r"ATBD_v2\.1, v3 or mixed"):
        draw_canopy_parameters(1, rng, "v9")


def test_a_canopy_without_leaves_is_its_soil(rng: np.random.Generator) -> None:
    canopy = draw_canopy_parameters(7, rng)
    canopy.lai[:] = 0
    soil = np.arange(7)

    ours = simulate_reflectance(canopy, *_geometry(7, rng), soil)

    bands = band_quadrature("S2A")
    expected = canopy.soil_brightness[:, None] * (soil_spectra(bands.wavelength_nm) @ bands.weights)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_water_on_the_soil_darkens_the_shortwave_infrared_most(rng: np.random.Generator) -> None:
    canopy = draw_canopy_parameters(7, rng)
    canopy.lai[:] = 0
    angles = _geometry(7, rng)

    dry = simulate_reflectance(canopy, *angles, np.arange(7))
    wet = simulate_reflectance(canopy, *angles, np.arange(7), water_film_cm=np.full(7, 0.02))

    ratio = (wet / dry).mean(axis=0)
    assert ratio[BANDS.index("B12")] < ratio[BANDS.index("B11")] < 0.9
    assert ratio[BANDS.index("B04")] > 0.999


def test_laws_keep_their_ranges_and_narrow_with_lai(rng: np.random.Generator) -> None:
    canopy = draw_canopy_parameters(20_000, rng)

    assert canopy.lai.min() >= 0
    assert canopy.lai.max() <= 15
    assert canopy.chlorophyll.min() >= 20
    assert canopy.chlorophyll.max() <= 90
    dense = canopy.lai > 8
    low = 20 + (45 - 20) * 8 / 15
    assert canopy.chlorophyll[dense].min() >= low
    assert canopy.average_leaf_angle_deg[dense].std() < canopy.average_leaf_angle_deg.std()
    # the reference file of 10,000 draws has mean LAI 3.298 and mean chlorophyll 54.48
    assert canopy.lai.mean() == pytest.approx(3.298, abs=0.07)
    assert canopy.chlorophyll.mean() == pytest.approx(54.48, abs=0.6)


def test_leaf_angle_shares_sum_to_one_and_a_sphere_follows_the_sine() -> None:
    """Campbell 1990: an axis ratio of 1 is a sphere; his polynomial puts it at 58.43 degrees."""
    sphere_deg = np.roots([-1.6184e-5, 2.1145e-3, -1.2390e-1, 3.2491]).real.max()
    share = leaf_angle_distribution(np.array([20.0, sphere_deg, 80.0]))

    np.testing.assert_allclose(share.sum(axis=1), 1)
    edges = np.radians(np.linspace(0, 90, 19))
    np.testing.assert_allclose(share[1], -np.diff(np.cos(edges)), atol=1e-6)


def test_light_passes_a_surface_as_fresnel_predicts() -> None:
    """Allen 1973: diffuse light crosses water's surface (n = 4/3) by 93.4 percent."""
    assert surface_transmittance(np.array([4 / 3]), 90.0)[0] == pytest.approx(0.934, abs=0.001)
    normal = surface_transmittance(np.array([1.5]), 0.1)[0]
    assert normal == pytest.approx(1 - (0.5 / 2.5) ** 2, abs=1e-6)


def test_leaf_constants_end_at_2500_nm() -> None:
    with pytest.raises(ValueError, match="400 to 2500"):
        leaf_optics(np.array([2600.0]))
