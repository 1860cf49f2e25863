"""Work folders: nothing half-written stays, not even of a run that was killed."""

import os
import time
from pathlib import Path

import pytest

from lai_udf.atomic import ABANDONED_S, PREFIX, SUFFIX, work_folder
from lai_udf.errors import OutputNotWritableError


def make_old(folder: Path) -> None:
    then = time.time() - 2 * ABANDONED_S
    os.utime(folder, (then, then))


def test_a_work_folder_goes_away_whatever_happens(tmp_path: Path) -> None:
    def fail() -> None:
        with work_folder(tmp_path / "new") as work:
            (work / "half.tif").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not (tmp_path / "new").exists()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / f"{PREFIX}killed{SUFFIX}"  # a killed process keeps no lock
    left.mkdir()
    (left / "half.tif").write_text("half")
    make_old(left)

    with work_folder(tmp_path):
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_a_run_that_works_on_is_left_alone(tmp_path: Path) -> None:
    with work_folder(tmp_path) as one:
        make_old(one)
        with work_folder(tmp_path) as other:
            assert one.is_dir()
            assert other.is_dir()


def test_an_unwritable_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken")
    with pytest.raises(OutputNotWritableError), work_folder(tmp_path / "file" / "in"):
        pass
