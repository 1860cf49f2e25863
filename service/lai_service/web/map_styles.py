"""Styles for QGIS: the colours of the tiles for a COG that is opened there.

QGIS applies scale and offset of a GeoTIFF itself, so that the limits are in m2 m-2.
"""

from xml.sax.saxutils import quoteattr

from lai_service.web.colours import STYLES, colour_maps

_STOPS = 11


def qml(asset: str) -> str:
    """Return the style of an asset (`lai`, `lai_sd`, `lai_flags`, …) as a QGIS layer style."""
    style = STYLES[asset]
    colours: dict[int, tuple[int, int, int, int]] = dict(colour_maps().get(style.colour_map))  # type: ignore[arg-type]
    if style.limits is None:
        entries = "".join(
            f'<paletteEntry value="{number}" color="#{red:02x}{green:02x}{blue:02x}" '
            f'alpha="{alpha}" label="{number}"/>'
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
                f'<item value="{value:g}" label={quoteattr(f"{value:g}")} '
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
