"""A scene for `lai-udf run`, and the command called in this process."""

from pathlib import Path

import numpy as np
from fake_cubes import fake_cube, to_digital_numbers
from fake_products import write_multiband
from typer.testing import CliRunner

from lai_udf.cli import app
from lai_udf.predict import BANDS


def write_scene(path: Path, side: int = 72, **changes: object) -> Path:
    cube = fake_cube(np.random.default_rng(8), side).isel(t=0)
    numbers = to_digital_numbers(cube).astype("uint16")
    return write_multiband(path, dict(zip(BANDS, numbers.values, strict=True)), **changes)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr
