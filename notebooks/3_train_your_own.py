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
# # 3 Train your own
#
# The shipped network restores spectra, and SL2P's equations read them. It learns by Wald's protocol:
# scenes are degraded twofold, and what they were before is the truth. So any folder of Sentinel-2
# scenes can train it. Here they are **simulated**, and there are seconds instead of minutes; set
# `LAI_NOTEBOOK_SCENES` to a folder of scenes of yours (GeoTIFFs or SAFE products, 48 px and more).

# %%
import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.colors import ListedColormap

import lai_training
from lai_training.config_files import read_yaml
from lai_training.evaluation.networks import open_networks
from lai_training.evaluation.ten_metres import interpolate, read_by_sl2p, run_at_10m, score_wald
from lai_training.learn.config import RestoreConfig
from lai_training.restore.degradation import degrade
from lai_training.restore.fit import fit_bodies
from lai_training.restore.scenes import read_scenes
from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import shipped_library
from lai_udf.bundle import default_bundle_path
from lai_udf.picture import LAI_RANGE, colour_table

EPOCHS = int(os.environ.get("LAI_NOTEBOOK_EPOCHS", 8))
STEPS = int(os.environ.get("LAI_NOTEBOOK_STEPS", 40))
SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 192))
SCENES = 6
OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 110})

# %% [markdown]
# ## Scenes
#
# The last one is kept for the score. Of real scenes, keep whole places: neighbours are alike.

# %%
folder = Path(os.environ.get("LAI_NOTEBOOK_SCENES", OUT / "scenes"))
if not folder.exists():
    for seed in range(SCENES):
        made = simulate(folder / f"{seed}.tif", size=SIZE_PX, seed=seed, library=shipped_library())
        made.truth.unlink()  # only what a satellite sees is needed here
*training, kept = read_scenes(folder)
print(f"{len(training)} scenes to learn from, {kept.name} to score on")

# %% [markdown]
# ## The experiment
#
# A config is a YAML file; every key is checked. This is that of the shipped network, shortened.

# %%
config_file = Path(lai_training.__file__).parents[1] / "configs" / "restoring.yaml"
config = read_yaml(config_file, RestoreConfig)
few = {"steps": STEPS, "epochs": EPOCHS}
bodies = {
    "body_20m": config.body_20m.model_copy(update=few | {"epochs": 1}),
    "body_10m": config.body_10m.model_copy(update=few),
}
config = config.model_copy(update={**bodies, "simulated_share": 0.0})
run = OUT / "mine"
shutil.rmtree(run, ignore_errors=True)
fit_bodies(config, training, run, pools=OUT / "pools")
history = pd.read_csv(run / "history.csv")
print(history.round(4).to_string(index=False))

# %% [markdown]
# On the command line: `lai-train fit training/configs/restoring.yaml --scenes FOLDER`, then `lai-train
# export` with field pairs, which calibrates the interval and packs a bundle: what the UDF runs by.
#
# ## Score it beside the shipped one
#
# RMSE at 10 m, relative to that of cubically interpolated bands (`ratio`), on the scene kept aside,
# degraded. On simulated land the shipped network, which learnt from real scenes, is the stranger.

# %%
with open_networks([run, default_bundle_path()]) as networks:
    table = score_wald([kept], networks)
    degraded = degrade(kept.reflectance)
    maps = {"interpolated (cubic)": read_by_sl2p(interpolate(degraded))["LAI"]}
    maps |= {network.name: run_at_10m(network)(degraded)["LAI"] for network in networks}
ratio = table.pivot(index="method", columns="variable", values="ratio")
print(ratio.round(2).to_string())

# %%
maps["not degraded"] = read_by_sl2p(kept.reflectance)["LAI"]
greens = ListedColormap(colour_table() / 255)
figure, axes = plt.subplots(1, 4, figsize=(14, 4))
for axis, (name, lai) in zip(axes, maps.items(), strict=True):
    image = axis.imshow(lai[16:80, 16:80], cmap=greens, vmin=LAI_RANGE[0], vmax=LAI_RANGE[1])
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(image, ax=axes, label="LAI (m² m⁻²)", extend="max", shrink=0.85)
figure.savefig(OUT / "3_train_your_own.png")
