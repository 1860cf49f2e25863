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
# # 1 LAI of my field in ten lines
#
# One scene of Sentinel-2, one function, one field. The scene is **simulated**, so that the notebook
# runs anywhere and the true LAI is known; set `LAI_NOTEBOOK_SCENE` to a product of yours (SAFE folder,
# STAC item, GeoTIFF, netCDF, Zarr) and `LAI_NOTEBOOK_FIELD` to a file with its polygon (GeoJSON,
# GeoPackage) to see the same of your land.

# %%
import os
from pathlib import Path

from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import shipped_library

OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 256))
mine = os.environ.get("LAI_NOTEBOOK_SCENE")
path = mine or simulate(
    OUT / "scene.tif", size=SIZE_PX, seed=5, cloud_cover_percent=3, library=shipped_library()
).scene

# %% [markdown]
# ## The ten lines

# %%
import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap

import lai_udf
from lai_udf.picture import LAI_RANGE, colour_table

scene = lai_udf.read_scene(path)
lai = lai_udf.estimate(scene).squeeze()
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
greens, bar = ListedColormap(colour_table() / 255), {"label": "width of the 95 % interval (m² m⁻²)"}
lai.LAI.plot(ax=axes[0], cmap=greens, vmin=LAI_RANGE[0], vmax=LAI_RANGE[1], cbar_kwargs={"label": "LAI (m² m⁻²)"})
(lai.LAI_UPPER - lai.LAI_LOWER).plot(ax=axes[1], cmap="cividis", cbar_kwargs=bar)
for panel in axes:
    panel.set(title=scene.attrs["datetime"][:10], xlabel="easting (m)", ylabel="northing (m)")
figure.savefig(OUT / "1_lai_of_my_field.png")

# %% [markdown]
# White: cloud, shadow, water or no data. The interval states where a field measurement of LAI would
# lie; it is wide because measurements scatter that much around what a satellite sees.
#
# ## One field
#
# Its mean is over usable pixels, weighed by the share of each that lies inside; there is none where
# less than half of the field is usable.

# %%
import geopandas as gpd
from shapely.geometry import box

from lai_udf.grid import Grid
from lai_udf.zonal import describe_pixels, take_pixels, weigh_zones

own = os.environ.get("LAI_NOTEBOOK_FIELD")
west, south, east, north = lai.rio.bounds()
place = box(west + 0.6 * (east - west), south + 0.4 * (north - south), west + 0.7 * (east - west), south + 0.5 * (north - south))
fields = gpd.read_file(own) if own else gpd.GeoDataFrame(geometry=[place], crs=lai.rio.crs)

grid = Grid.of_data_array(scene, str(path))
zones = weigh_zones(list(fields.geometry), fields.crs, grid)
layers = {"lai": lai.LAI.values, "lower": lai.LAI_LOWER.values, "upper": lai.LAI_UPPER.values}
of_field = describe_pixels(take_pixels(zones, layers, lai.LAI_FLAGS.values))
for number, share in enumerate(of_field.valid_share):
    mean = {name: float(values[number]) for name, values in of_field.mean.items()}
    print(f"field {number}: LAI {mean['lai']:.2f}, 95 % from {mean['lower']:.2f} to {mean['upper']:.2f}, {share:.0%} usable")

# %% [markdown]
# ## Flags
#
# They give the reason why a pixel has no LAI, or needs care; each is one bit.

# %%
import numpy as np

from lai_udf import predict

names = ["INPUT_OUT_OF_DOMAIN", "CLIPPED_TO_MIN", "CLIPPED_TO_MAX", "OUTPUT_TOO_LOW", "OUTPUT_TOO_HIGH"]
names += ["CLOUD_NEAR", "NO_DATA_NEAR", "RESIDUAL_CLOUD"]
flags = lai.LAI_FLAGS.values.astype(np.uint8)
for name in names:
    print(f"{name:<20} {np.mean(flags & getattr(predict, name) > 0):6.1%}")

# %% [markdown]
# ## Further
#
# * A season without clouds and gaps: `lai_udf.smooth(lai_udf.estimate(cube), step_days=5, evidence=cube)`.
# * FAPAR, FCOVER, canopy chlorophyll and water: `variables=["LAI", "FAPAR", "FCOVER", "CCC", "CWC"]`.
# * Corrected towards field measurements: `target="field"`.
# * Where the data is, over openEO: ten other lines, in the README.
