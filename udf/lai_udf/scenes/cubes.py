"""Time series of Sentinel-2 as xarray holds them: odc-stac, stackstac, rioxarray, openEO, files.

In: a Dataset with a variable for each band, or a DataArray (or a Dataset of one) with a dimension
of bands; names of bands and dimensions, scale, offset, no data and CRS as any of these tools write
them. Out: a `Cube`, whose planes stay where they are (on disk, or in a graph of Dask) until they
are read: date by date as `SceneSource`s, or all in one lazy array of reflectance.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from lai_udf.errors import Faults, MetadataError, MissingBandError, UnreadableProductError
from lai_udf.grid import Grid, find_crs, find_grid
from lai_udf.predict import ANGLES, BANDS
from lai_udf.scenes.labels import LABELS, label_once, names_in_order
from lai_udf.scenes.metadata import Declared, Offset, Scaled, Scaling, SceneMetadata, utc
from lai_udf.scenes.planes import Plane, decode_plane, read_plane
from lai_udf.scenes.source import (
    RESOLUTIONS_M,
    SceneEntry,
    SceneSource,
    require_bands,
    require_scheme,
)

CUBE_SUFFIXES = {".nc", ".nc4", ".zarr"}
TIME_DIMENSIONS = ("t", "time")
BAND_DIMENSIONS = ("bands", "band", "variable")
SPACE_DIMENSIONS = {
    "y": ("Y", "northing", "lat", "latitude"),
    "x": ("X", "easting", "lon", "longitude"),
}
"""What others call our dimensions."""
SATELLITE_NAMES = {"platform", "constellation"}
"""Scalar coordinates that stackstac makes of properties."""


@dataclass(frozen=True)
class Cube(Scaled):
    """A time series whose values are read when they are needed."""

    name: str  # how messages call it
    planes: Mapping[str, Plane]  # bands by label, in the order of `LABELS`
    grid: Grid  # grid of all planes
    times: npt.NDArray[np.datetime64] | None  # time of each date; None for a scene without one
    time_dimension: str | None
    """What the caller calls the dimension of time; None where there was none."""
    attributes: Mapping[Hashable, Any] = field(default_factory=dict)
    """Of the cube, such as platform."""
    stack: xr.DataArray | None = None
    """The reflectance bands in the order of `BANDS`, where they are one array: it is quicker to
    decode than its bands one by one, and holds less in memory."""

    @property
    def size(self) -> int:
        """Number of dates."""
        return next(iter(self.planes.values())).values.sizes["t"]

    @property
    def scalings(self) -> list[Scaling]:
        """Of the reflectance bands and dates."""
        return [scaling for band in BANDS for scaling in self.planes[band].scalings]

    def time_of(self, date: int) -> str:
        """Return the time of a date, `2024-06-01T10:36:29` (UTC), which no other date has.

        Raises:
            MetadataError: the date has no time, or another is of the same second.
        """
        if self.times is None:
            raise MetadataError(
                f"{self.name} has no time",
                parameter="datetime",
                expected="a time such as 2021-06-24T10:30:31Z",
            )
        seconds = self.times.astype("datetime64[s]")
        if np.isnat(seconds[date]):
            raise MetadataError(f"{self.name}: date {date + 1} of {self.size} has no time (NaT)")
        if (seconds == seconds[date]).sum() > 1:
            raise MetadataError(
                f"{self.name} has several dates of {seconds[date]}: merge or drop all but one"
            )
        return str(seconds[date])

    def scenes(self) -> Iterator[SceneEntry]:
        """Yield each date, named `20240601T103629`, in the order of time.

        A date whose time is not distinct (`time_of`) is refused when it is opened.
        """
        times = np.array(["NaT"], "datetime64[s]") if self.times is None else self.times
        for date in np.argsort(times, kind="stable").tolist():  # NaT comes last
            name = str(times[date].astype("datetime64[s]")).replace("-", "").replace(":", "")
            yield SceneEntry(name, partial(self.scene, date))

    def scene(self, date: int) -> SceneSource:
        """Return one date as a scene; raises what `time_of` does."""
        time = self.time_of(date)
        bands = tuple(
            plane.band(label, self.name, date, plane.values.isel(t=date))
            for label, plane in self.planes.items()
        )
        metadata = SceneMetadata(f"{time}Z", str(self.attributes.get("platform", "")).lower())
        return SceneSource(f"{self.name}, {time}", self.grid, bands, metadata)

    def to_array(self) -> xr.DataArray:
        """Return all dates, lazy where the planes are of Dask, CRS in `.rio`.

        Dims (t, bands, y, x), float32: reflectance and angles with NaN for no data, scene classes
        with NaN where they have no number.
        """
        shape = (self.size, self.grid.height, self.grid.width)
        frame = xr.DataArray(np.broadcast_to(np.float32(0), shape), dims=("t", "y", "x"))
        first = self.planes[BANDS[0]]
        alike = all(
            (self.planes[band].scalings, self.planes[band].nodata) == (first.scalings, first.nodata)
            for band in BANDS
        )
        labels, planes = list(self.planes), []
        if self.stack is not None and alike:
            labels = labels[len(BANDS) :]
            planes = [decode_plane(replace(first, values=self.stack), BANDS[0])]
        planes += [
            decode_plane(self.planes[label], label).broadcast_like(frame).expand_dims("bands")
            for label in labels
        ]
        turned = [plane.transpose("t", "bands", "y", "x") for plane in planes]
        stacked = turned[0].variable
        if len(turned) > 1:
            stacked = xr.concat(turned, dim="bands").variable
        times = {} if self.times is None else {"t": self.times}
        labelled = {"bands": list(self.planes), "y": self.grid.y, "x": self.grid.x, **times}
        array = xr.DataArray(stacked.data, labelled, stacked.dims)  # not the scaling as stored
        array.encoding["source"] = self.name
        described: xr.DataArray = array.rio.write_crs(self.grid.crs)
        return described


def open_cube(path: str | Path, declared: Declared | None = None) -> Cube:
    """Open a netCDF file or a Zarr folder; values stay on disk until they are needed."""
    return as_cube(open_dataset(path), declared, name=str(path))


def open_dataset(path: str | Path) -> xr.Dataset:
    """Open a netCDF file or a Zarr folder, values as stored; raise `UnreadableProductError`."""
    require_scheme(str(path), "a cube", "s3", "http", "https")
    name = str(path)
    engine = "zarr" if name.rstrip("/").endswith(".zarr") else None  # what reads netCDF here
    try:
        return xr.open_dataset(name, engine=engine, mask_and_scale=False)
    except Exception as error:  # backends raise what they like
        raise UnreadableProductError(
            f"cannot read {name} ({error}); give a netCDF file or a Zarr folder"
        ) from error


def read_cube(
    path: str | Path,
    datetime: str | None = None,
    *,
    reflectance_scale: float | None = None,
    reflectance_offset: Offset | None = None,
) -> xr.DataArray:
    """Open a time series as reflectance.

    Args:
        path: netCDF file or Zarr folder.
        datetime: time of a cube without dimension `t`, ISO 8601, UTC where it names no zone.
        reflectance_scale: reflectance = value * scale + offset; goes before what the file states.
        reflectance_offset: as above; one number, or one from each date on.

    Returns:
        Dims (t, bands, y, x), float32, north up, NaN = no data, with coordinates and CRS.

    Raises:
        ProductError: see `open_cube`.
    """
    declared = Declared(reflectance_scale, reflectance_offset, datetime)
    cube = open_cube(path, declared)
    if cube.times is None:
        cube.time_of(0)
    return cube.to_array()


def as_cube(
    data: xr.Dataset | xr.DataArray,
    declared: Declared | None = None,
    *,
    name: str = "the cube",
    pixel_m: float | None = None,
) -> Cube:
    """Read the labels of a cube from any library; values are not touched.

    Args:
        data: Dataset with a variable for each band, or with one that has a dimension of bands; or
            such a DataArray.
        declared: scale, offset, time and names of bands that go before those of the data.
        name: how messages call it.
        pixel_m: side of a pixel, which coordinates of a single one do not show.

    Raises:
        ProductError: a band missing, unknown or twice, two times, whole numbers without a scale,
            no coordinates or CRS, or a grid that is neither of 20 m nor of 10 m.
    """
    declared = declared or Declared()
    if not isinstance(data, xr.Dataset | xr.DataArray):
        raise MissingBandError(
            parameter="data", value=type(data).__name__, expected="a Dataset or DataArray of xarray"
        )
    if isinstance(data, xr.DataArray) and isinstance(data.name, str) and data.name in data.dims:
        data = data.rename(None)
    time_dimension = next((dim for dim in TIME_DIMENSIONS if dim in data.dims), None)
    data = _rename(data)
    faults = Faults()
    bands = _band_planes(data, declared, name)
    if not bands:
        require_bands([], name)
    crs, times, grid = None, None, None
    planes: dict[str, Plane] = {}
    with faults.collect():
        require_bands(list(bands), name)
    with faults.collect():
        crs = find_crs(data, name)
    with faults.collect():
        times, bands = _times(data, bands, declared, name)
    with faults.collect():
        grid, bands = find_grid(bands, data, crs, name, pixel_m)
        if crs is not None:
            grid.require_metric(RESOLUTIONS_M, name)
    with faults.collect():
        for label in (label for label in LABELS if label in bands):
            planes[label] = read_plane(label, bands[label], data, times, declared, name)
    faults.settle()
    assert grid is not None
    kept: dict[Hashable, Any] = dict(data.attrs)
    kept |= {n: c.item() for n, c in data.coords.items() if n in SATELLITE_NAMES and c.ndim == 0}
    stack = _as_stack(data, declared, bands, name)
    return Cube(name, planes, grid, times, time_dimension, kept, stack)


def _as_stack(
    data: xr.Dataset | xr.DataArray,
    declared: Declared,
    bands: Mapping[str, xr.DataArray],
    name: str,
) -> xr.DataArray | None:
    """Return the reflectance bands as one array on the grid of `bands`, if they came as one."""
    if not isinstance(data, xr.DataArray):
        return None
    places = label_once(_names_of_bands(data, declared, name), name)
    turned: xr.DataArray = data.isel(bands=[places[band] for band in BANDS])
    if "t" not in turned.dims:
        turned = turned.drop_vars("t", errors="ignore").expand_dims("t")
    own = bands[BANDS[0]]
    for axis in ("y", "x"):
        if data.sizes[axis] > 1 and data[axis].values[0] != own[axis].values[0]:
            turned = turned.isel({axis: slice(None, None, -1)})
    return turned


def _band_planes(
    data: xr.Dataset | xr.DataArray, declared: Declared, name: str
) -> dict[str, xr.DataArray]:
    """Return the bands by label; raise `ProductError` where they have no names, or one twice."""
    if isinstance(data, xr.Dataset):
        stacked = [v for v in data.data_vars.values() if "bands" in v.dims]
        if not stacked:
            variables = list(data.data_vars.values())
            named = names_in_order(declared.bands, len(variables), name, "variables")
            places = label_once(named or [str(key) for key in data.data_vars], name)
            if not places:  # rioxarray's `band_as_variable` calls them band_1, band_2, …
                places = label_once([str(v.attrs.get("long_name")) for v in variables], name)
            return {label: variables[i] for label, i in places.items()}
        if len(stacked) > 1:
            names = ", ".join(str(each.name) for each in stacked)
            raise MetadataError(f"{name} has several variables of bands ({names}): select one")
        others = data.drop_vars(str(stacked[0].name))
        array = stacked[0].assign_attrs({**data.attrs, **stacked[0].attrs})
        beside = [str(key) for key in others.data_vars]  # such as SCL, which has another type
        places = label_once([*_names_of_bands(array, declared, name), *beside], name)
        variables = [*_split(array), *others.data_vars.values()]
        return {label: variables[i] for label, i in places.items()}
    if "bands" not in data.dims:
        raise MissingBandError(
            f"{name} has no dimension of bands, only {', '.join(map(str, data.dims))}: "
            f"name the variables {' '.join(BANDS)}, or give one variable with a dimension `bands`"
        )
    planes = _split(data)
    places = label_once(_names_of_bands(data, declared, name), name)
    return {label: planes[i] for label, i in places.items()}


def _split(array: xr.DataArray) -> list[xr.DataArray]:
    """Return the bands along a dimension, each with its own scaling."""
    size, planes = array.sizes["bands"], []
    for i in range(size):
        plane = array.isel(bands=i).drop_vars("bands", errors="ignore")
        plane.attrs |= _scaling_of_one(array.attrs, size, i)
        plane.encoding |= _scaling_of_one(array.encoding, size, i)
        planes.append(plane)
    return planes


def _scaling_of_one(stated: Mapping[Any, Any], size: int, position: int) -> dict[str, float]:
    """Return the scaling of one band of `size` where rioxarray lists them, as they differ."""
    listed = {"scale_factor": "scales", "add_offset": "offsets"}
    return {
        ours: float(stated[theirs][position])
        for ours, theirs in listed.items()
        if np.size(stated.get(theirs, ())) == size > 1
    }


def _names_of_bands(array: xr.DataArray, declared: Declared, name: str) -> list[str]:
    """Return the names along a dimension of bands: the caller's, its labels, rioxarray's."""
    size = array.sizes["bands"]
    if declared.bands:
        return names_in_order(declared.bands, size, name)
    described = array.attrs.get("long_name")
    labels = [str(label) for label in array["bands"].values] if "bands" in array.coords else []
    if (not labels or all(label.isdigit() for label in labels)) and isinstance(
        described, tuple | list
    ):
        return [str(text) for text in described]
    common = array.coords.get("common_name", array.coords.get("eo:common_name"))
    if label_once(labels, name) or common is None:
        return labels
    return [str(text) for text in np.broadcast_to(common.values, size)]


def _rename(data: xr.Dataset | xr.DataArray) -> Any:  # noqa: ANN401 (the kind that came in)
    """Return data with our names of dimensions and coordinates."""
    held = data.variables if isinstance(data, xr.Dataset) else data.coords
    names = {*data.dims, *held}
    others = {"t": TIME_DIMENSIONS, "bands": BAND_DIMENSIONS, **SPACE_DIMENSIONS}
    new = {
        next(other for other in theirs if other in names): ours
        for ours, theirs in others.items()
        if ours not in names and names & set(theirs)
    }
    return data.rename(new)


def _times(
    data: xr.Dataset | xr.DataArray, bands: dict[str, xr.DataArray], declared: Declared, name: str
) -> tuple[npt.NDArray[np.datetime64] | None, dict[str, xr.DataArray]]:
    """Return the time of each date, and the bands with the dimension t."""
    if any("t" in band.dims for band in bands.values()):
        declared.refuse_time(name)
        size = next(band.sizes["t"] for band in bands.values() if "t" in band.dims)
        if size == 0:
            raise MetadataError(f"{name} has no date: its axis of time is empty")
        whole = [label for label in bands if label not in ANGLES and "t" not in bands[label].dims]
        if whole and size > 1:
            raise MetadataError(f"{name}: {', '.join(whole)} lacks the dates of the other bands")
    else:
        bands = {
            label: band.drop_vars("t", errors="ignore").expand_dims("t")
            for label, band in bands.items()
        }
    if declared.datetime is not None:
        return np.array([utc(declared.datetime, name).removesuffix("Z")], "datetime64[ns]"), bands
    if not ("t" in data.coords or (isinstance(data, xr.Dataset) and "t" in data.variables)):
        return None, bands
    times = np.atleast_1d(data["t"].values)
    if times.dtype.kind != "M":
        raise MetadataError(
            f"{name}: t is labelled with {times.dtype}, not with times: "
            "write datetime64, which netCDF and Zarr keep"
        )
    return times, bands
