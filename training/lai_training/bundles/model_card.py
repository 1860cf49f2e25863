"""The card of a model: the content of `model.json` for people, in Markdown.

In: the description of a bundle, a STAC MLM item with our contract in `lai:contract`. Out: text,
`model_card.md` and paragraphs of `words_of_reports.md` filled in. No number is written here that is
not in the description. Sections follow Mitchell et al. 2019, Model Cards for Model Reporting.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lai_training.reporting import format_markdown, read_words

Json = Mapping[str, Any]

NOT_STATED = "Not stated in `model.json`."
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
    provenance, words = contract["provenance"], read_words()
    config = provenance["config"]
    reaches = [
        words["body reach"].format(resolution=resolution, halo_px=contract["halo_px"], **body)
        for resolution, body in contract["bodies"].items()
    ]
    samples = [
        f"{body['epochs'] * body['steps'] * body['batch']:,} of {body['patch_px']} px at {size} m"
        for size, body in ((size, config[f"body_{size}m"]) for size in (20, 10))
    ]
    facts = {"device": provenance["device"], "samples": ", ".join(samples)}
    facts |= {"scenes": len(provenance["scenes"])}
    return {
        "variables": "Leaf area index (m² m⁻²), FAPAR, FCOVER, canopy chlorophyll (CCC) and canopy "
        "water (CWC)",
        "at": "20 m or 10 m",
        "resolutions": "20 m and 10 m",
        "emulated": "estimates from the corrected spectrum, by its own equations.",
        "architecture": "\n\n".join([words["bodies"], *reaches]),
        "data": words["bodies data"].format(**{**config, **facts}),
    }


def _network(contract: Json) -> dict[str, str]:
    """Return what the card states of a network of the paper only."""
    config, words = contract["provenance"]["config"], read_words()
    samples, pool = config["samples"], config["pool"]
    drawn = config["epochs"] * config["steps"] * samples["batch"]
    fits = "does not fit in the overlap: windows leave seams"
    if contract["reach_px"] <= contract["halo_px"]:
        fits = "fits in the overlap: any tiling gives the same LAI, if windows begin at multiples "
        fits += f"of {contract['window_multiple']} px"
    facts = {
        "device": contract["provenance"]["device"],
        "origin": "Patches: " + ", ".join(f"{key} {value}" for key, value in pool.items())
        if "prepared" in pool
        else words["simulated patches"].format(**pool),
        "drawn": drawn,
        "paper_sizes": drawn * samples["patch_px"] ** 2 / PAPER_SIZE_PX,
    }
    architecture = [
        words[f"network {config['network']}"],
        words["network reach"].format(fits=fits, **contract),
    ]
    return {
        "variables": "Leaf area index (m² m⁻²)",
        "at": "20 m",
        "resolutions": "20 m",
        "emulated": "would estimate for the scene if the sensor had no noise.",
        "architecture": "\n\n".join(architecture),
        "data": words["network data"].format(**samples, **facts),
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
        yield read_words()["hardly better"]
    if wald:
        yield read_words()["scenes trained on"]
    if cloud and cloud["flag_128"]["caught"] < 0.6:
        yield read_words()["cloud missed"]


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
            yield read_words()["angles given"]
    for name in metrics.keys() - emulation.keys():
        facts = ", ".join(f"{key.replace('_', ' ')} {own}" for key, own in metrics[name].items())
        yield f"- {name.replace('_', ' ').capitalize()}: {facts}."


def _calibration(calibration: Json) -> Iterator[str]:
    if not calibration:
        yield "None: `LAI_LOWER` and `LAI_UPPER` of this bundle are undefined."
        return
    words = read_words()
    yield words["calibration"].format(**{"date": "not stated", **calibration})
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
        facts = {"variable": variable, "units": len(correction["hidden"])}
        facts |= {"bands": ", ".join(correction["bands"]), "limit": correction["limit"]}
        text = words["correction"].format(**{**entry, **facts})
        yield f"{text}\n\n{format_markdown(pd.DataFrame(widths, columns=titles))}"


def _failures(contract: Json) -> Iterator[str]:
    """Yield the known failures that not every bundle has."""
    calibration: Json = contract["calibration"]
    if calibration:
        yield read_words()["few pairs"].format(**calibration)
        for target, own in calibration["scores_left_out_site_dates"].items():
            yield f"Bias against field LAI, target `{target}`: {own['bias']:+.2f}."
    else:
        yield "The interval is not calibrated."
    if contract["reach_px"] > contract["halo_px"]:
        yield "Windows leave seams: the reach does not fit in the overlap."
    elif contract["window_multiple"] > 1 and "bodies" not in contract:
        yield read_words()["origin of windows"].format(**contract)
