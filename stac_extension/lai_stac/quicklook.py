"""A figure to look at: LAI and the width of its interval, side by side, with legends.

Needs matplotlib, which comes with the extras `training` and `service`; it is imported when a
figure is drawn, not before.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import xarray as xr

from lai_stac.errors import DescriptionError
from lai_stac.files import replace_file
from lai_stac.thumbnail import LAI_RANGE, colour_table, shrink

WIDTH_RANGE = (0.0, 6.0)
"""m2 m-2; the same for every picture, so that two can be compared."""


def write_quicklook(lai_cube: xr.DataArray, path: Path, *, title: str = "") -> Path:
    """Draw LAI and the width of its 95 % interval as a PNG, whole or not at all.

    Args:
        lai_cube: dims (bands, y, x), m2 m-2, NaN = no data, bands LAI, LAI_LOWER and LAI_UPPER.
        path: where to.
        title: line above the maps.

    Raises:
        DescriptionError: a band is missing, or matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    missing = {"LAI", "LAI_LOWER", "LAI_UPPER"} - set(lai_cube.coords["bands"].values.tolist())
    if missing:
        raise DescriptionError(f"the cube lacks {', '.join(sorted(missing))} for a quicklook")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DescriptionError(
            "a quicklook needs matplotlib: install sentinel2-lai[service]"
        ) from error
    lai, lower, upper = (
        shrink(lai_cube.sel(bands=band).values) for band in ("LAI", "LAI_LOWER", "LAI_UPPER")
    )
    width = upper - lower
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    extent = _extent_km(lai_cube)
    greens = ListedColormap((colour_table() / 255).tolist())
    for axes, values, colours, limits, label in (
        (left, lai, greens, LAI_RANGE, "Leaf area index (m² m⁻²)"),
        (right, width, "cividis", WIDTH_RANGE, "Width of the 95 % interval (m² m⁻²)"),
    ):
        axes.set_facecolor("0.88")  # no data
        image = axes.imshow(
            values, cmap=colours, vmin=limits[0], vmax=limits[1], extent=extent, aspect="equal"
        )
        figure.colorbar(image, ax=axes, label=label, extend="max", shrink=0.9)
        axes.set_xlabel("east (km)")
    left.set_ylabel("north (km)")
    if title:
        figure.suptitle(title)
    return replace_file(path, _png(figure))


def _png(figure: Any) -> bytes:  # noqa: ANN401  (matplotlib is not imported here)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _extent_km(cube: xr.DataArray) -> tuple[float, float, float, float]:
    """Return west, east, south, north in km from the south-west corner."""
    x, y = cube.coords["x"].values, cube.coords["y"].values
    pixel = abs(float(x[1] - x[0])) if x.size > 1 else 20.0
    return 0.0, x.size * pixel / 1000, 0.0, y.size * pixel / 1000
