"""Windows cover a scene once, carry their halo, and do not read rows twice."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_products import make_dn, write_multiband
from rasterio.windows import Window

import lai_udf.windows
from lai_udf.products import open_scene
from lai_udf.products_source import SceneSource
from lai_udf.windows import count_pieces, cut, iterate_pieces, strip_rows


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SceneSource:
    path = write_multiband(tmp_path_factory.mktemp("scene") / "scene.tif", make_dn(size=70))
    return open_scene(path)


@pytest.mark.parametrize(("core", "rows", "halo"), [(32, 16, 8), (64, 200, 16), (24, 8, 16)])
def test_cores_put_together_are_the_scene(
    source: SceneSource, core: int, rows: int, halo: int
) -> None:
    scene = source.read()
    filled = np.full(scene.shape, np.nan, dtype="float32")
    times = np.zeros(scene.shape[1:], dtype=int)
    for piece in iterate_pieces(source, core_px=core, halo_px=halo, rows=rows):
        place = piece.core.toslices()
        filled[(slice(None), *place)] = piece.trim(piece.cube).values
        times[place] += 1

    assert (times == 1).all()
    np.testing.assert_array_equal(filled, scene.values)


def test_halo_holds_the_neighbours_and_no_data_beyond_the_scene(source: SceneSource) -> None:
    scene = source.read()
    surrounded = scene.pad(y=8, x=8, constant_values=np.nan).values
    for piece in iterate_pieces(source, core_px=32, halo_px=8, rows=16):
        row, column = piece.core.row_off, piece.core.col_off
        height, width = piece.core.height + 16, piece.core.width + 16
        expected = surrounded[:, row : row + height, column : column + width]
        np.testing.assert_array_equal(piece.cube.values, expected)


def test_windows_know_where_they_lie(source: SceneSource) -> None:
    scene = source.read()
    for piece in iterate_pieces(source, core_px=32, halo_px=8, rows=16):
        rows, columns = piece.core.toslices()
        core = piece.trim(piece.cube)
        np.testing.assert_allclose(core["y"], scene["y"][rows])
        np.testing.assert_allclose(core["x"], scene["x"][columns])
        assert core.rio.crs == scene.rio.crs


def test_rows_are_read_once(source: SceneSource, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    original = SceneSource.read_into

    def spy(self: SceneSource, window: Window, out: np.ndarray) -> None:
        read.append((int(window.row_off), int(window.row_off + window.height)))
        original(self, window, out)

    monkeypatch.setattr(SceneSource, "read_into", spy)
    list(iterate_pieces(source, core_px=32, halo_px=8, rows=16))

    assert read[0][0] == 0
    assert [start for start, _ in read[1:]] == [stop for _, stop in read[:-1]]
    assert read[-1][1] == 70


def test_pieces_are_counted_before_they_are_read(source: SceneSource) -> None:
    for core, rows in ((32, 16), (24, 8), (104, 104)):
        pieces = list(iterate_pieces(source, core_px=core, rows=rows))
        assert count_pieces(source, core_px=core, rows=rows) == len(pieces)


def test_strips_have_the_height_of_the_blocks_of_the_file() -> None:
    assert strip_rows(5490, 512) == 512
    assert strip_rows(5490, 1) == 512
    assert strip_rows(5490, 1024) == 1024  # a row of JPEG 2000 blocks is decoded once
    assert strip_rows(20_000, 512) * 20_000 <= 6_000_000
    assert strip_rows(10**9, 512) == 8


def test_wide_scenes_are_read_in_panels(
    source: SceneSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = source.read()
    monkeypatch.setattr(lai_udf.windows, "PANEL_PX", 24)
    filled = np.full(scene.shape, np.nan, dtype="float32")
    largest = 0
    for piece in iterate_pieces(source, core_px=32, halo_px=8, rows=16):
        filled[(slice(None), *piece.core.toslices())] = piece.trim(piece.cube).values
        largest = max(largest, piece.cube.values.base.shape[2])

    np.testing.assert_array_equal(filled, scene.values)
    assert largest == 24 + 2 * 8
    assert count_pieces(source, core_px=32, rows=16) == 3 * 5


@pytest.mark.parametrize("length", [1, 7, 8, 100, 447, 448, 449, 1024, 5490])
def test_parts_of_a_cut_are_aligned_equal_and_complete(length: int) -> None:
    parts = cut(length, 448)

    assert (parts[0][0], parts[-1][1]) == (0, length)
    assert all(stop == start for (_, stop), (start, _) in pairwise(parts))
    assert all(start % 8 == 0 for start, _ in parts)
    assert max(stop - start for start, stop in parts) <= 448
    assert len(parts) == -(-length // 448)


def test_unreadable_scene_ends_in_our_error(tmp_path: Path) -> None:
    from lai_udf.errors import UnreadableProductError

    path = write_multiband(tmp_path / "scene.tif", make_dn(size=70))
    source = open_scene(path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UnreadableProductError):
        list(iterate_pieces(source, core_px=32))
