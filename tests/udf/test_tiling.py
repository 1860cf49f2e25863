"""Windows cover a scene once, carry their halo, and no pixel is read twice."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_products import make_dn, write_multiband
from rasterio.windows import Window

from lai_udf.errors import UnreadableProductError
from lai_udf.scenes.read import open_scene
from lai_udf.scenes.source import SceneSource
from lai_udf.tiling import (
    MAX_BLOCK_PX,
    MIN_BLOCK_PX,
    Chunk,
    choose_block_size,
    cut,
    iterate_chunks,
    plan_blocks,
)

Cuts = tuple[int, int, tuple[int, int]]
CUTS: list[Cuts] = [  # side of a core, halo, rows and columns of a block
    (32, 8, (16, 80)),
    (32, 8, (80, 16)),
    (64, 16, (208, 208)),
    (16, 8, (16, 16)),
    (48, 16, (32, 48)),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SceneSource:
    path = write_multiband(tmp_path_factory.mktemp("scene") / "scene.tif", make_dn(size=70))
    return open_scene(path)


def cut_up(
    source: SceneSource, core_px: int, halo_px: int, block_px: tuple[int, int]
) -> list[Chunk]:
    blocks = plan_blocks(source, core_px=core_px, halo_px=halo_px, block_px=block_px)
    chunks = list(iterate_chunks(source, blocks, halo_px=halo_px))
    assert [chunk.core for chunk in chunks] == [core for block in blocks for core in block.windows]
    return chunks


@pytest.mark.parametrize("cuts", CUTS)
def test_cores_put_together_are_the_scene(source: SceneSource, cuts: Cuts) -> None:
    scene = source.read()
    filled = np.full(scene.shape, np.nan, dtype="float32")
    times = np.zeros(scene.shape[1:], dtype=int)
    for chunk in cut_up(source, *cuts):
        place = chunk.core.toslices()
        filled[:, *place] = chunk.trim(chunk.cube).values
        times[place] += 1

    assert (times == 1).all()
    np.testing.assert_array_equal(filled, scene.values)


@pytest.mark.parametrize("cuts", CUTS)
def test_halo_holds_the_neighbours_and_no_data_beyond_the_scene(
    source: SceneSource, cuts: Cuts
) -> None:
    halo = cuts[1]
    surrounded = source.read().pad(y=halo, x=halo, constant_values=np.nan).values
    for chunk in cut_up(source, *cuts):
        row, column = chunk.core.row_off, chunk.core.col_off
        height, width = chunk.core.height + 2 * halo, chunk.core.width + 2 * halo
        expected = surrounded[:, row : row + height, column : column + width]
        np.testing.assert_array_equal(chunk.cube.values, expected)


def test_windows_know_where_they_lie(source: SceneSource) -> None:
    scene = source.read()
    for chunk in cut_up(source, 32, 8, (32, 32)):
        rows, columns = chunk.core.toslices()
        core = chunk.trim(chunk.cube)
        np.testing.assert_allclose(core["y"], scene["y"][rows])
        np.testing.assert_allclose(core["x"], scene["x"][columns])
        assert core.rio.crs == scene.rio.crs


@pytest.mark.parametrize("cuts", CUTS)
def test_every_pixel_is_read_once(
    source: SceneSource, cuts: Cuts, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = np.zeros(source.grid.shape, dtype=int)
    original = SceneSource.read_into

    def spy(self: SceneSource, window: Window, out: np.ndarray) -> None:
        times[window.toslices()] += 1
        original(self, window, out)

    monkeypatch.setattr(SceneSource, "read_into", spy)
    cut_up(source, *cuts)

    assert (times == 1).all()


@pytest.mark.parametrize("cuts", CUTS)
def test_cores_start_in_phase_and_are_no_larger_than_asked(source: SceneSource, cuts: Cuts) -> None:
    for chunk in cut_up(source, *cuts):
        assert (chunk.core.row_off % 8, chunk.core.col_off % 8) == (0, 0)
        assert max(chunk.core.height, chunk.core.width) <= cuts[0]


def test_a_cell_holds_whole_blocks_of_the_file() -> None:
    assert choose_block_size((256, 256)) == MIN_BLOCK_PX
    assert choose_block_size((512, 512)) == MIN_BLOCK_PX
    assert choose_block_size((1024, 1024)) == (1024, 1024)  # a tile of JPEG 2000 is decoded once
    assert choose_block_size((1, 256)) == MIN_BLOCK_PX


@pytest.mark.parametrize("block", [(1, 5490), (3, 10_980), (4096, 4096), (10_980, 1)])
def test_huge_blocks_make_no_huge_cell(block: tuple[int, int]) -> None:
    rows, columns = choose_block_size(block)

    assert columns >= block[1]  # whole rows are decoded once
    assert rows >= 64  # or most of a window would be halo
    assert rows * columns <= MAX_BLOCK_PX


def test_blocks_are_counted_in_pixels_of_the_scene(tmp_path: Path) -> None:
    fine = make_dn(size=140)
    path = write_multiband(tmp_path / "scene.tif", fine, pixel=10.0)

    _, columns = open_scene(path).block_px

    assert columns == 70


@pytest.mark.parametrize("length", [1, 7, 16, 100, 447, 448, 449, 1024, 5490])
def test_parts_of_a_cut_are_aligned_equal_and_complete(length: int) -> None:
    parts = cut(48, 48 + length, 448)

    assert (parts[0][0], parts[-1][1]) == (48, 48 + length)
    assert all(stop == start for (_, stop), (start, _) in pairwise(parts))
    assert all(start % 16 == 0 for start, _ in parts)
    assert max(stop - start for start, stop in parts) <= 448
    assert len(parts) == -(-length // 448)


def test_unreadable_scene_ends_in_our_error(tmp_path: Path) -> None:
    path = write_multiband(tmp_path / "scene.tif", make_dn(size=70))
    source = open_scene(path)
    blocks = plan_blocks(source)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UnreadableProductError):
        list(iterate_chunks(source, blocks))
