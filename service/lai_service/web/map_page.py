"""The map page: `/map`, with everything it loads from this package; and what it asks for.

The page shows a day or month of a collection as a mosaic, and the curve of a place that is clicked,
drawn or uploaded (`/timeseries`). Its parts are plain files in `map/`, nothing is built.
"""

from importlib import resources
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

from lai_service.api.limits import known_query
from lai_service.catalogue.port import Catalogue, Search, all_items
from lai_service.web.colours import STYLES, qml
from lai_service.web.mosaic import MIN_ZOOM, CollectionQuery
from lai_udf.longitudes import Bounds, enclosing_box, flat_box
from lai_udf.picture import ANCHORS, LAI_RANGE

MAX_DAYS_ITEMS = 3000
"""More items than this are offered by month, which the catalogue counts at once."""


def add_map_page(app: FastAPI, catalogue: Catalogue) -> None:
    """Serve the map page, the dates it offers, its colours, and styles for QGIS."""
    folder = Path(str(resources.files("lai_service.web") / "map"))

    @app.get("/map/dates", tags=["Map"], dependencies=[Depends(known_query)])
    def dates(collection: CollectionQuery) -> dict[str, object]:
        """Return the days (of very many items, the months) on which a collection has items.

        A day comes with the box of its items: west, south, east, north; west > east across ±180°.
        """
        extent = flat_box(catalogue.collection(collection)["extent"]["spatial"]["bbox"][0])
        search = Search(collections=(collection,))
        if catalogue.count(search) > MAX_DAYS_ITEMS:
            months = catalogue.count_by_month(search)
            found = [{"date": month[:7], "items": count} for month, count in months]
            return {"unit": "month", "bbox": extent, "dates": found}
        days: dict[str, list[Bounds]] = {}
        for item in all_items(catalogue, search):
            box = flat_box(item["bbox"]) if item.get("bbox") else extent
            days.setdefault(_day(item["properties"]), []).append(box)
        found = [
            {"date": day, "items": len(boxes), "bbox": enclosing_box(boxes)}
            for day, boxes in sorted(days.items())
        ]
        return {"unit": "day", "bbox": extent, "dates": found}

    @app.get("/map/colours", tags=["Map"], dependencies=[Depends(known_query)])
    def colours() -> dict[str, object]:
        """Return the colour scale of LAI: its ends in m2 m-2 and colours from low to high."""
        scale = ["#{:02x}{:02x}{:02x}".format(*anchor) for anchor in ANCHORS]
        return {"range": LAI_RANGE, "unit": "m² m⁻²", "colours": scale, "min_zoom": MIN_ZOOM}

    @app.get("/styles/{asset}.qml", tags=["Map"], dependencies=[Depends(known_query)])
    def style(asset: str) -> Response:
        """Return the style of an asset for QGIS."""
        if asset not in STYLES:
            return Response(status_code=404)
        return Response(qml(asset), media_type="application/xml")

    app.mount("/map", StaticFiles(directory=folder, html=True), name="map")


def _day(properties: dict[str, object]) -> str:
    return str(properties.get("datetime") or properties.get("start_datetime"))[:10]
