"""Run a user-defined function on one labelled window of a cube.

In: the text of the UDF, its context, a `DataArray` with named
dimensions and coordinates. Out: a `DataArray` with the same dimensions, checked against what the
calling process expects. Everything the user's code raises becomes a `UdfError` with its sentence.
"""

import importlib.metadata
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from openeo import metadata
from openeo.udf import OpenEoUdfException
from openeo.udf.run_code import extract_udf_dependencies, load_module_from_string, run_udf_code
from openeo.udf.udf_data import UdfData
from openeo.udf.xarraydatacube import XarrayDataCube

from lai_backend.errors import MemoryLimitError, UdfError
from lai_backend.limits import memory_error_sentence

_log = logging.getLogger(__name__)

APPLY_METADATA = re.compile(r"^def\s+apply_metadata\s*\(", re.MULTILINE)
NO_UDF = (
    "OpenEoUdfException: No UDF found. Define `def apply_datacube(cube: xarray.DataArray, "
    "context: dict) -> xarray.DataArray` with these annotations, unquoted and without "
    "`from __future__ import annotations`."
)
DEPENDENCY_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class LocalUdf:
    """A UDF with its context, that runs in this process."""

    code: str  # text of the UDF
    context: dict[str, Any] = field(default_factory=dict)  # the user's context

    def prepare(self) -> None:
        """Execute the module text once, so that threads share one module and one model."""
        for dependency in missing_dependencies(self.code):
            _log.warning(
                "The UDF declares %r, which is not installed here: ship it as an archive "
                "(udf-dependency-archives) or install it beside the back-end.",
                dependency,
            )
        try:
            load_module_from_string(self.code)
        except Exception as error:
            raise UdfError(f"The UDF cannot be loaded: {_sentence(error)}") from error

    def describe(self, bands: Sequence[str], other_dims: Sequence[str]) -> tuple[list[str], bool]:
        """Return what `apply_metadata` makes of the labels.

        Args:
            bands: band labels of the input.
            other_dims: the other dimensions of the input.

        Returns:
            Band labels of the result, and whether `t` gets another extent.
        """
        if not APPLY_METADATA.search(self.code):
            return list(bands), False
        unchanged = ["", ""]
        dimensions: list[metadata.Dimension] = [
            metadata.SpatialDimension(name, extent=[]) for name in other_dims if name != "t"
        ]
        if "t" in other_dims:
            dimensions.append(metadata.TemporalDimension("t", extent=unchanged))
        named = [metadata.Band(name) for name in bands]
        cube = metadata.CubeMetadata([*dimensions, metadata.BandDimension("bands", named)])
        try:
            apply_metadata = load_module_from_string(self.code)["apply_metadata"]
            described: metadata.CubeMetadata = apply_metadata(cube, self.context)
            names = list(described.band_names)  # raises where the dimension is gone
        except Exception as error:
            raise UdfError(f"apply_metadata of the UDF failed: {_sentence(error)}") from error
        dates = described.temporal_dimension.extent if "t" in other_dims else None
        return names, list(dates or unchanged) != unchanged

    def run(self, window: xr.DataArray) -> xr.DataArray:
        """Return what the UDF makes of a copy of a window, the dimensions that it kept in order."""
        data = UdfData(datacube_list=[XarrayDataCube(window.copy())], user_context=self.context)
        try:
            with _first_call_alone(self.code):
                cubes = run_udf_code(self.code, data).get_datacube_list() or []
        except MemoryError as error:
            raise MemoryLimitError(memory_error_sentence(error)) from error
        except Exception as error:
            if isinstance(error, OpenEoUdfException) and "No UDF found" in str(error):
                raise UdfError(NO_UDF) from error
            raise UdfError(f"The UDF failed: {_sentence(error)}") from error
        if len(cubes) != 1:
            raise UdfError(f"The UDF must return one data cube, it returned {len(cubes)}.")
        return _named_like(cubes[0].get_array(), window)

    def run_block(self, values: npt.NDArray[np.float32], block: Any) -> npt.NDArray[np.float32]:
        """Run the UDF on the windows of a block."""
        from lai_backend.windows import run_block  # which needs this module

        return run_block(values, block, self)


_LOADING = threading.Lock()
_CALLED: set[str] = set()


@contextmanager
def _first_call_alone(code: str) -> Iterator[None]:
    """Finish the first call of a UDF before the next, so that threads share what it loads."""
    if code in _CALLED:
        yield
        return
    with _LOADING:
        yield
        _CALLED.add(code)


def check_shape(result: xr.DataArray, expected: dict[str, int], where: str) -> None:
    """Refuse a result of a UDF that has other dimensions or sizes than its caller needs."""
    sizes = {str(name): size for name, size in result.sizes.items()}
    if sizes == expected:
        return
    hint = ""
    if "bands" in expected and sizes.get("bands") != expected["bands"]:
        hint = " Define apply_metadata in the UDF to declare the bands it returns."
    if any(sizes.get(axis, 0) < expected.get(axis, 0) for axis in ("y", "x")):
        hint = " Return the whole window including the overlap; the back-end trims it."
    raise UdfError(f"The UDF returned {sizes} for {where}, expected {expected}.{hint}")


def missing_dependencies(code: str) -> list[str]:
    """Return the distributions that the UDF declares (PEP 723) and this environment lacks.

    Nothing is installed: a back-end on a laptop runs what is installed there.
    """
    missing = []
    for requirement in extract_udf_dependencies(code) or []:
        match = DEPENDENCY_NAME.match(requirement.strip())
        name = match.group() if match else requirement
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def _named_like(result: xr.DataArray, window: xr.DataArray) -> xr.DataArray:
    """Give unnamed dimensions the window's names, and bring named ones into its order."""
    unnamed = all(str(name).startswith("dim_") for name in result.dims)
    if unnamed and result.ndim == window.ndim:
        result = xr.DataArray(result.values, dims=window.dims)
    order = [name for name in window.dims if name in result.dims]
    return result.transpose(*order, ...)


def _sentence(error: Exception) -> str:
    text = str(error) or "no message"
    return f"{type(error).__name__}: {text}"


def as_float32(values: xr.DataArray) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the values of a result as float32, the type of every cube here."""
    return np.asarray(values.values, dtype=np.float32)
