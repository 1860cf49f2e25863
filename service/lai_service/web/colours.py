"""Colours of the tiles, and what they mean.

`lai` is the colour map of the thumbnails (lightness falls evenly, so it reads in greyscale), for
LAI and its interval between 0 and 6; `lai_sd` for its spread between 0 and 1; `lai_flags` shows
the most serious flag of a pixel and nothing where there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.sax.saxutils import quoteattr

from rio_tiler.colormap import ColorMaps
from rio_tiler.colormap import cmap as default_maps

from lai_udf.picture import ANCHORS, LAI_RANGE, colour_table
from lai_udf.predict import (
    CLIPPED_TO_MAX,
    CLIPPED_TO_MIN,
    CLOUD_NEAR,
    INPUT_OUT_OF_DOMAIN,
    NO_DATA_NEAR,
    OUTPUT_TOO_HIGH,
    OUTPUT_TOO_LOW,
    RESIDUAL_CLOUD,
    VARIABLES,
)

RENDER = "https://stac-extensions.github.io/render/v2.0.0/schema.json"
"""The render extension, by which a client asks for tiles in our colours."""

_STOPS = 11  # of a style for QGIS

_SPREAD: tuple[tuple[int, int, int], ...] = (
    (247, 243, 236),
    (234, 203, 160),
    (215, 150, 96),
    (171, 96, 62),
    (104, 50, 44),
    (48, 20, 26),
)

_FLAGS: tuple[tuple[int, tuple[int, int, int], str], ...] = (
    (NO_DATA_NEAR, (120, 120, 120), "no data near"),
    (CLOUD_NEAR, (112, 178, 222), "cloud, shadow or snow near"),
    (RESIDUAL_CLOUD, (60, 120, 170), "residual cloud or haze suspected"),
    (OUTPUT_TOO_HIGH | OUTPUT_TOO_LOW, (196, 40, 60), "LAI out of range"),
    (CLIPPED_TO_MAX | CLIPPED_TO_MIN, (240, 160, 48), "LAI clipped to its range"),
    (INPUT_OUT_OF_DOMAIN, (130, 80, 170), "reflectance out of domain"),
)
"""Bits, colour and meaning, the most serious first."""


@dataclass(frozen=True)
class Style:
    """How an asset is drawn."""

    colour_map: str  # name for `colormap_name` of the tiles
    rescale: tuple[int, int] | None  # stored numbers at the ends of the colour map; None for flags
    legend: str  # HTML that explains the colours

    @property
    def limits(self) -> tuple[float, float] | None:
        """Values at the ends of the colour map, m2 m-2: of whatever scale a raster has."""
        if self.rescale is None:
            return None
        low, high = (number * VARIABLES["LAI"].scale for number in self.rescale)
        return low, high

    @property
    def query(self) -> str:
        """Return the parameters of a tile, each with its `&`."""
        ends = "" if self.limits is None else "unscale=true&rescale={:g},{:g}&".format(*self.limits)
        return f"{ends}colormap_name={self.colour_map}&"


@cache  # the same for every application and request
def colour_maps() -> ColorMaps:
    """Return the colour maps of the tiles: those of rio-tiler and ours."""
    lai, spread = (
        {
            number: (red, green, blue, 255)
            for number, (red, green, blue) in enumerate(table.tolist())
        }
        for table in (colour_table(), colour_table(anchors=_SPREAD))
    )
    flags = {number: _flag_colour(number) for number in range(256)}
    return default_maps.register({"lai": lai, "lai_sd": spread, "lai_flags": flags})


def _flag_colour(number: int) -> tuple[int, int, int, int]:
    """Return the colour of a flag number; transparent where no flag is set."""
    for bits, colour, _ in _FLAGS:
        if number & bits:
            return (*colour, 255)
    return (0, 0, 0, 0)


def _flag_label(number: int) -> str:
    """Return what the bits of a flag number mean, the most serious first."""
    return ", ".join(text for bits, _, text in _FLAGS if number & bits) or "no flag"


def _ramp(anchors: tuple[tuple[int, int, int], ...], label: str, low: str, high: str) -> str:
    stops = ",".join(f"rgb{colour}" for colour in anchors)
    bar = f"display:inline-block;width:8em;height:.8em;background:linear-gradient(90deg,{stops})"
    return f'{label} {low} <span style="{bar}"></span> {high} m² m⁻²'


def _swatches() -> str:
    box = "display:inline-block;width:.8em;height:.8em;background:rgb"
    return " ".join(f'<span style="{box}{colour}"></span> {text}' for _, colour, text in _FLAGS)


def _stored(lai: float) -> int:
    return round(lai / VARIABLES["LAI"].scale)


_LOW, _HIGH = LAI_RANGE
_LAI_ENDS = (_stored(_LOW), _stored(_HIGH))


def _lai_style(label: str) -> Style:
    return Style("lai", _LAI_ENDS, _ramp(ANCHORS, label, f"{_LOW:g}", f"{_HIGH:g}"))


STYLES = {
    "lai": _lai_style("LAI"),
    "lai_lower": _lai_style("LAI, lower end"),
    "lai_upper": _lai_style("LAI, upper end"),
    "lai_sd": Style(
        "lai_sd", (0, _stored(1.0)), _ramp(_SPREAD, "Standard deviation of LAI", "0", "1")
    ),
    "lai_flags": Style("lai_flags", None, _swatches()),
}
"""Style by asset key."""


def renders_of(assets: Mapping[str, object]) -> dict[str, Any]:
    """Return the `renders` of a collection (render extension 2.0.0) for the assets it has."""
    renders: dict[str, Any] = {}
    for key, style in STYLES.items():
        if key in assets:
            ends = {} if style.rescale is None else {"rescale": [list(style.rescale)]}
            renders[key] = {"assets": [key], "colormap_name": style.colour_map, **ends}
    return renders


def qml(asset: str) -> str:
    """Return the style of an asset (`lai`, `lai_sd`, `lai_flags`, …) as a QGIS layer style.

    QGIS applies scale and offset of a GeoTIFF itself, so that the limits are in m2 m-2.
    """
    style = STYLES[asset]
    colours: dict[int, tuple[int, int, int, int]] = dict(colour_maps().get(style.colour_map))  # type: ignore[arg-type]
    if style.limits is None:
        entries = "".join(
            f'<paletteEntry value="{number}" color="#{red:02x}{green:02x}{blue:02x}" '
            f'alpha="{alpha}" label="{number}: {_flag_label(number)}"/>'
            for number, (red, green, blue, alpha) in sorted(colours.items())
        )
        renderer = (
            '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">'
            f"<colorPalette>{entries}</colorPalette></rasterrenderer>"
        )
    else:
        low, high = style.limits
        items = []
        for stop in range(_STOPS):
            value = low + (high - low) * stop / (_STOPS - 1)
            red, green, blue, _ = colours[round(255 * stop / (_STOPS - 1))]
            items.append(
                f'<item value="{value:g}" label={quoteattr(f"{value:g} m² m⁻²")} '
                f'color="#{red:02x}{green:02x}{blue:02x}" alpha="255"/>'
            )
        renderer = (
            '<rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
            f'classificationMin="{low:g}" classificationMax="{high:g}"><rastershader>'
            '<colorrampshader colorRampType="INTERPOLATED" classificationMode="1" '
            f'minimumValue="{low:g}" maximumValue="{high:g}" clip="0">{"".join(items)}'
            "</colorrampshader></rastershader></rasterrenderer>"
        )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis version="3.28"><pipe>{renderer}</pipe></qgis>\n'
    )
