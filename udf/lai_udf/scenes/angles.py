"""Sun and view angles of a granule: from the 5 km grids of `MTD_TL.xml` to any pixel.

In: the tile metadata of a product, or single mean angles. Out: `AngleGrid`s under the band names
of the CDSE collection, which are interpolated when a window is read.
"""

import logging
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lai_udf.errors import MetadataError
from lai_udf.predict import ANGLES

LOG = logging.getLogger("lai_udf")

SUN_ZENITH, SUN_AZIMUTH, VIEW_ZENITH, VIEW_AZIMUTH = ANGLES

Nodes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AngleGrid:
    """An angle, in degrees, on the nodes of a coarse grid."""

    nodes: Nodes
    """Shape (rows, columns), north first, finite; (1, 1) where one angle holds everywhere."""

    left: float = 0.0
    """x of the first column of nodes."""

    top: float = 0.0
    """y of the first row of nodes."""

    step_m: float = 5000.0
    """Distance of the nodes."""

    is_azimuth: bool = False
    """Whether 0 and 360 are the same."""

    def interpolate(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """Interpolate bilinearly at every pair of coordinates.

        Args:
            x: coordinates, shape (columns,), in the CRS of the grid.
            y: coordinates, shape (rows,).

        Returns:
            Degrees, float32, shape (rows, columns); azimuths in 0 to 360. Beyond the nodes the
            nearest edge holds.
        """
        if self.nodes.size == 1:
            return np.full((len(y), len(x)), self.nodes.item(), np.float32)
        rows = _weights((self.top - y) / self.step_m, self.nodes.shape[0])
        columns = _weights((x - self.left) / self.step_m, self.nodes.shape[1])
        if not self.is_azimuth:
            return rows @ self.nodes.astype(np.float32) @ columns.T
        radians = np.deg2rad(self.nodes)  # through the unit vector: 359 and 1 meet at 0, not 180
        east = rows @ np.sin(radians).astype(np.float32) @ columns.T
        north = rows @ np.cos(radians).astype(np.float32) @ columns.T
        degrees: npt.NDArray[np.float32] = np.rad2deg(np.arctan2(east, north)) % np.float32(360)
        return degrees


def constant_angle(degrees: float) -> AngleGrid:
    """Return an angle that holds everywhere."""
    return AngleGrid(np.array([[degrees]], np.float64))


def read_tile_angles(path: Path) -> dict[str, AngleGrid]:
    """Read sun and mean view angles of an L2A (or L1C) granule.

    View angles are means over all bands and detectors that see a node: zenith arithmetic, azimuth
    through unit vectors. Nodes outside the swath take the value of the nearest one inside.

    Args:
        path: `MTD_TL.xml`.

    Returns:
        Angles by band label, on nodes 5 km apart from the upper left corner of the tile; without
        those of the view, and a warning, where the file holds none.

    Raises:
        MetadataError: not XML, or without grids of the sun or corner.

    Source: Sentinel-2 Products Specification Document, Tile_Angles.
    """
    try:
        root = ET.parse(path).getroot()
        corner = _find(root, ".//Geoposition[@resolution='20']")
        left, top = (float(_text(corner, tag)) for tag in ("ULX", "ULY"))
        sun = _find(root, ".//Sun_Angles_Grid")
        step_m = float(_text(sun, "Zenith/COL_STEP"))
        found = {
            SUN_ZENITH: fill_nearest(_nodes(_find(sun, "Zenith"))),
            SUN_AZIMUTH: fill_nearest(_nodes(_find(sun, "Azimuth"))),
        }
    except (ET.ParseError, ValueError, OSError) as error:
        raise MetadataError(f"{path}: no usable sun and view angles ({error})") from error
    try:
        view_zenith, view_azimuth = map(fill_nearest, _mean_view_angles(root))
        found |= {VIEW_ZENITH: view_zenith, VIEW_AZIMUTH: view_azimuth}
    except ValueError as error:
        LOG.warning("%s: no usable view angles (%s); the scene is read without them", path, error)
    return {
        label: AngleGrid(nodes, left, top, step_m, "Azimuth" in label)
        for label, nodes in found.items()
    }


def _mean_view_angles(root: ET.Element) -> tuple[Nodes, Nodes]:
    """Average over bands and detectors, node by node, over those that are not NaN."""
    sums: dict[str, Nodes] = defaultdict(lambda: np.zeros((1, 1)))
    for grid in root.iterfind(".//Viewing_Incidence_Angles_Grids"):
        zenith = _nodes(_find(grid, "Zenith"))
        azimuth = np.deg2rad(_nodes(_find(grid, "Azimuth")))
        seen = np.isfinite(zenith) & np.isfinite(azimuth)
        sums["count"] = sums["count"] + seen
        sums["zenith"] = sums["zenith"] + np.where(seen, zenith, 0)
        sums["east"] = sums["east"] + np.where(seen, np.sin(azimuth), 0)
        sums["north"] = sums["north"] + np.where(seen, np.cos(azimuth), 0)
    if not np.any(sums["count"]):
        raise ValueError("no Viewing_Incidence_Angles_Grids with values")
    count = np.where(sums["count"] > 0, sums["count"], np.nan)
    azimuth_deg = np.rad2deg(np.arctan2(sums["east"], sums["north"])) % 360
    return sums["zenith"] / count, np.where(np.isnan(count), np.nan, azimuth_deg)


def _nodes(element: ET.Element) -> Nodes:
    rows = [(row.text or "").split() for row in element.iterfind("Values_List/VALUES")]
    nodes = np.array(rows, np.float64)
    if nodes.ndim != 2 or nodes.size == 0:
        raise ValueError(f"{element.tag} holds no grid of values")
    return nodes


def fill_nearest(nodes: Nodes) -> Nodes:
    """Give every NaN node the value of the nearest finite one."""
    finite = np.argwhere(np.isfinite(nodes))
    if len(finite) == 0:
        raise ValueError("an angle grid holds NaN only")
    filled = nodes.copy()
    for row, column in np.argwhere(~np.isfinite(nodes)):
        nearest = finite[np.argmin(((finite - (row, column)) ** 2).sum(axis=1))]
        filled[row, column] = nodes[tuple(nearest)]
    return filled


def _weights(position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float32]:
    """Return the matrix (positions, nodes) of linear interpolation, held at the ends."""
    held = np.clip(position, 0, size - 1)
    distance = np.abs(held[:, np.newaxis] - np.arange(size, dtype=np.float64))
    weights: npt.NDArray[np.float32] = np.maximum(0, 1 - distance).astype(np.float32)
    return weights


def _find(element: ET.Element, path: str) -> ET.Element:
    found = element.find(path)
    if found is None:
        raise ValueError(f"{path} is missing")
    return found


def _text(element: ET.Element, path: str) -> str:
    return (_find(element, path).text or "").strip()
