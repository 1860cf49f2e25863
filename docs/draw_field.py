"""Draw `docs/field.png`, the picture of the README, from real imagery.

    .venv/bin/python docs/draw_field.py SERIES.nc [CHIP_10M.tif --date "13 June 2017"]

The series is a cube of Sentinel-2 L2A (that of the README: Belgium, tile 31U, 2017-2018, from the
test resources of WorldCereal/worldcereal-classification, MIT; contains modified Copernicus
Sentinel data); the chip, if given, shows the same estimate at 10 m beside 20 m.
"""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.image import AxesImage
from refresh import shrink

import lai_udf
from lai_udf.picture import LAI_RANGE, colour_table

TARGET = Path(__file__).with_name("field.png")
FIELD = {"y": slice(2, 8), "x": slice(26, 30)}
"""Pixels of one field of the series: 120 m by 80 m inside it."""


def draw_season(axes: plt.Axes, cube: xr.Dataset | xr.DataArray) -> None:
    """Draw single dates, the series and both of its intervals, as means over a field."""
    lai = lai_udf.estimate(cube, target="field")
    time = "time" if "time" in lai.dims else "t"
    series = lai_udf.smooth(lai, step_days=5, evidence=cube).isel(FIELD).mean(("y", "x"))
    dates = lai.LAI.isel(FIELD)
    single = dates.mean(("y", "x")).where(dates.notnull().mean(("y", "x")) > 0.9)
    days = series["time" if "time" in series.dims else "t"].values
    width = 1.96 * series.LAI_SD
    axes.fill_between(
        days, series.LAI_LOWER, series.LAI_UPPER, color="#e3f0de", label="95 %: field LAI"
    )
    axes.fill_between(
        days,
        (series.LAI - width).clip(0),
        series.LAI + width,
        color="#a9d3a0",
        label="95 %: another acquisition",
    )
    axes.plot(days, series.LAI, color="#1b6b2d", lw=1.6, label="gap-filled series")
    axes.plot(
        single[time].values, single, "o", ms=3, color="#333333", label="single dates, clear by SCL"
    )
    axes.set(ylabel="LAI (m² m⁻²)", ylim=(0, None), title="A field in Belgium, 2017-2018")
    locator = AutoDateLocator()
    axes.xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def map_pair(chip: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return LAI of a 10 m chip at 10 m, and at 20 m, where its bands are averaged."""
    scenes = lai_udf.read_scene(chip, resolution=10), lai_udf.read_scene(chip)
    fine, coarse = (lai_udf.estimate(scene).LAI.values.squeeze() for scene in scenes)
    return fine, coarse


def draw_map(axes: plt.Axes, values: np.ndarray, title: str, note: str) -> AxesImage:
    """Draw LAI in the colours of the project, with a note below."""
    colours = ListedColormap(colour_table() / 255)  # the one scale of every picture
    low, high = LAI_RANGE
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=high)
    axes.set(title=title, xticks=[], yticks=[], xlabel=note)
    return image


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", type=Path)
    parser.add_argument("chip", type=Path, nargs="?")
    parser.add_argument("--date", default="", help="of the chip, as it is to be read")
    asked = parser.parse_args()
    figure = plt.figure(figsize=(11, 3.4), layout="constrained")
    columns = 3 if asked.chip else 1
    cells = figure.add_gridspec(1, columns, width_ratios=[2.2, 1, 1][:columns])
    draw_season(figure.add_subplot(cells[0]), xr.open_dataset(asked.series))
    if asked.chip:
        fine, coarse = map_pair(asked.chip)
        maps = [figure.add_subplot(cell) for cell in (cells[1], cells[2])]
        draw_map(maps[0], coarse, "LAI at 20 m", asked.date)
        side_km = fine.shape[1] * 0.01
        image = draw_map(maps[1], fine, "LAI at 10 m", f"{side_km:g} km by {side_km:g} km")
        figure.colorbar(image, ax=maps, label="LAI (m² m⁻²)", extend="max", shrink=0.8)
    figure.savefig(TARGET, dpi=140)
    shrink(TARGET, TARGET)


if __name__ == "__main__":
    sys.exit(main())
