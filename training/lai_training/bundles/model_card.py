"""The card of a model: the content of `model.json` for people, in Markdown.

In: the description of a bundle, a STAC MLM item with our contract in `lai:contract`. Out: text,
`model_card.md` filled in. No number is written here that is not in the description. Sections follow
Mitchell et al. 2019, Model Cards for Model Reporting.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lai_training.reporting import format_markdown

Json = Mapping[str, Any]

NOT_STATED = "Not stated in `model.json`."
ARCHITECTURES = {
    "paper": "The UNet of Albughdadi et al. 2020 (figure 2): four poolings from 32 feature maps, "
    "batch normalisation, spatial dropout in every block. It gets no angles. Dropout masks are an "
    "input.",
    "mlp": "The per-pixel network of Albughdadi et al. 2020 (section 3.2): 256-128-64-1 with "
    "dropout. It sees no neighbours. Dropout masks are an input.",
}
"""By `network` of the training config."""
BODIES = (
    "A body of 3x3 convolutions on the 20 m grid gives a context, a linear map of the context "
    "corrects the spectrum, and SL2P's equations read it: fixed, at the angles of the scene, for "
    "five variables. A correction of zero is SL2P to rounding. At 20 m all ten bands are "
    "corrected, a little. At 10 m the four 10 m bands stay as they are, the six others get detail, "
    "and the mean of four pixels gives back the 20 m band. Monte-Carlo draws drop channels of the "
    "context; with `samples=0` their spread is worked out to first order in the same pass. Bits 1 "
    "to 16 of the flags are SL2P's: of the input at 20 m, of the restored spectrum at 10 m."
)
PAPER_SIZE_PX = 17_554 * 128**2 * 40
"""Pixels that forty epochs of the paper's patches show."""
SCORES = {
    "scenes": "scenes",
    "n": "pixels",
    "correlation": "correlation",
    "distance": "average distance",
    "rmse": "RMSE",
    "r_squared": "R²",
    "rmse_ratio": "RMSE / RMSE of SL2P",
}
ANGLES_GIVEN = (
    "Angles given: those of the scene; where it holds none, the sun's by time and place, and a "
    "view drawn within the swath. All other rows are at nominal angles, for network and SL2P alike."
)


def model_card(description: Json) -> str:
    """Return the card, Markdown, of `model.json` of a bundle, opened and verified."""
    properties, asset = description["properties"], description["assets"]["model"]
    contract = properties["lai:contract"]
    provenance, calibration = contract["provenance"], contract["calibration"]
    metrics = dict(contract["metrics"])
    worth = metrics.pop("real_imagery", {})
    field = "- `target=field`: the same, corrected towards field measurements.\n"
    haze = "; flag 128 marks about half of these pixels, no shadow, and some clear land"
    values = {
        "id": description["id"],
        "title": properties["title"],
        "field_target": field if calibration else "",
        "worth": "\n\n".join(_worth(worth, calibration)) or NOT_STATED,
        **{key: ", ".join(contract[key]) for key in ("bands", "optional_bands", "output_bands")},
        **contract["output"],
        "scores": "\n\n".join(_scores(metrics)) or NOT_STATED,
        "calibration": "\n\n".join(_calibration(calibration)),
        "haze": haze if "residual_cloud" in contract.get("flags", {}) else "",
        "failures": "\n".join(f"- {failure}" for failure in _failures(contract)),
        "licence": properties["license"],
        "version": contract["model_version"],
        "commit": provenance["commit"],
        "backend": provenance["backend"],
        "versions": ", ".join(f"{name} {own}" for name, own in provenance["versions"].items()),
        "size": asset["file:size"],
        "checksum": asset["file:checksum"].removeprefix("1220"),
        "config": yaml.safe_dump(dict(provenance["config"]), sort_keys=False),
        **(_bodies(contract) if "bodies" in contract else _network(contract)),
    }
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    return template.format_map(values)


def _bodies(contract: Json) -> dict[str, str]:
    """Return what the card states of bundles of contract 2 only."""
    provenance = contract["provenance"]
    config, scenes = provenance["config"], provenance["scenes"]
    reaches = [
        f"{resolution} m: reach {body['reach_px']} px (the overlap of windows is "
        f"{contract['halo_px']} px: any tiling gives the same LAI), {body['masks']['count']} "
        f"droppable channels, dropped with probability {body['masks']['rate']:g}."
        for resolution, body in contract["bodies"].items()
    ]
    samples = [
        f"{body['epochs'] * body['steps'] * body['batch']:,} of {body['patch_px']} px at {size} m"
        for size, body in ((size, config[f"body_{size}m"]) for size in (20, 10))
    ]
    return {
        "variables": "Leaf area index (m² m⁻²), FAPAR, FCOVER, canopy chlorophyll (CCC) and canopy "
        "water (CWC)",
        "at": "20 m or 10 m",
        "resolutions": "20 m and 10 m",
        "emulated": "estimates from the corrected spectrum, by its own equations.",
        "architecture": "\n\n".join([BODIES, *reaches]),
        "data": f"{len(scenes)} real scenes at 20 m and, for {config['simulated_share']:.0%} of "
        f"the samples, {config['simulated_patches']} simulated patches. At 10 m by Wald's "
        "protocol: scenes are degraded twofold, and what they were before is the truth. At 20 m "
        "scenes are shifted by fractions of a pixel (0.3 px standard deviation, 0.08 px between "
        "bands) and given noise of the size and band correlation that pairs of dates of real "
        f"series show (level {config['body_20m']['noise_level']:g}); the undisturbed scene is the "
        "truth. The loss is the error of five variables as SL2P reads them where it is valid, and "
        f"of the bands. Samples: {', '.join(samples)}. Fitted on {provenance['device']}.",
    }


def _network(contract: Json) -> dict[str, str]:
    """Return what the card states of a network of the paper only."""
    provenance, reach, halo = contract["provenance"], contract["reach_px"], contract["halo_px"]
    config, masks = provenance["config"], contract["masks"]
    samples, pool = config["samples"], config["pool"]
    drawn = config["epochs"] * config["steps"] * samples["batch"]
    fits = (
        "fits in the overlap: any tiling gives the same LAI, if windows begin at multiples of "
        f"{contract['window_multiple']} px"
        if reach <= halo
        else "does not fit in the overlap: windows leave seams"
    )
    origin = "Patches: " + ", ".join(f"{key} {value}" for key, value in pool.items())
    if "prepared" not in pool:
        origin = (
            f"{pool['patches']:,} patches of {pool['size_px']} px (seed {pool['seed']}), simulated "
            "(PROSAIL surfaces in landscapes of parcels; no real image)"
        )
    return {
        "variables": "Leaf area index (m² m⁻²)",
        "at": "20 m",
        "resolutions": "20 m",
        "emulated": "would estimate for the scene if the sensor had no noise.",
        "architecture": f"{ARCHITECTURES[config['network']]}\n\nReach: a pixel feels neighbours up "
        f"to {reach} px away; the overlap of windows is {halo} px. The reach {fits}. Droppable "
        f"channels: {masks['count']}, dropped with probability {masks['rate']:g} in a draw.",
        "data": "Labels are SL2P (set 2_1) of the noise-free patch, at the angles of the input. "
        f"{origin}; {drawn:,} samples of {samples['patch_px']} px cut from them, "
        f"{samples['noisy_share']:.0%} with band noise (level 1: {samples['noise_relative']:.0%} "
        f"of the reflectance + {samples['noise_absolute']:g}), "
        f"{samples['nominal_angle_share']:.0%} with angles withheld, "
        f"{samples['missing_share']:.0%} with parts missing. That is "
        f"{drawn * samples['patch_px'] ** 2 / PAPER_SIZE_PX:.2g} times the pixels of a paper-size "
        f"run (17,554 patches of 128 px, 40 epochs). Fitted on {provenance['device']}.",
    }


def _worth(worth: Json, calibration: Json) -> Iterator[str]:
    """Yield the scores on real imagery and field measurements, then what they do not give."""
    rows: list[tuple[str, str, str]] = []
    if ratio := worth.get("pairs_ratio"):
        rows.append(
            ("20 m LAI predicts another date within 5 days: RMSE / SL2P's", f"{ratio:.2f}", "1")
        )
    if rank := worth.get("pairs_rank"):
        title = "the absolute error of that with `LAI_SD`: rank correlation"
        rows.append((title, f"{rank['sd']:+.2f}", f"with LAI itself {rank['lai']:+.2f}"))
    wald = worth.get("wald_ratio", {})
    for variable, ratio in wald.get("network", {}).items():
        beside = f"regression of detail {wald['regression'][variable]:.2f}"
        if variable in wald["snap_10m"]:
            beside += f", SNAP's 10 m network {wald['snap_10m'][variable]:.1f}"
        title = f"10 m {variable} by Wald's protocol: RMSE / that of cubic interpolation"
        rows.append((title, f"{ratio:.2f}", beside))
    if distance := worth.get("ten_metres_distance"):
        title = "10 m LAI averaged to 20 m: mean distance to SL2P at 20 m (m² m⁻²)"
        cubic = f"cubic interpolation {distance['cubic']:.3f}"
        rows.append((title, f"{distance['network']:.3f}", cubic))
    cloud = worth.get("residual_cloud", {})
    if cloud:
        shares = {name: f"{own['caught']:.0%} at {own['lost']:.1%}" for name, own in cloud.items()}
        title = (
            "pixels contaminated by cloud that SCL missed: caught by flag 128, at good pixels lost"
        )
        rows.append((title, shares["flag_128"], f"SL2P's flag 1: {shares['flag_1']}"))
    for target, own in calibration.get("scores_left_out_site_dates", {}).items():
        title = f"LAI of fields, target `{target}`, site-dates left out: RMSE (m² m⁻²)"
        rows.append((title, f"{own['rmse']:.2f}", f"bias {own['bias']:+.2f}"))
        title = (
            "its 95 % interval: measurements inside, mean width; rank correlation with the error"
        )
        inside = f"{own['coverage']:.0%}, {own['mean_width']:.2f}"
        rows.append((title, inside, f"{own.get('rank_width_error', math.nan):.2f}"))
    if rows:
        yield format_markdown(pd.DataFrame(rows, columns=["what", "figure", "beside it"]))
    if worth.get("pairs_ratio", 0) > 0.95:
        yield (
            "At 20 m this is SL2P, hardly better: neighbours take out next to nothing of the noise "
            "of real pixels. What it adds is 10 m, the interval and the flags."
        )
    if wald:
        yield (
            "Wald's protocol degrades scenes that were trained on, if they are those of the "
            "training data below: places left out score somewhat worse."
        )
    if cloud and cloud["flag_128"]["caught"] < 0.6:
        yield "Flag 128 misses about half of the pixels that residual cloud contaminates."


def _scores(metrics: Json) -> Iterator[str]:
    """Yield the scores against SL2P as a table, then others."""
    emulation = {name: own for name, own in metrics.items() if "correlation_squared" in own}
    if emulation:
        table = pd.DataFrame(list(emulation.values())).reindex(columns=list(SCORES))
        cases = [name.removeprefix("sl2p_on_").replace("_", " ") for name in emulation]
        table.insert(0, "case", cases)
        yield (
            "Against SL2P of the noise-free image at the same angles, clear vegetated pixels:\n\n"
            + format_markdown(table.astype(object).rename(columns=SCORES))
        )
        if any(name.endswith("angles_given") for name in emulation):
            yield ANGLES_GIVEN
    for name in metrics.keys() - emulation.keys():
        facts = ", ".join(f"{key.replace('_', ' ')} {own}" for key, own in metrics[name].items())
        yield f"- {name.replace('_', ' ').capitalize()}: {facts}."


def _calibration(calibration: Json) -> Iterator[str]:
    if not calibration:
        yield "None: `LAI_LOWER` and `LAI_UPPER` of this bundle are undefined."
        return
    yield (
        f"`LAI_LOWER` and `LAI_UPPER` are meant to hold {calibration['level']:.0%} of field "
        f"measurements. Method: {calibration['method']}. Data: {calibration['n_pairs']} field "
        f"pairs of {calibration['n_site_dates']} site-dates ({calibration['data']}). Made on: "
        f"{calibration.get('date', 'not stated')}."
    )
    left_out = calibration["scores_left_out_site_dates"]
    scores = pd.DataFrame(list(left_out.values())).rename(columns=lambda n: n.replace("_", " "))
    scores.insert(0, "target", list(left_out))
    yield (f"On site-dates that were left out, against field LAI:\n\n{format_markdown(scores)}")
    for variable, entry in calibration["variables"].items():
        correction = entry["with_sun"]["correction"]
        widths = [
            [region, *(f"{width:.2f}" for width in entry["half_widths"][region])]
            for region in ("known", "new")
        ]
        titles = ["region", *(f"{level:.1%}" for level in entry["levels"])]
        yield (
            f"{variable}: `target=field` adds the output of a layer of "
            f"{len(correction['hidden'])} tanh units over {', '.join(correction['bands'])} and the "
            f"sun zenith, at most {correction['limit']:g} either way, nothing where the input is "
            f"out of domain. Judged on {entry['rows']} measurements of {entry['groups']} groups; "
            f"{entry['shared']:.0%} of the error's variance is shared by a site-date. Half-widths "
            "of the interval in units of its scale:\n\n"
            + format_markdown(pd.DataFrame(widths, columns=titles))
        )


def _failures(contract: Json) -> Iterator[str]:
    """Yield the known failures that not every bundle has."""
    calibration: Json = contract["calibration"]
    if calibration:
        yield (
            f"The interval rests on {calibration['n_pairs']} field pairs of "
            f"{calibration['n_site_dates']} site-dates; for crops, seasons and regions unlike "
            "theirs its coverage has not been checked."
        )
        for target, own in calibration["scores_left_out_site_dates"].items():
            yield f"Bias against field LAI, target `{target}`: {own['bias']:+.2f}."
    else:
        yield "The interval is not calibrated."
    if contract["reach_px"] > contract["halo_px"]:
        yield "Windows leave seams: the reach does not fit in the overlap."
    elif contract["window_multiple"] > 1 and "bodies" not in contract:
        yield (
            f"Another origin of the windows than a multiple of {contract['window_multiple']} px "
            "moves the grid of the poolings, and LAI a little with it."
        )
