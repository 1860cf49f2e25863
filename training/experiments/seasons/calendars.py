"""When crops grow and how high their LAI gets: southern France within a few weeks."""

from dataclasses import dataclass

from lai_training.simulation.spectral_library import SurfaceClass


@dataclass(frozen=True)
class CropCalendar:
    """A crop of the register, as the simulator grows it."""

    code: str
    """`CODE_CULTU`, see `lai_training.parcels.means`."""
    days: tuple[float, float, float, float]
    """Day of the year of emergence, full cover, ripening, harvest (or leaf fall)."""
    peak_lai: tuple[float, float]
    """Range of the highest LAI, m2 m-2."""
    lowest_lai: float = 0.05
    """LAI outside the season, m2 m-2."""
    surface: SurfaceClass = SurfaceClass.CROP
    """Kind of canopy."""


CALENDARS = (
    CropCalendar("BTH", (30, 125, 155, 190), (3.0, 6.5), 0.4),
    CropCalendar("BDH", (35, 120, 150, 185), (2.5, 5.5), 0.4),
    CropCalendar("ORH", (25, 115, 140, 172), (3.0, 6.5), 0.5),
    CropCalendar("TTH", (30, 125, 155, 195), (3.0, 6.0), 0.5),
    CropCalendar("CZH", (20, 105, 145, 182), (3.0, 6.0), 1.0),
    CropCalendar("ORP", (75, 140, 165, 195), (2.5, 5.5)),
    CropCalendar("BTP", (75, 145, 170, 202), (2.5, 5.5)),
    CropCalendar("BTN", (100, 175, 265, 300), (3.0, 5.5)),
    CropCalendar("PTC", (115, 175, 215, 255), (2.5, 5.0)),
    CropCalendar("MIS", (125, 200, 240, 285), (3.0, 6.5)),
    CropCalendar("MIE", (128, 200, 235, 260), (3.0, 6.5)),
    CropCalendar("TRN", (120, 185, 215, 255), (1.8, 4.5)),
    CropCalendar("SOJ", (130, 205, 240, 275), (3.0, 6.5)),
    CropCalendar("SOG", (135, 205, 240, 275), (2.0, 5.0)),
    CropCalendar("PPH", (50, 130, 230, 345), (1.5, 4.5), 0.6, SurfaceClass.GRASS),
    CropCalendar("PTR", (45, 125, 240, 345), (2.0, 5.5), 0.7, SurfaceClass.GRASS),
    CropCalendar("VRC", (100, 180, 260, 310), (0.8, 2.5), 0.2, SurfaceClass.BROADLEAF),
)
