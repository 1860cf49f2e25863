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
# # 4 Discover LAI and plot a time series
#
# LAI that was computed once can be found by anyone: a STAC API answers where and when, `odc-stac`
# loads the pixels, and the curve of a parcel comes with its interval. Here the API is the service
# of this project on your own machine, over a simulated season in which some dates are cloudy.

# %%
import atexit
import os
import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import odc.stac
import pandas as pd
import pystac_client
import requests
from matplotlib.colors import ListedColormap
from matplotlib.dates import ConciseDateFormatter

from experiments.seasons.fields import season_dates
from experiments.seasons.files import TRUTH_FILE, write_season
from lai_demo.servers import starting
from lai_service.ops.client import publish_directory
from lai_stac.item import describe
from lai_training.simulation.spectral_library import shipped_library
from lai_udf.bundle import open_bundle
from lai_udf.picture import LAI_RANGE, colour_table
from lai_udf.results import read_lai_cogs

SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 192))
DATES = int(os.environ.get("LAI_NOTEBOOK_DATES", 14))
OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 110})

# %% [markdown]
# ## A season, described and published
#
# In real life this is `lai-udf run` and `lai-service publish` on every new scene.

# %%
library = shipped_library()
season = OUT / "season"
shutil.rmtree(season, ignore_errors=True)
write_season(
    season, library, size_px=SIZE_PX, dates=season_dates(DATES), seed=5, cloudy_share=0.5
)

token = secrets.token_urlsafe(24)
servers = ExitStack()
atexit.register(servers.close)
wait = servers.enter_context(
    starting(
        ["lai-service", "serve", "--data", str(OUT / "service"), "--allow", str(OUT)],
        ready="/_mgmt/ping",
        log=OUT / "lai-service.log",
        environment={"LAI_SERVICE_TOKEN": token},
    )
)
url = wait()
model = dict(open_bundle().description)
for folder in sorted(path.parent for path in season.glob("*/lai.tif")):
    time = read_lai_cogs(folder).attrs["DATETIME"]
    describe(folder, model=model, datetime=time)
    print(publish_directory(folder, url, token, "lai").address)

# %% [markdown]
# ## Search
#
# By place, time, and how much of the scene can be used (`laiq:valid_fraction`, a field of the
# lai-quality extension).

# %%
parcels = gpd.read_file(season / "parcels.gpkg").to_crs("EPSG:4326")
west, south, east, north = parcels.total_bounds
catalogue = pystac_client.Client.open(url)
search = catalogue.search(
    collections=["lai"],
    bbox=[west, south, east, north],
    datetime="2020-02-01/2020-11-30",
    sortby="datetime",
)
items = list(search.items())
for item in items:
    fraction = item.properties["laiq:valid_fraction"]
    print(f"{item.datetime:%d %b %Y}  valid {fraction:5.0%}  {item.id}")

clear = {"op": ">", "args": [{"property": "laiq:valid_fraction"}, 0.65]}
good = catalogue.search(collections=["lai"], filter=clear, filter_lang="cql2-json")
print(f"{len(items)} items, {len(list(good.items()))} of them with LAI on more than 65 % of their pixels")

# %% [markdown]
# ## Load the pixels
#
# odc-stac hands out the whole numbers that are stored, where −32768 is no data; × 0.001 is LAI in m² m⁻².
# Hatched: no LAI, here because of cloud.

# %%
cube = odc.stac.load(
    items, bands=["lai", "lai_lower", "lai_upper"], chunks={}, groupby="id"
).compute()
scaled = cube.where(cube != -32768) * 0.001
shown = scaled.lai.isel(time=np.linspace(0, len(items) - 1, 4).round().astype(int))
greens = ListedColormap(colour_table() / 255)
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), sharey=True)
extent_km = [0, shown.sizes["x"] * 0.02, 0, shown.sizes["y"] * 0.02]
for panel, date in zip(axes, shown, strict=True):
    panel.patch.set(facecolor="white", hatch="xxxx", edgecolor="0.5")  # clouds
    image = panel.imshow(date, cmap=greens, vmin=LAI_RANGE[0], vmax=LAI_RANGE[1], extent=extent_km)
    panel.set(title=f"{pd.Timestamp(date.time.values):%d %b %Y}", xlabel="east (km)")
axes[0].set_ylabel("north (km)")
figure.colorbar(image, ax=axes, label="Leaf area index (m² m⁻²)", extend="max", shrink=0.85)
figure.savefig(OUT / "4_maps.png")

# %% [markdown]
# ## The curve of a parcel
#
# The service averages over the parcel, weighs pixels by the share inside, and leaves cloudy ones
# out. A date on which less than half of the parcel is seen is a gap: the curve is broken there, not
# drawn across, and the date is marked at the bottom.

# %%
truth = pd.read_csv(season / TRUTH_FILE, dtype={"parcel": str}, parse_dates=["datetime"])
growth = truth.groupby("parcel").truth.max()
inner = parcels.set_index("ID_PARCEL").cx[
    west + 0.2 * (east - west) : east - 0.2 * (east - west),
    south + 0.2 * (north - south) : north - 0.2 * (north - south),
]
parcel = growth.reindex(inner.index).sort_values().index[int(0.7 * len(inner))]
field = inner.loc[parcel]
answer = requests.post(
    f"{url}/timeseries",
    json={"geometry": field.geometry.__geo_interface__, "collections": ["lai"]},
    timeout=60,
)
answer.raise_for_status()
curve = pd.DataFrame(answer.json()["observations"])
curve["datetime"] = pd.to_datetime(curve["datetime"])
curve = curve.set_index("datetime")
seen = curve.valid_fraction >= 0.5
print(curve[["lai", "lower", "upper", "valid_fraction"]].astype(float).round(2))

# %%
values = curve[["lai", "lower", "upper"]].astype(float).where(seen)
known = truth[truth.parcel == parcel].set_index("datetime").truth
figure, axes = plt.subplots(figsize=(9, 4))
axes.fill_between(
    values.index, values.lower, values.upper, color="0.85", label="95 % prediction interval"
)
axes.errorbar(
    values.index,
    values.lai,
    [values.lai - values.lower, values.upper - values.lai],
    fmt="none",
    ecolor="0.85",
    lw=4,  # a date between two gaps has no band, but a bar
)
axes.plot(values.index, values.lai, "o-", color="tab:red", label="mean LAI of the parcel")
axes.plot(known.index, known, ls=":", lw=2, color="black", label="truth (simulated)")
gaps = curve.index[~seen]
axes.plot(gaps, np.zeros(len(gaps)), "x", color="0.3", clip_on=False, label="cloudy: no value")
axes.set(ylabel="LAI (m² m⁻²)", ylim=(0, None))
axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
axes.set_title(f"Parcel {parcel}, {field.CODE_CULTU}, {field.SURF_PARC:.1f} ha", loc="left")
axes.legend(frameon=False, loc="upper right")
figure.savefig(OUT / "4_curve.png")

# %%
servers.close()
