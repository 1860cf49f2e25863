"""What the numbers of one band of a cube mean: scaling by date, no data, classes, angles.

In: a band as xarray holds it, with its attributes and encoding. Out: a `Plane`, whose values stay
where they are, and its values decoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lai_udf.errors import MetadataError, MissingBandError
from lai_udf.predict import ANGLES, to_reflectance
from lai_udf.scenes.bands import ArrayBand
from lai_udf.scenes.labels import SCENE_CLASS_BAND
from lai_udf.scenes.metadata import (
    Declared,
    Scaling,
    baseline_scaling,
    choose_scaling,
    is_true,
    no_data_numbers,
)

NODATA_KEYS = ("_FillValue", "missing_value", "nodata")
BASELINE_COORDINATES = ("s2:processing_baseline", "processing:version", "processing_baseline")
OFFSET_APPLIED_COORDINATES = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


@dataclass(frozen=True)
class Plane:
    """One band of a cube, as it is stored."""

    values: xr.DataArray  # dims (t, y, x), north up; angles may lack y and x
    scalings: tuple[Scaling, ...]  # one for all dates, or one for each
    nodata: tuple[float, ...] = ()  # stored numbers of no data

    def scaling(self, date: int) -> Scaling:
        """Return the scaling of a date."""
        return self.scalings[date if len(self.scalings) > 1 else 0]

    def band(self, label: str, path: str, date: int, array: xr.DataArray) -> ArrayBand:
        """Return one date (y, x) as the band of a scene."""
        scaling = self.scaling(date)
        return ArrayBand(label, path, scaling=scaling, nodata=self.nodata, array=array)


def read_plane(
    label: str,
    band: xr.DataArray,
    data: xr.Dataset | xr.DataArray,
    times: npt.NDArray[np.datetime64] | None,
    declared: Declared,
    name: str,
) -> Plane:
    """Return a band with what its numbers mean."""
    if band.dtype.kind not in "iufb":
        raise MissingBandError(f"{name}: band {label} holds {band.dtype}, not numbers")
    encoded = {**data.attrs, **band.attrs}
    nodata = [float(encoded[key]) for key in NODATA_KEYS if _is_number(encoded.get(key))]
    if label == SCENE_CLASS_BAND:
        return Plane(band, (Scaling(found="classes"),), tuple(nodata))
    stated = _stated_scaling(band)
    if label in ANGLES:
        return Plane(band, (stated or Scaling(),), tuple(nodata))
    size = band.sizes["t"] if "t" in band.dims else 1
    stated_by_date: Sequence[Scaling | None] = [stated]
    if stated is None and band.dtype.kind != "f":
        stated_by_date = _by_baseline(data, size) or [None]
    elif stated is None and band.encoding.get("scale_factor") is not None:
        _refuse_scaling_twice(band, declared, f"{name}, band {label}")
        stated_by_date = [Scaling(1.0, 0.0, True, "decoded on opening")]
    dates = [""] * len(stated_by_date)
    if isinstance(declared.reflectance_offset, Mapping):
        dates = [""] * size
        if times is not None:
            dates = [f"{text}Z" for text in np.datetime_as_string(times, unit="s")]
        stated_by_date = list(stated_by_date) * (size if len(stated_by_date) == 1 else 1)
    where = f"{name}, band {label}"
    scalings = tuple(
        choose_scaling(one, declared, band.dtype, where, time=date)
        for one, date in zip(stated_by_date, dates, strict=True)
    )
    scale = next((one.scale for one in scalings if one.scale != 1), 1.0)
    return Plane(band, scalings, tuple(no_data_numbers(nodata, band.dtype, scale)))


def _refuse_scaling_twice(band: xr.DataArray, declared: Declared, where: str) -> None:
    """Raise `MetadataError` where scale or offset are declared that xarray has applied already."""
    scale, offset = declared.reflectance_scale, declared.reflectance_offset
    offsets = offset.values() if isinstance(offset, Mapping) else [offset or 0.0]
    for parameter, attribute, nothing, value, declares in (
        ("reflectance_scale", "scale_factor", 1, scale, scale not in (None, 1)),
        ("reflectance_offset", "add_offset", 0, offset, any(offsets)),
    ):
        applied = band.encoding.get(attribute)
        if declares and applied not in (None, nothing):
            raise MetadataError(
                f"{where} was decoded on opening ({attribute} {applied:g}), which "
                "mask_and_scale=False prevents",
                parameter=parameter,
                value=value,
            )


def _stated_scaling(band: xr.DataArray) -> Scaling | None:
    """Return the scaling that attributes state of values that are not decoded yet.

    CF's `scale_factor` and `add_offset`, EOPF's own, and those of GDAL that rioxarray keeps.
    """
    own = band.attrs.get("_eopf_attrs") or {}
    for attributes, found in ((own, "EOPF attributes"), (band.attrs, "attributes of the band")):
        scale = attributes.get("scale_factor", attributes.get("scale"))
        offset = attributes.get("add_offset", attributes.get("offset"))
        if scale is not None and _is_number(scale):
            numbers = float(scale), float(offset or 0.0)
            if numbers != (1.0, 0.0):
                return Scaling(*numbers, True, found, band.dtype.kind != "f")
    return None


def _by_baseline(data: xr.Dataset | xr.DataArray, size: int) -> list[Scaling | None] | None:
    """Return the scaling by the processing baseline of each date, that stackstac keeps.

    The offset is not taken for known: the numbers may have been harmonised before.
    """
    coordinate = next((data.coords[n] for n in BASELINE_COORDINATES if n in data.coords), None)
    if coordinate is None:
        return None
    applied = next((data.coords[n] for n in OFFSET_APPLIED_COORDINATES if n in data.coords), None)
    gone = np.broadcast_to(np.array(None) if applied is None else applied.values, size)
    scalings: list[Scaling | None] = []
    for text, is_gone in zip(np.broadcast_to(coordinate.values, size), gone, strict=True):
        by_baseline = baseline_scaling(str(text), f"processing baseline {text}")
        if by_baseline is None:
            return None
        offset = 0.0 if is_true(is_gone) else by_baseline.offset
        scalings.append(Scaling(by_baseline.scale, offset, False, by_baseline.found))
    return scalings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def decode_plane(plane: Plane, label: str) -> xr.DataArray:
    """Return a plane as float32: reflectance, degrees or class numbers, NaN for no data."""
    bare = plane.values.reset_coords(drop=True)
    stored = bare.drop_vars(list(bare.coords))
    if label == SCENE_CLASS_BAND:
        values = stored.astype("float32")
    else:
        scaling: list[Any] = [[s.scale for s in plane.scalings], [s.offset for s in plane.scalings]]
        several = len(plane.scalings) > 1
        scaling = [xr.DataArray(n, dims="t") if several else n[0] for n in scaling]
        values = xr.apply_ufunc(
            to_reflectance, stored, *scaling, dask="parallelized", output_dtypes=["float32"]
        )
    if plane.nodata:
        values = values.where(~stored.isin(list(plane.nodata)), np.float32(np.nan))
    return values
