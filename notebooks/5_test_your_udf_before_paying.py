# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 Test your own UDF before paying for a job
#
# A cloud back-end cuts the cube into windows, casts them to float32, fills what lies outside with
# NaN and calls your text once per window, somewhere you cannot look. Most failures can be had at
# home, for nothing: `lai_udf.emulation` cuts as the GeoTrellis back-ends do.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import shipped_library
from lai_udf import predict
from lai_udf.bundle import default_bundle_path, open_bundle
from lai_udf.emulation import Cutting, run_udf_in_windows
from lai_udf.picture import LAI_RANGE, colour_table
from lai_udf.scenes.read import read_scene

SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 240))
CORE_PX = SIZE_PX // 12 * 4  # a third of the scene, a multiple of 4
OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 110})

# %%
library = shipped_library()
mine = os.environ.get("LAI_NOTEBOOK_SCENE")  # yours, of at least SIZE_PX
path = mine or simulate(OUT / "tested.tif", size=SIZE_PX, seed=2, library=library).scene
scene = read_scene(path)[:, :SIZE_PX, :SIZE_PX]
cube = scene.drop_sel(bands=[b for b in scene.bands.values if b not in predict.BANDS])

# %% [markdown]
# ## Your UDF
#
# One file with one function. This one takes NDVI and smooths it over 9 x 9 pixels: it looks at
# neighbours, so it needs an overlap of at least four pixels.

# %%
own_udf = '''
import numpy as np
import xarray


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    red, infrared = cube.sel(bands="B04"), cube.sel(bands="B08")
    ndvi = (infrared - red) / (infrared + red)
    known = xarray.where(ndvi.isnull(), 0.0, 1.0)
    near = {"x": 9, "y": 9}
    total = ndvi.fillna(0).rolling(near, center=True, min_periods=1).sum()
    count = known.rolling(near, center=True, min_periods=1).sum()
    smooth = xarray.where(count > 0, total / count, np.nan)
    return smooth.expand_dims(bands=["NDVI"]).transpose(*cube.dims)
'''

# %% [markdown]
# ## Does the answer depend on how the cube is cut?
#
# Three ways to cut: not at all, with an overlap of 8 px, and with none. What differs is an artefact
# that you would have paid for.

# %%
side = -(-SIZE_PX // 4) * 4
whole = run_udf_in_windows(own_udf, cube, {}, Cutting(size_px=side, overlap_px=8))
overlap = run_udf_in_windows(own_udf, cube, {}, Cutting(size_px=CORE_PX, overlap_px=8))
without = run_udf_in_windows(own_udf, cube, {}, Cutting(size_px=CORE_PX, overlap_px=0))
for name, cut in (("overlap 8 px", overlap), ("no overlap", without)):
    print(f"{name}: largest difference to the whole {float(abs(cut - whole).max()):.2g}")
assert float(abs(overlap - whole).max()) < 1e-5

# %% [markdown]
# ## The same for ours
#
# The LAI network sees less than 16 px around a pixel (`reach_px` in its bundle), so 16 px of overlap
# are enough, wherever the tile grid of the back-end starts (`origin_px`).

# %%
lai_udf = Path(predict.__file__).read_text()
context = {"model": str(default_bundle_path()), "bands": ["LAI"]}
lai = run_udf_in_windows(
    lai_udf, cube, {**context, "overlap": 16}, Cutting(size_px=side, overlap_px=16)
)
seamless = run_udf_in_windows(
    lai_udf,
    cube,
    {**context, "overlap": 16},
    Cutting(size_px=CORE_PX, overlap_px=16, origin_px=(12, 28)),
)
seams = run_udf_in_windows(lai_udf, cube, context, Cutting(size_px=CORE_PX, overlap_px=0))
assert float(abs(seamless - lai).max()) < 1e-3
print(f"reach of the network: {open_bundle().contract['reach_px']} px")
print(f"LAI, overlap 16 px: {float(abs(seamless - lai).max()):.1g}")
print(f"LAI, no overlap:    {float(abs(seams - lai).max()):.1g}")

# %%
extent_km = [0, cube.sizes["x"] * 0.02, 0, cube.sizes["y"] * 0.02]
greens = ListedColormap(colour_table() / 255)
figure, axes = plt.subplots(1, 3, figsize=(13, 4))
panels = (
    (lai, greens, LAI_RANGE, "LAI, whole (m² m⁻²)"),
    (abs(seamless - lai), "magma_r", (0, 0.3), "|difference|, overlap 16 px (m² m⁻²)"),
    (abs(seams - lai), "magma_r", (0, 0.3), "|difference|, no overlap (m² m⁻²)"),
)
for panel, (values, colours, limits, label) in zip(axes, panels, strict=True):
    image = panel.imshow(values.squeeze(), cmap=colours, clim=limits, extent=extent_km)
    figure.colorbar(image, ax=panel, label=label, shrink=0.85, extend="max")
    panel.set(xlabel="east (km)", title=f"largest {float(values.max()):.2g}")
axes[0].set_ylabel("north (km)")
figure.savefig(OUT / "5_seams.png")

# %% [markdown]
# ## Does it fail in words?
#
# The error is all you will see of a failed job. Take a band away, misspell a key: what would the log
# contain? What only a whole scene can show, such as forgotten scaling, is no error of a window: a hazy one
# would stop a season. There the numbers are no data, and the flags mark them.

# %%
mistakes = {
    "a band is missing": (cube.drop_sel(bands="B8A"), context),
    "a misspelt key": (cube, {**context, "sample": 30}),
}
for name, (wrong_cube, wrong_context) in mistakes.items():
    try:
        run_udf_in_windows(lai_udf, wrong_cube, wrong_context, Cutting(size_px=side))
    except ValueError as error:
        print(f"{name}: {error}\n")
    else:
        raise AssertionError(f"{name}: no error")

numbers = run_udf_in_windows(lai_udf, cube * 10_000, context, Cutting(size_px=side))
print(f"digital numbers without a scale: {float(numbers.notnull().mean()):.0%} of the pixels have LAI")

# %% [markdown]
# ## What else a back-end does
#
# `by_date=True` hands over one date at a time without a dimension `t`; dates without data are left
# out. Then run it on `lai-backend serve`, an openEO back-end on your machine (`udf/lai_backend/README.md`), and only then
# on a back-end that costs credits, over the smallest extent that shows your field.

# %%
dated = cube.expand_dims(t=np.array(["2020-06-08", "2020-06-13"], dtype="datetime64[ns]"))
by_date = run_udf_in_windows(
    lai_udf, dated, {**context, "overlap": 16}, Cutting(size_px=CORE_PX, by_date=True)
)
assert float(abs(by_date.isel(t=1) - lai).max()) < 1e-3
print(dict(by_date.sizes))
