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
# Simulated landscapes, labels by SL2P, a UNet whose dropout masks are inputs, and a bundle that the
# UDF runs. So the shipped network was made (`training/configs/seamless.yaml`) in two
# minutes instead of hours, so expect a network that has understood the matter, not a good one.

# %%
import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml

from lai_training import sl2p
from lai_training.bundles.export import export_onnx, write_bundle
from lai_training.bundles.model_item import describe_model
from lai_training.bundles.release import NO_CALIBRATION
from lai_training.learn.config import FitConfig
from lai_training.learn.fit import fit
from lai_training.learn.pools import make_pool
from lai_training.scores.metrics import score
from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import shipped_library
from lai_udf.bundle import default_bundle_path
from lai_udf.run import RunOptions, predict_scene
from lai_udf.scenes.read import read_scene

EPOCHS = int(os.environ.get("LAI_NOTEBOOK_EPOCHS", 8))
STEPS = int(os.environ.get("LAI_NOTEBOOK_STEPS", 40))
PATCHES = int(os.environ.get("LAI_NOTEBOOK_PATCHES", 256))
SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 192))
OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 110})

# %% [markdown]
# ## The experiment
#
# A config is a YAML file; every key is checked. `pool` is the noise-free patches to learn from,
# `samples` how a clean patch becomes a noisy, partly missing sample.

# %%
config = FitConfig.model_validate(
    yaml.safe_load(
        f"""
        network: seamless
        seed: 1
        pool: {{patches: {PATCHES}, size_px: 48, seed: 7}}
        validation: {{patches: 32, size_px: 48, seed: 8}}
        samples: {{patch_px: 48, batch: 8, noise_relative: 0.03, noise_absolute: 0.005}}
        epochs: {EPOCHS}
        steps: {STEPS}
        learning_rate: 0.004
        ema_momentum: 0.9
        huber_delta: 0.5
        """
    )
)
library = shipped_library()
pools = OUT / "pools"
for pool in (config.pool, config.validation):
    path = pools / f"patches-{pool.patches}x{pool.size_px}-seed{pool.seed}.npy"
    make_pool(path, library, patches=pool.patches, size_px=pool.size_px, seed=pool.seed)

# %% [markdown]
# ## Fit
#
# A killed run goes on where it stopped, if it finds its folder; here we begin anew. On the command
# line this is `lai-train fit`.

# %%
run = OUT / "run"
shutil.rmtree(run, ignore_errors=True)
weights_file = fit(config, run, pools=pools, verbose=0)
history = pd.read_csv(run / "history.csv")
print(history.filter(regex="loss|mae|epoch").round(4).to_string(index=False))

# %% [markdown]
# ## From weights to a bundle
#
# The bundle is what travels: an ONNX file and `model.json`, which says what the network expects.
# Without calibration its prediction interval has no width; `lai_training.bundles.release` calibrates.

# %%
import keras  # noqa: E402  (slow to import, and the fit above has done it already)

model = keras.models.load_model(weights_file, compile=False)
onnx = export_onnx(model, OUT / "model.onnx")
description = describe_model(
    run, onnx, version="0.0.1", calibration=NO_CALIBRATION, metrics={}
)
bundle = write_bundle(OUT / "mine-0.0.1.zip", description, onnx)
print(f"{bundle.name}: {bundle.stat().st_size / 1e3:.0f} kB")

# %% [markdown]
# ## Score it beside the shipped one
#
# A scene that took no part, with its noise. The reference is SL2P of the same scene.

# %%
files = simulate(OUT / "held_out.tif", size=SIZE_PX, seed=99, library=library)
scene = read_scene(files.scene)
reference, _ = sl2p.predict_image(scene)
results = {
    "mine": predict_scene(scene, RunOptions(model=bundle, bands=("LAI",))),
    "shipped": predict_scene(scene, RunOptions(model=default_bundle_path(), bands=("LAI",))),
}
rows = []
for name, cube in results.items():
    agreement = score(reference, cube.sel(bands="LAI").values)
    rows.append({"network": name, "r": agreement.correlation, "RMSE": agreement.rmse})
    rows[-1] |= {"bias": agreement.bias, "mean |difference|": agreement.distance}
print(pd.DataFrame(rows).round(3).to_string(index=False))

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 4))
axes[0].plot(history.epoch + 1, history.loss, "o-", color="black", label="training")
axes[0].plot(history.epoch + 1, history.val_loss, "s--", color="tab:red", label="held out")
axes[0].set(xlabel="epoch", ylabel="loss (Huber)", yscale="log")
axes[0].legend(frameon=False)
for panel, (name, cube) in zip(axes[1:], results.items(), strict=True):
    values = cube.sel(bands="LAI").values
    finite = np.isfinite(values) & np.isfinite(reference)
    image = panel.hexbin(
        reference[finite],
        values[finite],
        gridsize=60,
        bins="log",
        cmap="viridis_r",
        extent=(0, 7, 0, 7),
        mincnt=1,
    )
    panel.plot([0, 7], [0, 7], color="0.5", lw=1)
    panel.set(xlabel="SL2P (m² m⁻²)", ylabel=f"{name} (m² m⁻²)", aspect="equal")
    figure.colorbar(image, ax=panel, label="pixels", shrink=0.85)
figure.savefig(OUT / "3_train_your_own.png")
