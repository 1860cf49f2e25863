"""How output bands are described, by CF's conventions: names, units, meaning of the flags."""

from typing import Any

import numpy as np

from lai_udf import predict
from lai_udf.predict import VARIABLES

LONG_NAMES = {
    "LAI": "leaf area index",
    "FAPAR": "fraction of absorbed photosynthetically active radiation",
    "FCOVER": "fraction of vegetation cover",
    "CCC": "canopy chlorophyll content",
    "CWC": "canopy water content",
}
STANDARD_NAMES = {
    "LAI": "leaf_area_index",
    "FAPAR": "fraction_of_surface_downwelling_photosynthetic_radiative_flux_absorbed_by_vegetation",
    "FCOVER": "vegetation_area_fraction",
}
"""Of CF's table, where it has the quantity."""

FLAG_MEANINGS = {
    predict.INPUT_OUT_OF_DOMAIN: "input_out_of_domain",
    predict.CLIPPED_TO_MIN: "clipped_to_minimum",
    predict.CLIPPED_TO_MAX: "clipped_to_maximum",
    predict.OUTPUT_TOO_LOW: "output_too_low",
    predict.OUTPUT_TOO_HIGH: "output_too_high",
    predict.CLOUD_NEAR: "cloud_near",
    predict.NO_DATA_NEAR: "no_data_near",
    predict.RESIDUAL_CLOUD: "residual_cloud_haze_or_shadow",
}


def describe_variable(band: str, *, level: float = 0.95, samples: int = 0) -> dict[str, Any]:
    """Return the CF attributes of an output band."""
    variable, _, part = band.partition("_")
    long_name, unit = LONG_NAMES[variable], VARIABLES[variable].unit
    if part == "FLAGS":
        return {
            "long_name": f"quality flags of {long_name}",
            "standard_name": "quality_flag",
            "flag_masks": np.array(list(FLAG_MEANINGS), np.uint8),
            "flag_meanings": " ".join(FLAG_MEANINGS.values()),
        }
    percent = f"{100 * level:g} %"
    names = {
        "": long_name,
        "SD": f"{spread_name(samples)} of {long_name}",
        "LOWER": f"lower bound of the {percent} prediction interval of {long_name}",
        "UPPER": f"upper bound of the {percent} prediction interval of {long_name}",
    }
    described = {"long_name": names[part], "units": unit}
    if not part and variable in STANDARD_NAMES:
        described["standard_name"] = STANDARD_NAMES[variable]
        if variable == "LAI":
            described["ancillary_variables"] = "LAI_FLAGS"
    return described


def spread_name(samples: int) -> str:
    """Return what `LAI_SD` is: of so many draws, or what a single pass estimates of them."""
    if samples:
        return f"standard deviation of {samples} Monte-Carlo draws"
    return "single-pass Monte-Carlo dropout standard deviation"
