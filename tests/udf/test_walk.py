"""How many modules a scene meets on its way through `lai-udf run`, so that the way stays short."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import xarray as xr
from fake_products import make_dn, write_safe

import lai_udf
from lai_udf.cli import app
from lai_udf.run import run_all  # noqa: F401  (what imports do is no part of the way)

HOME = str(Path(lai_udf.__file__).parent)
MAX_MODULES, MAX_MODULES_OF_PIXELS = 17, 9
IN_FUNCTION = 0x1  # flag of the code of functions, which that of modules and classes lacks


def holds_pixels(value: object) -> bool:
    """Return whether a value is, or holds, an image."""
    if isinstance(value, np.ndarray):
        return value.ndim >= 2 and value.size >= 400
    if isinstance(value, tuple | list):
        return any(map(holds_pixels, value))
    if isinstance(value, dict):
        return any(map(holds_pixels, value.values()))
    return isinstance(value, xr.DataArray | xr.Dataset)


@contextmanager
def followed() -> Iterator[tuple[set[str], set[str]]]:
    """Yield the modules of the package that are called, and those that pixels pass through."""
    called: set[str] = set()
    pixels: set[str] = set()

    def follow(frame: FrameType, event: str, value: object) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(HOME) or not code.co_flags & IN_FUNCTION:
            return
        module = code.co_filename[len(HOME) + 1 :]
        if event == "call":
            called.add(module)
        if holds_pixels(list(frame.f_locals.values()) if event == "call" else value):
            pixels.add(module)

    threading.setprofile(follow)
    sys.setprofile(follow)
    try:
        yield called, pixels
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_a_product_meets_few_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    product = write_safe(tmp_path, make_dn())
    with followed() as (called, pixels):
        app(["run", str(product), str(tmp_path / "out")], standalone_mode=False)

    assert len(capsys.readouterr().out.splitlines()) == 5  # COGs were written
    assert {"run.py", "predict.py", "cog.py"} <= pixels
    assert len(called) <= MAX_MODULES, sorted(called)
    assert len(pixels) <= MAX_MODULES_OF_PIXELS, sorted(pixels)
