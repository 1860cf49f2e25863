"""The card of a model: the content of `model.json` for people, in Markdown.

In: the description of a bundle, a STAC MLM item with our contract in `lai:contract`. Out: text.
No number is written here that is not in the description; what it lacks, the card lists as not
stated. Sections follow Mitchell et al. 2019, Model Cards for Model Reporting.
"""

import math
from collections.abc import Mapping
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
PAPER_SIZE_PX = 17_554 * 128**2 * 40
"""Pixels that forty epochs of the paper's patches show."""
ANGLES_GIVEN = (
    "Angles given: those of the scene; where it holds none, the sun's by time and place, and a "
    "view drawn within the swath. All other rows are at nominal angles, for network and SL2P alike."
)


def model_card(description: Json) -> str:
    """Return the card, Markdown, of `model.json` of a bundle, opened and verified."""
    properties = description["properties"]
    contract = properties["lai:contract"]
    sections = {
        "Intended use": _use(contract),
        "What it is worth": _worth(contract),
        "Input and output": _input_output(contract),
        "Architecture and reach": _architecture(contract, properties),
        "Training data": _data(contract),
        "Scores": _scores(contract),
        "Calibration": _calibration(contract),
        "Known failures": _failures(contract),
        "Licence": _licence(properties),
        "How to reproduce": _reproduce(description, contract),
    }
    head = f"# Model card: {description['id']}\n\n{properties.get('title', '')}."
    return "\n\n".join([head, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def _use(contract: Json) -> str:
    several = "bodies" in contract
    what = "Leaf area index (m² m⁻²)"
    if several:
        what += ", FAPAR, FCOVER, canopy chlorophyll (CCC) and canopy water (CWC)"
    lines = [
        f"{what} of land under vegetation from Sentinel-2 Level-2A at "
        f"{'20 m or 10 m' if several else '20 m'}, LAI with an uncertainty per pixel: for maps, "
        "for time series, and for parcels.\n",
        "- `target=sl2p` (default): what SL2P, the network inside SNAP's biophysical processor "
        + (
            "(set 2_1), estimates from the corrected spectrum, by its own equations."
            if several
            else "(set 2_1), would estimate for the scene if the sensor had no noise."
        ),
    ]
    if "LAI" in contract["calibration"].get("variables", {}):
        lines.append("- `target=field`: the same, corrected towards field measurements.")
    lines.append(
        "\nNot for: water, snow, cloud or built-up land; other sensors; top-of-atmosphere "
        f"reflectance; other resolutions than {'20 m and 10 m' if several else '20 m'}."
    )
    return "\n".join(lines)


def _worth(contract: Json) -> str:
    """Return the scores on real imagery and field measurements, misses included."""
    found = contract.get("metrics", {}).get("real_imagery", {})
    rows: list[tuple[str, str, str]] = []
    if ratio := found.get("pairs_ratio"):
        rows.append(
            ("20 m LAI predicts another date within 5 days: RMSE / SL2P's", f"{ratio:.2f}", "1")
        )
    if rank := found.get("pairs_rank"):
        title = "the absolute error of that with `LAI_SD`: rank correlation"
        rows.append((title, f"{rank['sd']:+.2f}", f"with LAI itself {rank['lai']:+.2f}"))
    for variable, ratio in found.get("wald_ratio", {}).get("network", {}).items():
        beside = [f"regression of detail {found['wald_ratio']['regression'][variable]:.2f}"]
        if variable in found["wald_ratio"]["snap_10m"]:
            beside.append(f"SNAP's 10 m network {found['wald_ratio']['snap_10m'][variable]:.1f}")
        title = f"10 m {variable} by Wald's protocol: RMSE / that of cubic interpolation"
        rows.append((title, f"{ratio:.2f}", ", ".join(beside)))
    if distance := found.get("ten_metres_distance"):
        title = "10 m LAI averaged to 20 m: mean distance to SL2P at 20 m (m² m⁻²)"
        cubic = f"cubic interpolation {distance['cubic']:.3f}"
        rows.append((title, f"{distance['network']:.3f}", cubic))
    if cloud := found.get("residual_cloud"):
        shares = {name: f"{own['caught']:.0%} at {own['lost']:.1%}" for name, own in cloud.items()}
        title = (
            "pixels contaminated by cloud that SCL missed: caught by flag 128, at good pixels lost"
        )
        rows.append((title, shares["flag_128"], f"SL2P's flag 1: {shares['flag_1']}"))
    for target, own in contract["calibration"].get("scores_left_out_site_dates", {}).items():
        title = f"LAI of fields, target `{target}`, site-dates left out: RMSE (m² m⁻²)"
        rows.append((title, f"{own['rmse']:.2f}", f"bias {own['bias']:+.2f}"))
        title = (
            "its 95 % interval: measurements inside, mean width; rank correlation with the error"
        )
        inside = f"{own['coverage']:.0%}, {own['mean_width']:.2f}"
        rows.append((title, inside, f"{own.get('rank_width_error', math.nan):.2f}"))
    if not rows:
        return NOT_STATED
    table = format_markdown(pd.DataFrame(rows, columns=["what", "figure", "beside it"]))
    return "\n\n".join([table, *_misses(found)])


def _misses(found: Json) -> list[str]:
    """Return in words what the figures of real imagery do not give."""
    lines = []
    if found.get("pairs_ratio", 0) > 0.95:
        lines.append(
            "At 20 m this is SL2P, hardly better: neighbours take out next to nothing of the noise "
            "of real pixels. What it adds is 10 m, the interval and the flags."
        )
    if "wald_ratio" in found:
        lines.append(
            "Wald's protocol degrades scenes that were trained on, if they are those of the "
            "training data below: places left out score somewhat worse."
        )
    if found.get("residual_cloud", {}).get("flag_128", {}).get("caught", 1) < 0.6:
        lines.append("Flag 128 misses about half of the pixels that residual cloud contaminates.")
    return lines


def _input_output(contract: Json) -> str:
    output = contract["output"]
    return (
        f"- In: surface reflectance of {', '.join(contract['bands'])}, by name, offset removed. "
        f"Optional: {', '.join(contract['optional_bands'])} (angles in degrees; nominal ones where "
        "they are missing).\n"
        f"- Out: {', '.join(contract['output_bands'])}. LAI between {output['minimum']:g} and "
        f"{output['maximum']:g}; up to {output['tolerance']:g} beyond it is clipped and flagged, "
        "more is kept and flagged, as SNAP does."
    )


def _architecture(contract: Json, properties: Json) -> str:
    if "bodies" in contract:
        return _bodies(contract)
    network = contract.get("provenance", {}).get("config", {}).get("network", "")
    reach, halo, masks = contract["reach_px"], contract["halo_px"], contract["masks"]
    fits = (
        "fits in the overlap: any tiling gives the same LAI, if windows begin at multiples of "
        f"{contract['window_multiple']} px"
        if reach <= halo
        else "does not fit in the overlap: windows leave seams"
    )
    text = ARCHITECTURES.get(network, properties.get("mlm:architecture", NOT_STATED))
    return (
        f"{text}\n\nReach: a pixel feels neighbours up to {reach} px away; the overlap of windows "
        f"is {halo} px. The reach {fits}. Droppable channels: {masks['count']}, dropped with "
        f"probability {masks['rate']:g} in a draw."
    )


def _bodies(contract: Json) -> str:
    """Describe a bundle of contract 2: a body per resolution, SL2P behind both."""
    parts = [
        "A body of 3x3 convolutions on the 20 m grid gives a context, a linear map of the context "
        "corrects the spectrum, and SL2P's equations read it: fixed, at the angles of the scene, "
        "for five variables. A correction of zero is SL2P to rounding. At 20 m all ten bands are "
        "corrected, a little. At 10 m the four 10 m bands stay as they are, the six others get "
        "detail, and the mean of four pixels gives back the 20 m band. Monte-Carlo draws drop "
        "channels of the context; with `samples=0` their spread is worked out to first order in "
        "the same pass. Bits 1 to 16 of the flags are SL2P's: of the input at 20 m, of the "
        "restored spectrum at 10 m."
    ]
    for resolution, body in contract["bodies"].items():
        masks = body["masks"]
        parts.append(
            f"{resolution} m: reach {body['reach_px']} px (the overlap of windows is "
            f"{contract['halo_px']} px: any tiling gives the same LAI), {masks['count']} "
            f"droppable channels, dropped with probability {masks['rate']:g}."
        )
    return "\n\n".join(parts)


def _body_data(provenance: Json) -> str:
    """Return what both bodies were trained on, from the provenance of their run."""
    config, scenes = provenance["config"], provenance.get("scenes", ())
    return (
        f"{len(scenes)} real scenes at 20 m and, for {config['simulated_share']:.0%} of the "
        f"samples, {config['simulated_patches']} simulated patches. At 10 m by Wald's protocol: "
        "scenes are degraded twofold, and what they were before is the truth. At 20 m scenes are "
        "shifted by fractions of a pixel (0.3 px standard deviation, 0.08 px between bands) and "
        "given noise of the size and band correlation that pairs of dates of real series show "
        f"(level {config['body_20m']['noise_level']:g}); the undisturbed scene is the truth. The "
        "loss is the error of five variables as SL2P reads them where it is valid, and of the "
        f"bands. Samples: {_count_samples(config['body_20m'])} at 20 m, "
        f"{_count_samples(config['body_10m'])} at 10 m."
        + (f" Fitted on {provenance['device']}." if provenance.get("device") else "")
    )


def _count_samples(body: Json) -> str:
    drawn = body["epochs"] * body["steps"] * body["batch"]
    return f"{drawn:,} of {body['patch_px']} px"


def _data(contract: Json) -> str:
    config = contract.get("provenance", {}).get("config")
    if not config:
        return NOT_STATED
    if "bodies" in contract:
        return _body_data(contract["provenance"])
    samples, pool = config["samples"], config["pool"]
    drawn = config["epochs"] * config["steps"] * samples["batch"]
    text = (
        "Labels are SL2P (set 2_1) of the noise-free patch, at the angles of the input. "
        f"{_origin(pool)}; {drawn:,} samples of {samples['patch_px']} px cut from them, "
        f"{samples['noisy_share']:.0%} with band noise (level 1: "
        f"{samples['noise_relative']:.0%} of the reflectance + {samples['noise_absolute']:g}), "
        f"{samples['nominal_angle_share']:.0%} with angles withheld, "
        f"{samples['missing_share']:.0%} with parts missing. That is "
        f"{drawn * samples['patch_px'] ** 2 / PAPER_SIZE_PX:.2g} times the pixels of a paper-size "
        "run (17,554 patches of 128 px, 40 epochs)."
    )
    if device := contract["provenance"].get("device"):
        text += f" Fitted on {device}."
    return text


def _origin(pool: Json) -> str:
    """Return where patches come from: simulated, by three numbers, or from somewhere else."""
    if set(pool) == {"patches", "size_px", "seed"}:
        return (
            f"{pool['patches']:,} patches of {pool['size_px']} px (seed {pool['seed']}), simulated "
            "(PROSAIL surfaces in landscapes of parcels; no real image)"
        )
    return "Patches: " + ", ".join(f"{key} {value}" for key, value in pool.items())


def _scores(contract: Json) -> str:
    metrics: Json = contract.get("metrics", {})
    known = {name: own for name, own in metrics.items() if name != "real_imagery"}
    if not known:
        return NOT_STATED
    parts = []
    emulation = {name: own for name, own in known.items() if "correlation_squared" in own}
    if emulation:
        titles = {
            "n": "pixels",
            "distance": "average distance",
            "rmse": "RMSE",
            "r_squared": "R²",
            "rmse_ratio": "RMSE / RMSE of SL2P",
        }
        columns = ["scenes", "n", "correlation", "distance", "rmse", "r_squared", "rmse_ratio"]
        table = pd.DataFrame(list(emulation.values())).reindex(columns=columns)
        cases = [name.removeprefix("sl2p_on_").replace("_", " ") for name in emulation]
        table.insert(0, "case", cases)
        parts.append(
            "Against SL2P of the noise-free image at the same angles, clear vegetated pixels:\n\n"
            + format_markdown(table.astype(object).rename(columns=titles))
        )
        if any(name.endswith("angles_given") for name in emulation):
            parts.append(ANGLES_GIVEN)
    for name in known.keys() - emulation.keys():
        facts = ", ".join(f"{key.replace('_', ' ')} {own}" for key, own in known[name].items())
        parts.append(f"- {name.replace('_', ' ').capitalize()}: {facts}.")
    return "\n\n".join(parts)


def _calibration(contract: Json) -> str:
    calibration: Json = contract["calibration"]
    if "level" not in calibration:
        return "None: `LAI_LOWER` and `LAI_UPPER` of this bundle are undefined."
    parts = [
        f"`LAI_LOWER` and `LAI_UPPER` are meant to hold {calibration['level']:.0%} of field "
        f"measurements. Method: {calibration.get('method', 'not stated')}. Data: "
        f"{calibration.get('n_pairs', '?')} field pairs of {calibration.get('n_site_dates', '?')} "
        f"site-dates ({calibration.get('data', 'not named')}). Made on: "
        f"{calibration.get('date', 'not stated')}."
    ]
    if left_out := calibration.get("scores_left_out_site_dates"):
        scores = pd.DataFrame(list(left_out.values())).rename(columns=lambda n: n.replace("_", " "))
        scores.insert(0, "target", list(left_out))
        table = format_markdown(scores)
        parts.append(f"On site-dates that were left out, against field LAI:\n\n{table}")
    for variable, entry in calibration.get("variables", {}).items():
        parts.append(_variable(variable, entry))
    return "\n\n".join(parts)


def _variable(variable: str, entry: Json) -> str:
    """Describe correction and interval of a variable."""
    correction = entry["with_sun"]["correction"]
    widths = [
        [region, *(f"{width:.2f}" for width in entry["half_widths"][region])]
        for region in ("known", "new")
    ]
    titles = ["region", *(f"{level:.1%}" for level in entry["levels"])]
    return (
        f"{variable}: `target=field` adds the output of a layer of {len(correction['hidden'])} "
        f"tanh units over {', '.join(correction['bands'])} and the sun zenith, at most "
        f"{correction['limit']:g} either way, nothing where the input is out of domain. Judged on "
        f"{entry['rows']} measurements of {entry['groups']} groups; {entry['shared']:.0%} of the "
        "error's variance is shared by a site-date. Half-widths of the interval in units of its "
        f"scale:\n\n{format_markdown(pd.DataFrame(widths, columns=titles))}"
    )


def _failures(contract: Json) -> str:
    calibration: Json = contract["calibration"]
    left_out = calibration.get("scores_left_out_site_dates", {})
    lines = [
        "It inherits what SL2P gets wrong: LAI of forests is low by 20-50 % above 2 (Fernandes et "
        "al. 2023, 281 sites), dense canopies saturate, and senescent leaves are hardly seen.",
        "Haze and thin cloud that the scene classification misses are taken for land"
        + (
            "; flag 128 marks about half of these pixels, no shadow, and some clear land."
            if "residual_cloud" in contract.get("flags", {})
            else "."
        ),
        "An offset left in the reflectance shifts LAI. The guard refuses one of 0.1; smaller ones "
        "may pass.",
        "Flagged pixels (out of domain, near cloud or missing data) are less certain than their "
        "interval states.",
        "`LAI_SD` is the paper's quantity and no more: on real pairs of dates it ranks errors "
        "no better than LAI itself (both grow with the error), and on field measurements not at "
        "all.",
    ]
    if "n_pairs" in calibration:
        lines.append(
            f"The interval rests on {calibration['n_pairs']} field pairs of "
            f"{calibration.get('n_site_dates', 'few')} site-dates; for crops, seasons and regions "
            "unlike theirs its coverage has not been checked."
        )
    for target, own in left_out.items():
        if "bias" in own:
            lines.append(f"Bias against field LAI, target `{target}`: {own['bias']:+.2f}.")
    if contract["reach_px"] > contract["halo_px"]:
        lines.append("Windows leave seams: the reach does not fit in the overlap.")
    elif contract["window_multiple"] > 1 and "bodies" not in contract:
        lines.append(
            f"Another origin of the windows than a multiple of {contract['window_multiple']} px "
            "moves the grid of the poolings, and LAI a little with it."
        )
    if "level" not in calibration:
        lines.append("The interval is not calibrated.")
    return "\n".join(f"- {line}" for line in lines)


def _licence(properties: Json) -> str:
    licence = properties.get("license")
    return f"{licence}." if licence else NOT_STATED


def _reproduce(description: Json, contract: Json) -> str:
    provenance: Json = contract.get("provenance", {})
    asset = description["assets"]["model"]
    versions = ", ".join(f"{name} {own}" for name, own in provenance.get("versions", {}).items())
    parts = [
        "```sh\nlai-train fit CONFIG.yaml   # the config below\n"
        f"lai-train export runs/CONFIG BUNDLE.zip --version {contract['model_version']} "
        "--pairs PAIRS.csv --scenes SCENES\nlai-train evaluate BUNDLE.zip --report REPORT\n```",
        f"Commit {provenance.get('commit', 'not stated')}, backend "
        f"{provenance.get('backend', 'not stated')}, {versions or 'versions not stated'}. Weights: "
        f"{asset['file:size']:,} bytes, sha2-256 `{asset['file:checksum'].removeprefix('1220')}`.",
    ]
    if "config" in provenance:
        config = yaml.safe_dump(dict(provenance["config"]), sort_keys=False)
        parts.append(f"```yaml\n{config}```")
    return "\n\n".join(parts)
