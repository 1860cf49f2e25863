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
# # 2 What the uncertainty means
#
# Three numbers go by the name of uncertainty, and they answer three questions:
#
# | number | question | here |
# |---|---|---|
# | interval of the Monte-Carlo mean, ±t σ/√T | would another T draws give the same mean? | the paper's interval |
# | Monte-Carlo σ | how much do networks with dropped channels disagree? | band `LAI_SD` |
# | prediction interval | where would a field measurement lie? | `LAI_LOWER`, `LAI_UPPER` |
#
# Each promises something else. On a **simulated** scene we know the leaf area, and can count how
# often each of them holds it; what the prediction interval promises, though, is about field
# measurements. What was measured on real land stands at the end, and there you can put in a season
# of yours (`LAI_NOTEBOOK_SERIES`).

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from scipy import stats

from lai_training import sl2p
from lai_training.metrics import half_width_of_mean
from lai_training.simulation.simulate import simulate
from lai_training.simulation.spectral_library import shipped_library
from lai_udf.bundle import open_bundle
from lai_udf.predict import CLOUD_NEAR, NO_DATA_NEAR
from lai_udf.run import RunOptions, predict_scene
from lai_udf.scenes.read import read_scene

SIZE_PX = int(os.environ.get("LAI_NOTEBOOK_PX", 192))
DRAWS = 30
OUT = Path(os.environ.get("LAI_NOTEBOOK_OUT", "build/notebooks")).resolve()
OUT.mkdir(parents=True, exist_ok=True)
plt.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 110})

# %% [markdown]
# ## A scene whose LAI is known
#
# Thirty draws: each drops its own set of channels behind the last 3 x 3 convolution, the same ones
# all over the scene, so that σ has no seams and does not depend on how the scene is cut.

# %%
library = shipped_library()
files = simulate(OUT / "uncertain.tif", size=SIZE_PX, seed=11, library=library)
scene = read_scene(files.scene)
with rasterio.open(files.truth) as truth_file:
    truth = truth_file.read(1)
cube = predict_scene(scene, RunOptions(samples=DRAWS, seed=1))
lai, sd, lower, upper, flags = (cube.sel(bands=band).values for band in cube.bands.values)
teacher, _ = sl2p.predict_image(scene)

careful = CLOUD_NEAR | NO_DATA_NEAR
used = np.isfinite(lai) & (flags.astype(np.uint8) & careful == 0) & (truth > 0.05)
print(f"{used.sum()} pixels with leaves")

# %% [markdown]
# ## The interval of the mean
#
# Of T = 30 draws with standard deviation σ the mean is known to ±t σ/√T, with t = 2.045 for 95 %
# and 29 degrees of freedom (the paper prints 1.699, which leaves 5 % on *one* side). It shrinks as
# one draws more, down to nothing: it shows that drawing is finished, not that LAI is right.

# %%
of_mean = half_width_of_mean(sd, DRAWS)
print(f"t from scipy: {stats.t.ppf(0.975, DRAWS - 1):.3f}")
print(f"mean spread of the draws         {sd[used].mean():.3f}")
print(f"mean half-width, interval of mean {of_mean[used].mean():.3f}")
print(f"mean |network - SL2P|            {np.abs(lai - teacher)[used].mean():.3f}")
print(f"mean |network - truth|           {np.abs(lai - truth)[used].mean():.3f}")
print(f"mean half-width, prediction      {(upper - lower)[used].mean() / 2:.3f}")

# %% [markdown]
# ## One row of fields
#
# The interval of the mean is not drawn: it is hardly wider than the red line.

# %%
row = int(np.argmax(used.sum(axis=1)))
km = np.arange(lai.shape[1]) * 0.02
figure, axes = plt.subplots(figsize=(10, 3.8))
axes.fill_between(km, lower[row], upper[row], color="0.85", label="95 % prediction interval")
axes.fill_between(
    km, (lai - 2 * sd)[row], (lai + 2 * sd)[row], color="0.5", label="± 2 Monte-Carlo σ"
)
axes.plot(km, lai[row], color="tab:red", lw=1.4, label="network")
axes.plot(km, truth[row], color="black", lw=1, ls=(0, (4, 2)), label="true LAI")
axes.set(xlabel="east (km)", ylabel="LAI (m² m⁻²)", xlim=(0, km[-1]), ylim=(0, None))
axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.17), frameon=False)
figure.savefig(OUT / "2_transect.png")

# %% [markdown]
# ## How often does each hold what it refers to?
#
# An honest interval of nominal level p holds a share p of what it is about: the diagonal. The two
# Monte-Carlo intervals are drawn against the true LAI of the scene and stay far below it, at every
# level: they are about the network, not about leaves.
#
# The prediction interval is about *field measurements*. It was calibrated on measured fields; the
# bands hold the 95 % interval, and the bundle states what that and three narrower ones held there,
# each site-date predicted without its own measurements (filled stars; `lai-train validate
# PAIRS.csv` counts them anew on pairs of yours). Simulated truth (open star) is another population:
# its landscapes have more dense and pale canopies than the measured fields, where SL2P, whose
# equations the network ends in, reads far too low. No interval covers errors that its data never
# showed. Counted by true LAI, below, it holds nearly all up to 4 and few above 6.

# %%
levels = np.array([0.1, 0.25, 0.5, 0.68, 0.8, 0.9, 0.95, 0.99])
error, spread = np.abs(lai - truth)[used], sd[used]
of_the_mean = [
    np.mean(error <= half_width_of_mean(spread, DRAWS, stats.t.ppf(0.5 + p / 2, DRAWS - 1)))
    for p in levels
]
of_the_spread = [np.mean(error <= stats.norm.ppf(0.5 + p / 2) * spread) for p in levels]
inside = (lower <= truth) & (truth <= upper)
simulated = np.mean(inside[used])
card = open_bundle().contract["calibration"]
scores = card["scores_left_out_site_dates"]["sl2p"]
measured = {p: scores[f"coverage_{p}"] for p in (50, 68, 90)} | {95: scores["coverage"]}

figure, axes = plt.subplots(figsize=(5.6, 5))
axes.plot([0, 100], [0, 100], color="0.6", lw=1)
axes.annotate("honest", (26, 30), rotation=45, color="0.4", ha="center", va="center")
axes.plot(levels * 100, np.array(of_the_spread) * 100, "s--", color="tab:blue", label="± z σ")
axes.plot(
    levels * 100, np.array(of_the_mean) * 100, "o:", color="tab:orange", label="± t σ/√T (paper)"
)
shares = [100 * share for share in measured.values()]
axes.plot(measured.keys(), shares, "*:", ms=14, color="tab:red", label="prediction, field")
axes.plot(
    95, simulated * 100, "*", ms=14, color="tab:red", mfc="white", label="prediction, simulated"
)
axes.set(xlabel="nominal coverage (%)", ylabel="share inside (%)")
axes.set(xlim=(0, 101), ylim=(0, 101), aspect="equal")
axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.94), frameon=False)
figure.savefig(OUT / "2_coverage.png")
print(f"prediction interval, nominal {card['level']:.0%}:")
print(f"  {measured[95]:6.1%} of {card['n_pairs']} field measurements, site-dates left out")
print(f"  {simulated:6.1%} of the simulated pixels, of which")
for low, high in ((0, 2), (2, 4), (4, 6), (6, 15)):
    chosen = used & (low <= truth) & (truth < high)
    share = np.mean(inside[chosen]) if chosen.any() else np.nan
    print(f"    true LAI {low}-{high}: {share:6.1%} of {chosen.sum()} held")

# %% [markdown]
# ## On real land
#
# Two dates of the same fields, five days apart or less and both clear, differ by noise once the slow
# change is taken out. That shows what a network takes out of the noise (`ratio`: its RMSE relative to
# SL2P's own), and whether `LAI_SD` shows where an estimate is off: `sd_rank` is its rank correlation
# with the error, `lai_rank` that of LAI itself. The ratio that the bundle records was measured on a real
# season of Belgian fields; set `LAI_NOTEBOOK_SERIES` to a cube of yours (netCDF or Zarr, ten bands and SCL).

# %%
from lai_training.evaluation.real_imagery import score_date_prediction  # noqa: E402
from lai_training.evaluation.networks import open_networks  # noqa: E402
from lai_udf import read_cube  # noqa: E402
from lai_udf.bundle import default_bundle_path  # noqa: E402

on_real_land = open_bundle().contract["metrics"].get("real_imagery", {})
print(f"pairs of dates, recorded in the bundle: ratio {on_real_land.get('pairs_ratio', float('nan')):.2f}")
left_out = card["scores_left_out_site_dates"]["field"]
print(f"fields: RMSE {left_out['rmse']:.2f}, rank correlation of the interval's width with the error")
print(f"  {left_out['rank_width_error']:.2f}: the width hardly shows which field is off")
if mine := os.environ.get("LAI_NOTEBOOK_SERIES"):
    with open_networks([default_bundle_path()]) as networks:
        print(score_date_prediction(read_cube(mine).load(), networks).round(3).to_string(index=False))

# %% [markdown]
# ## What to use
#
# * Deciding something about a field: `LAI_LOWER` and `LAI_UPPER`.
# * Repeating the paper: `LAI_SD`, the spread of its draws. Do not look for doubtful pixels with it:
#   on real pairs of dates it ranks errors less well than LAI itself does.
# * Trusting it less: where `LAI_FLAGS` is set, above an LAI of 5, and in woods.
# * The interval of the mean: only to decide how many draws are enough.
# * At 20 m the network takes out about a hundredth of the noise; time takes out ten times as much:
#   `lai_udf.smooth`.
