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
# The function travels to the data: an openEO back-end loads Sentinel-2, runs our user-defined
# function where the pixels lie, and sends LAI back. Here the back-end is the one of this project,
# on your own machine, over a simulated scene. What changes for the Copernicus Data Space stands
# below the ten lines.

# %%
import atexit
import os
import secrets
from contextlib import ExitStack
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import openeo
import xarray as xr

from lai_demo.scene import open_demo_scene, write_collection
from lai_demo.servers import free_port, running
from lai_training.land.simulate import simulate
from lai_training.land.spectral_library import shipped_library
from lai_udf.bundle import default_bundle_path
from lai_udf.process_graph import lai_cube

SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 256))
OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 110})

# %% [markdown]
# ## A back-end on this machine
#
# A scene, the folder of collections that the back-end serves, and `lai-backend serve`. In a shell
# it is one line; here the notebook starts it and stops it at the end.

# %%
library = shipped_library()
files = simulate(OUT / "scene.tif", size=SIZE_PX, seed=5, cloud_cover_percent=3, library=library)
scene = open_demo_scene(str(files.scene), scale=None, offset=None, datetime=None)
collections = write_collection(scene, OUT / "collections")

port, password = free_port(), secrets.token_urlsafe(12)
url, model = f"http://127.0.0.1:{port}", default_bundle_path()
servers = ExitStack()
atexit.register(servers.close)
command = ["lai-backend", "serve", "--collections", str(collections), "--port", str(port)]
command += ["--data", str(OUT / "backend"), "--allow", str(model.parent)]
log = OUT / "lai-backend.log"
servers.enter_context(
    running(command, ready=f"{url}/", log=log, environment={"LAI_BACKEND_PASSWORD": password})
)
print("openEO back-end:", url)

# %% [markdown]
# ## The ten lines
#
# The field is a box in the coordinates of the tile (EPSG:32631), a kilometre or two wide. The cube
# holds digital numbers, from which the back-end took the offset that the items declare, so the
# function is told their scale.

# %%
west, south, east, north = scene.reflectance.rio.bounds()
quarter = (east - west) / 4
field = {"west": west + quarter, "south": south + quarter, "east": east - quarter}
field |= {"north": north - quarter, "crs": "EPSG:32631"}

# %%
connection = openeo.connect(url).authenticate_basic("lai", password)
sentinel2 = connection.load_collection(
    "sentinel-2-l2a", spatial_extent=field, temporal_extent=["2020-06-08", "2020-06-09"]
)
lai = lai_cube(sentinel2, model=str(model), reflectance_scale=0.0001)
lai.download(OUT / "field.nc")

# %% [markdown]
# On the Copernicus Data Space the collection has 10 m bands, more bands than we need, and digital
# numbers from which the offset of baseline 04.00 is off already. `lai_from_collection` knows all of
# this: it asks for the bands by name, brings them to 20 m, loads a margin and clips. Model and ONNX
# Runtime travel as the two archives that `lai-udf pack` makes, with the job options that name them.
#
# ```python
# connection = openeo.connect("openeo.dataspace.copernicus.eu").authenticate_oidc()
# lai = lai_from_collection(
#     connection,
#     spatial_extent={"west": 1.05, "south": 43.5, "east": 1.15, "north": 43.6},
#     temporal_extent=["2024-05-01", "2024-06-01"],
# )
# options = json.load(open("build/pack/job_options.json"))
# lai.execute_batch("field.nc", job_options=options)
# ```

# %% [markdown]
# ## Look
#
# Five bands come back: LAI, the spread of the model, the ends of the 95 % interval, and flags.

# %%
cube = xr.open_dataset(OUT / "field.nc", decode_coords="all").squeeze("t", drop=True)
width = cube.LAI_UPPER - cube.LAI_LOWER
extent_km = [0, cube.sizes["x"] * 0.02, 0, cube.sizes["y"] * 0.02]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4))
for axes, values, colours, limits, label in (
    (left, cube.LAI, "YlGn", (0, 7), "Leaf area index (m² m⁻²)"),
    (right, width, "cividis", (None, None), "Width of the 95 % interval (m² m⁻²)"),
):
    axes.patch.set(facecolor="white", hatch="xxxx", edgecolor="0.5")  # shows where LAI has no value
    image = axes.imshow(values, cmap=colours, clim=limits, extent=extent_km)
    figure.colorbar(image, ax=axes, label=label, shrink=0.85)
    axes.set(xlabel="east (km)", ylabel="north (km)")
left.set_title(f"Median {float(cube.LAI.median()):.1f}; hatched: cloud, shadow or no data", size=10)
right.set_title("Where to trust it less", size=10)
figure.savefig(OUT / "1_lai_of_my_field.png")

# %% [markdown]
# The flags tell why a pixel has no LAI, or why to be careful: each is one bit.

# %%
names = {1: "outside SL2P's domain", 2: "raised to 0", 4: "cut to 8", 8: "too low"}
names |= {16: "too high", 32: "cloud, shadow or snow near", 64: "no data near"}
flags = cube.LAI_FLAGS.values.astype(np.uint8)
for bit, name in names.items():
    print(f"{bit:>3}  {name:<28} {np.mean(flags & bit > 0):6.1%}")

# %%
servers.close()
