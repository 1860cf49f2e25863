"""The grid of a raster: CRS, transform, size; from and to labelled arrays of any library.

Shared by what reads scenes (`scenes.source`) and what writes LAI (`cog`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (registers DataArray.rio)
import xarray as xr
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from lai_udf.errors import GridError

TOLERANCE = 1e-3  # how far two grids may lie apart, in pixels, and still be one
_METRES_PER_DEGREE = 111_320.0
CRS_NAMES = ("crs", "epsg", "proj:code", "proj:epsg", "proj:wkt2", "crs_wkt")
"""Attributes and scalar coordinates that hold a CRS."""


@dataclass(frozen=True)
class Grid:
    """A north-up grid of square pixels."""

    crs: CRS  # coordinate reference system
    transform: Affine  # from (column, row) to coordinates of the upper left corner of that pixel
    height: int  # rows
    width: int  # columns

    def __hash__(self) -> int:
        """Return a number without the CRS, which would be written out for that each time."""
        return hash((self.transform, self.height, self.width))

    @classmethod
    def of_dataset(cls, dataset: DatasetReader) -> "Grid":
        """Return the grid of an open raster."""
        return cls(dataset.crs, dataset.transform, dataset.height, dataset.width)

    @classmethod
    def of_data_array(cls, array: xr.DataArray, where: str) -> "Grid":
        """Return the grid of an array (…, y, x).

        Raises:
            GridError: no CRS, no coordinates, or fewer than one pixel.
        """
        if array.rio.crs is None:
            raise GridError(f"{where} has no CRS: write it with array.rio.write_crs(...)")
        if 0 in array.shape or "x" not in array.coords or "y" not in array.coords:
            raise GridError(f"{where}: need coordinates x and y and a pixel, got {array.sizes}")
        x, y = (array.coords[axis].values.astype(float) for axis in ("x", "y"))
        pixel = abs(array.rio.transform(recalc=False).a) if len(x) == len(y) == 1 else None
        return cls.of_coordinates(x, y, array.rio.crs, where, pixel)

    @classmethod
    def of_coordinates(
        cls,
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        crs: CRS | None,
        where: str,
        pixel: float | None = None,
    ) -> "Grid":
        """Return the grid whose pixels have these centres, x rising and y falling.

        Raises:
            GridError: no pixel, one without `pixel` (its side), or coordinates uneven or turned.
        """
        if not len(x) or not len(y):
            raise GridError(f"{where} has no pixel")
        steps = [step for step in (_step(x, where), -_step(y, where)) if step]
        if not steps and pixel is None:
            raise GridError(
                f"{where}: one pixel has no size",
                parameter="resolution",
                expected="10 or 20, or give a window of more",
            )
        width = steps[0] if steps else float(pixel or 0)
        height = steps[-1] if steps else width
        if width <= 0 or height <= 0:
            raise GridError(f"{where}: x must rise and y fall: use array.sortby(...)")
        corner = (float(x[0]) - width / 2, float(y[0]) + height / 2)
        transform = Affine(width, 0.0, corner[0], 0.0, -height, corner[1])
        return cls(crs, transform, len(y), len(x))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in units of the CRS."""
        t = self.transform
        return t.c, t.f + t.e * self.height, t.c + t.a * self.width, t.f

    @property
    def x(self) -> npt.NDArray[np.float64]:
        """Coordinates of the pixel centres, shape (width,)."""
        return self.transform.c + self.transform.a * (np.arange(self.width, dtype=float) + 0.5)

    @property
    def y(self) -> npt.NDArray[np.float64]:
        """Coordinates of the pixel centres, shape (height,), falling."""
        return self.transform.f + self.transform.e * (np.arange(self.height, dtype=float) + 0.5)

    def crop(self, window: Window, where: str) -> "Grid":
        """Return the grid of a window of this one; raise `GridError` where it reaches outside."""
        row, column = int(window.row_off), int(window.col_off)
        height, width = int(window.height), int(window.width)
        inside = min(row, column) >= 0 and min(height, width) > 0
        if not (inside and row + height <= self.height and column + width <= self.width):
            raise GridError(
                f"{window} is empty or reaches outside {where}, which has {self.height} rows and "
                f"{self.width} columns"
            )
        return self.moved(row, column, height, width)

    def moved(self, row: int, column: int, height: int, width: int) -> "Grid":
        """Return the grid of a part of this one, which may reach beyond it."""
        corner = self.transform @ Affine.translation(column, row)
        return Grid(self.crs, corner, height, width)

    def covering(self, bounds: tuple[float, float, float, float]) -> Window | None:
        """Return the smallest window over west, south, east, north, clipped; None if outside."""
        t = self.transform
        left = max(0, math.floor((bounds[0] - t.c) / t.a + 1e-6))
        right = min(self.width, math.ceil((bounds[2] - t.c) / t.a - 1e-6))
        top = max(0, math.floor((bounds[3] - t.f) / t.e + 1e-6))
        bottom = min(self.height, math.ceil((bounds[1] - t.f) / t.e - 1e-6))
        if left >= right or top >= bottom:
            return None
        return Window(left, top, right - left, bottom - top)

    @property
    def pixel_m(self) -> float:
        """Side of a pixel in metres; about, where the CRS is in degrees."""
        side = abs(float(self.transform.a))
        is_geographic = bool(self.crs and self.crs.is_geographic)
        return round(side * _METRES_PER_DEGREE, 1) if is_geographic else side

    @property
    def is_metric(self) -> bool:
        """Whether the CRS is projected in metres."""
        return bool(self.crs and self.crs.is_projected and self.crs.linear_units_factor[1] == 1.0)

    def zoom(self, factor: float) -> "Grid":
        """Return the grid with pixels `factor` times as wide and high."""
        scaled = self.transform @ Affine.scale(factor)
        return Grid(self.crs, scaled, int(self.height // factor), int(self.width // factor))

    def require_metric(self, pixel_sizes_m: Sequence[float], where: str) -> None:
        """Raise `GridError` unless the CRS is projected in metres and the pixels are right."""
        if self.crs is None:
            raise GridError(f"{where} has no CRS: set it (for example with rio edit-info --crs)")
        sizes = " or ".join(f"{size:g}" for size in pixel_sizes_m)
        if not self.is_metric:
            raise GridError(
                f"{where} is in {self.crs.to_string()}; LAI is computed on a projected grid in "
                f"metres: reproject it to its UTM zone at {sizes} m"
            )
        t = self.transform
        if not any(
            max(abs(t.a - size), abs(t.e + size), abs(t.b), abs(t.d)) <= TOLERANCE * size
            for size in pixel_sizes_m
        ):
            raise GridError(
                f"{where} has pixels of {t.a:g} x {-t.e:g} m (rotation {t.b:g}, {t.d:g}); needed "
                f"is a north-up grid of {sizes} m: resample it"
            )

    def require_same(self, other: "Grid", where: str) -> None:
        """Raise `GridError` unless `other` has the same CRS, origin, pixels and size."""
        near = np.allclose(
            self.transform[:6], other.transform[:6], rtol=0, atol=TOLERANCE * abs(self.transform.a)
        )
        if self.crs != other.crs or not near or self.shape != other.shape:
            raise GridError(
                f"{where} lies on another grid ({other}) than the bands before it ({self}): "
                "all bands of a scene must share CRS, corner and extent"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def profile(self) -> dict[str, Any]:
        """What rasterio writes a raster on it by: CRS, transform, height and width."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_data_array(
        self,
        values: npt.NDArray[Any],
        labels: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> xr.DataArray:
        """Label an array of shape (bands, y, x) with bands, coordinates and CRS."""
        array = xr.DataArray(
            values,
            dims=("bands", "y", "x"),
            coords={"bands": list(labels), "y": self.y, "x": self.x},
            attrs=dict(attributes or {}),
        )
        # On a pixel, not on `array`: arrays that have met rioxarray refer to themselves, and large
        # ones would pile up until Python looks for such circles.
        pixel = xr.DataArray(np.zeros((1, 1)), dims=("y", "x")).rio.write_crs(self.crs)
        pixel = pixel.rio.write_transform(self.transform)
        name = pixel.rio.grid_mapping
        array.encoding["grid_mapping"] = name
        return array.assign_coords({name: pixel[name]})

    def __str__(self) -> str:
        """Return CRS, corner, pixel and size in one phrase."""
        t = self.transform
        name = "no CRS" if self.crs is None else self.crs.to_string()
        return f"{name}, corner ({t.c:g}, {t.f:g}), pixel {t.a:g}, {self.height} x {self.width} px"


def _step(coordinates: npt.NDArray[np.float64], where: str) -> float:
    """Return the even step of coordinates, 0 for a single one."""
    if len(coordinates) == 1:
        return 0.0
    step = float(coordinates[-1] - coordinates[0]) / (len(coordinates) - 1)
    if not np.allclose(np.diff(coordinates), step, rtol=0, atol=TOLERANCE * abs(step)):
        raise GridError(f"{where}: coordinates are not evenly spaced")
    return step


def find_crs(data: xr.Dataset | xr.DataArray, name: str) -> CRS:
    """Return the CRS of a Dataset or DataArray.

    Raises:
        GridError: there is none, it is not understood, or the bands differ.
    """
    texts = [str(data.attrs[key]) for key in CRS_NAMES if data.attrs.get(key) is not None]
    old = any(text.startswith("+init=") for text in texts)  # GDAL complains of it on stderr
    candidates: list[Any] = [None if old else _rio_crs(data)]
    scalars = [data.coords[key] for key in CRS_NAMES if key in data.coords]
    candidates += [c.item() for c in scalars if c.ndim == 0 and c.dtype.kind != "M"]
    candidates += texts
    for array in data.data_vars.values() if isinstance(data, xr.Dataset) else [data]:
        candidates += [array.attrs.get(key) for key in CRS_NAMES]
        eopf = array.attrs.get("_eopf_attrs") or {}
        candidates += [eopf.get("proj:epsg"), eopf.get("proj:code")]
    for candidate in candidates:
        crs = _parse(candidate, name)
        if crs is not None:
            return crs
    raise GridError(f"{name} has no CRS: write one (rioxarray: write_crs) or an attribute crs")


def _rio_crs(data: xr.Dataset | xr.DataArray) -> CRS | None:
    try:
        crs: CRS | None = data.rio.crs
    except Exception as error:  # rioxarray passes on what pyproj and rasterio raise
        raise GridError(f"the CRS of the cube is not understood ({error})") from error
    if crs is None and isinstance(data, xr.Dataset):
        mappings = {v.attrs.get("grid_mapping") for v in data.data_vars.values()}
        for mapping in (*mappings, "crs", "spatial_ref"):
            if mapping in data.variables:
                attributes = data[mapping].attrs
                return _parse(attributes.get("crs_wkt", attributes.get("spatial_ref")), "the cube")
    return crs


def _parse(value: object, name: str) -> CRS | None:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, CRS):
        return value
    text = str(value).strip().removeprefix("+init=")
    if re.fullmatch(r"\d+(\.0)?", text):
        text = f"EPSG:{int(float(text))}"
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise GridError(f"{name}: CRS {value!r} is not understood ({error})") from error


def find_grid(
    bands: dict[str, xr.DataArray],
    data: xr.Dataset | xr.DataArray,
    crs: CRS | None,
    name: str,
    pixel: float | None = None,
) -> tuple[Grid, dict[str, xr.DataArray]]:
    """Return the grid of bands, and the bands north up on it; `pixel` is the side of a lone one.

    Raises:
        GridError: no dims y and x, no coordinates, uneven ones, or bands of different grids.
    """
    image = next((band for band in bands.values() if {"y", "x"} <= set(band.dims)), None)
    if image is None:
        raise GridError(
            f"{name}: no band has the dimensions y and x: select a single pixel by lists, as in "
            'sel(y=[…], x=[…], method="nearest")'
        )
    for label, band in bands.items():
        sizes = {dim: band.sizes[dim] for dim in ("y", "x") if dim in band.dims}
        if any(size != image.sizes[dim] for dim, size in sizes.items()):
            raise GridError(f"{name}: band {label} has {sizes}, others {dict(image.sizes)}")
        if foreign := set(band.dims) - {"t", "y", "x"}:
            raise GridError(f"{name}: band {label} has a dimension {', '.join(map(str, foreign))}")
    if "y" not in image.coords or "x" not in image.coords:
        raise GridError(
            f"{name}: need coordinates x and y, got {', '.join(map(str, image.coords))}"
        )
    y, x = image["y"].values.astype(float), image["x"].values.astype(float)
    rows = slice(None, None, -1 if len(y) > 1 and y[0] < y[-1] else 1)
    columns = slice(None, None, -1 if len(x) > 1 and x[0] > x[-1] else 1)
    transform = _stated_transform(data)
    grid = Grid.of_coordinates(x[columns], y[rows], crs, name, pixel)
    if transform is not None and len(y) > 1 and len(x) > 1:
        grid = _of_corners(grid, transform)
    turned = {
        label: band.isel({d: s for d, s in (("y", rows), ("x", columns)) if d in band.dims})
        for label, band in bands.items()
    }
    return grid, turned


def _stated_transform(data: xr.Dataset | xr.DataArray) -> tuple[float, ...] | None:
    """Return the attribute `transform` that stackstac and xarray's old reader write."""
    stated = data.attrs.get("transform")
    try:
        numbers = tuple(float(number) for number in stated or ())
    except (TypeError, ValueError):
        return None
    return numbers[:6] if len(numbers) >= 6 else None


def _of_corners(grid: Grid, transform: tuple[float, ...]) -> Grid:
    """Return the grid moved by half a pixel where its coordinates are upper left corners.

    stackstac labels pixels by their corners by default.
    """
    t = grid.transform
    same = abs(t.a - transform[0]) < 1e-6 * t.a and abs(t.e - transform[4]) < 1e-6 * t.a
    corner = (t.c + t.a / 2, t.f + t.e / 2)  # what the first coordinates are
    whole = [(corner[0] - transform[2]) / t.a, (corner[1] - transform[5]) / t.e]
    if same and all(abs(steps - round(steps)) < 1e-3 for steps in whole):
        return replace(grid, transform=t @ Affine.translation(0.5, 0.5))
    return grid
