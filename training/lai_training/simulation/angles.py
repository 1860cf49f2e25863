"""Sun and view angles of a scene that states none: the sun's by time and place, the view's drawn.

SL2P and the networks are compared at the same angles. Chips of real land seldom hold angle bands,
and this makes up for it: what is compared is real land under angles that could have been its own.
"""

from datetime import UTC, datetime

import numpy as np
import xarray as xr

from lai_udf.predict import ANGLES

WIDEST_VIEW_DEG = 11.8
"""View zenith at the edge of the swath: 10.5 degrees off nadir (145 km, seen from a height of
786 km), and the Earth is round."""
VIEW_AZIMUTHS_DEG = (105.0, 285.0)
"""The two sides of the track, at middle latitudes."""
SUN_ZENITHS_DEG = (20.0, 65.0)
"""Where vegetation is imaged, of scenes that state no time."""


def sun_position(
    date: datetime, *, latitude_deg: float, longitude_deg: float
) -> tuple[float, float]:
    """Compute where the sun stands, to about a degree: (zenith, azimuth from north), degrees.

    `date` has a zone.

    Source: Duffie & Beckman, Solar Engineering of Thermal Processes: Cooper's declination, and the
    equation of time.
    """
    utc = date.astimezone(UTC)
    day = utc.timetuple().tm_yday
    declination = np.radians(23.45 * np.sin(2 * np.pi * (284 + day) / 365))
    season = 2 * np.pi * (day - 81) / 364
    late = 9.87 * np.sin(2 * season) - 7.53 * np.cos(season) - 1.5 * np.sin(season)  # minutes
    hour = np.radians(15 * (utc.hour + (utc.minute + late) / 60 - 12) + longitude_deg)
    latitude = np.radians(latitude_deg)
    up = np.sin(latitude) * np.sin(declination)
    up += np.cos(latitude) * np.cos(declination) * np.cos(hour)
    east = -np.cos(declination) * np.sin(hour)
    north = np.cos(latitude) * np.sin(declination)
    north -= np.sin(latitude) * np.cos(declination) * np.cos(hour)
    zenith = float(np.degrees(np.arccos(np.clip(up, -1, 1))))
    return zenith, float(np.degrees(np.arctan2(east, north)) % 360)


def add_missing_angles(scene: xr.DataArray, seed: int) -> xr.DataArray:
    """Return a scene (bands, y, x) with all four angle bands; those that it has stay.

    The others, degrees, are one value for all pixels: the sun's at the time of the scene over its
    centre (drawn where it states no time), the view's drawn.
    """
    absent = [band for band in ANGLES if band not in scene["bands"].values]
    if not absent:
        return scene
    rng = np.random.default_rng((seed, 11))
    view = (rng.uniform(0, WIDEST_VIEW_DEG), rng.choice(VIEW_AZIMUTHS_DEG))
    sun = _sun_over(scene) or (rng.uniform(*SUN_ZENITHS_DEG), 180.0)
    angles = dict(zip(ANGLES, (*sun, *view), strict=True))
    values = np.array([angles[band] for band in absent], scene.dtype)
    shape = (len(absent), *scene.shape[1:])
    added = scene.isel(bands=slice(len(absent))).assign_coords(bands=absent)
    filled = added.copy(data=np.broadcast_to(values[:, None, None], shape))
    return xr.concat([scene, filled], "bands")


def _sun_over(scene: xr.DataArray) -> tuple[float, float] | None:
    """Return `sun_position` over the centre of a scene; None where it states no time."""
    if not scene.attrs.get("datetime"):
        return None
    from rasterio.warp import transform  # fits on simulated land do without

    from lai_udf.grid import Grid

    grid = Grid.of_data_array(scene, "the scene")
    west, south, east, north = grid.bounds
    centre = transform(grid.crs, "EPSG:4326", [(west + east) / 2], [(south + north) / 2])
    date = datetime.fromisoformat(scene.attrs["datetime"])
    return sun_position(date, latitude_deg=centre[1][0], longitude_deg=centre[0][0])
