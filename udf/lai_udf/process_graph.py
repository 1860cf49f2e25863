"""The openEO process graph: from a Sentinel-2 cube, or a collection, to a LAI cube.

`lai_cube` and `lai_from_collection` are what a user of the openEO Python client calls; the UDF
text is `lai_udf/predict.py`, verbatim. Nothing here talks to a back-end.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import openeo
from openeo.api.process import Parameter
from openeo.metadata import CubeMetadata
from shapely.geometry import GeometryCollection, shape
from shapely.geometry.base import BaseGeometry

from lai_udf import predict, series
from lai_udf.errors import GeometryError, LaiGraphError
from lai_udf.longitudes import crosses_antimeridian
from lai_udf.predict import ANGLES, BANDS, HALO_PX
from lai_udf.smoothing import renamed_errors
from lai_udf.zones import repair, split_by_zone

WINDOW_PX = 224  # default core of a window; the UDF gets 224 + 2 x 16 = 256 px
WINDOW_MULTIPLE = 4  # windows and overlaps are multiples of the poolings of the shipped networks
COLLECTION = "SENTINEL2_L2A"  # name of the collection on the Copernicus Data Space and Terrascope
COLLECTION_SCALE = 1e-4
"""Their `load_collection` gives digital numbers with the offset of baseline 04.00 taken off.

Source: Open-EO/openeo-geopyspark-driver#1051.
"""
AUXILIARY_BANDS = ("SCL", *ANGLES)  # optional inputs: scene classes and angles
SIDES = ("west", "south", "east", "north")
PIXEL_M = 20.0  # side of a pixel, m
METRES_PER_DEGREE = 111_320.0  # length of one degree of latitude, m
SERIES_INPUT = tuple(band for band in predict.OUTPUT_BANDS if band in series.LAI_BANDS)
"""Output bands that the series is made of."""


def lai_udf_code(context: Mapping[str, object]) -> openeo.UDF:
    """Return the UDF as the client sends it: `predict.py` as it is, with its context.

    Raises:
        lai_udf.predict.LaiInputError: a setting that the UDF would refuse.
    """
    # A wrong key fails here, not in a paid job; what a parameter will hold is not known yet.
    fixed = {key: value for key, value in context.items() if not isinstance(value, Parameter)}
    predict.read_settings(fixed)
    return _udf(predict.__file__, context)


def _udf(path: str, context: Mapping[str, object]) -> openeo.UDF:
    return openeo.UDF.from_file(path, runtime="Python", version="3.11", context=dict(context))


def lai_cube(
    cube: openeo.DataCube,
    *,
    model: str | Parameter = "lai_model",
    size: int = WINDOW_PX,
    overlap: int = HALO_PX,
    samples: int | Parameter = 0,
    seed: int | Parameter = 0,
    variables: Sequence[str] = ("LAI",),
    resolution: int = 20,
    bands: Sequence[str] | Parameter | None = None,
    target: str | Parameter = "sl2p",
    region: str | Parameter = "known",
    level: float | Parameter = 0.95,
    reflectance_scale: float | Parameter = 1.0,
    reflectance_offset: float | Parameter = 0.0,
    pass_through: Sequence[str] = (),
) -> openeo.DataCube:
    """Apply the LAI network to a Sentinel-2 L2A cube with `apply_neighborhood`.

    Args:
        cube: the ten bands B02 ... B12 by label, optionally SCL and the angle bands; 20 m, or 10 m
            with the 20 m bands by nearest neighbour.
        model: where the worker finds the bundle: a folder made by `udf-dependency-archives`
            (`lai_model`), or a path on a back-end that shares the disk.
        size: core of a window, px, a multiple of 4; the UDF gets size + 2 overlap.
        overlap: px on every side, a multiple of 4, at most `size`. 16 covers the default network.
        samples: Monte-Carlo draws for `LAI_SD`; 0 = single pass.
        seed: seed of the draws.
        variables: of `LAI`, `FAPAR`, `FCOVER`, `CCC`, `CWC`.
        resolution: side of the cube's pixels, m: 20 or 10.
        bands: output bands; None: those of the variables, `lai_udf.predict.output_bands`.
        target: `sl2p` or `field`.
        region: `known`, or `new` for regions unlike those of the field data.
        level: of the interval.
        reflectance_scale: reflectance = value * scale + offset; 0.0001 for digital numbers.
        reflectance_offset: -0.1 for digital numbers of processing baseline 04.00 and later.
        pass_through: input bands that come back unchanged, behind the output bands.

    Returns:
        The LAI cube, bands labelled, float32.

    Raises:
        LaiGraphError: size or overlap that no back-end would treat well; a cube known to lack a
            band.
        lai_udf.predict.LaiInputError: a setting that the UDF would refuse.
    """
    if size < WINDOW_MULTIPLE or size % WINDOW_MULTIPLE or overlap % WINDOW_MULTIPLE:
        raise LaiGraphError(
            f"size={size} and overlap={overlap} must be positive multiples of {WINDOW_MULTIPLE} "
            "px, so that the poolings of neighbouring windows stay in phase"
        )
    if not 0 < overlap <= size:
        raise LaiGraphError(f"overlap={overlap} must lie between {WINDOW_MULTIPLE} and size={size}")
    _require_input(cube.metadata, resolution)
    chosen = predict.output_bands(tuple(variables)) if bands is None else bands
    labels = chosen if isinstance(chosen, Parameter) else list(chosen)
    context: dict[str, object] = {
        "model": model,
        "target": target,
        "samples": samples,
        "seed": seed,
        "bands": labels,
        "reflectance_scale": reflectance_scale,
        "reflectance_offset": reflectance_offset,
        "overlap": overlap,
    }
    # Defaults stay out: a plain graph is one that a UDF and a bundle of before understand.
    for key, value, default in (
        ("variables", list(variables), ["LAI"]),
        ("resolution", resolution, 20),
        ("region", region, "known"),
        ("level", level, 0.95),
    ):
        context |= {} if value == default else {key: value}
    if pass_through:
        if not isinstance(labels, list):
            raise LaiGraphError("pass_through needs a list of bands, not a parameter")
        context["pass_through"] = list(pass_through)
        labels = [*labels, *pass_through]
    return _apply_in_windows(cube, lai_udf_code(context), size, overlap, labels)


def _apply_in_windows(
    cube: openeo.DataCube, udf: openeo.UDF, size: int, overlap: int, labels: list[str] | Parameter
) -> openeo.DataCube:
    """Run a UDF on windows of x and y, and label the bands that come out."""
    result = cube.apply_neighborhood(
        process=udf,
        size=[{"dimension": axis, "value": size, "unit": "px"} for axis in ("x", "y")],
        overlap=[{"dimension": axis, "value": overlap, "unit": "px"} for axis in ("x", "y")],
    )
    # Not `result.rename_labels`: the client's takes no parameter, and needs known dimensions.
    metadata: CubeMetadata | None = result.metadata
    if metadata is not None:
        if isinstance(labels, list) and "bands" in (metadata.dimension_names() or []):
            metadata = metadata.rename_labels("bands", labels)
        else:
            metadata = None
    arguments = {"data": result, "dimension": "bands", "target": labels}
    return result.process("rename_labels", arguments, metadata=metadata)


def series_cube(
    cube: openeo.DataCube, *, size: int = WINDOW_PX, **context: object
) -> openeo.DataCube:
    """Smooth LAI over time with `apply_neighborhood`: windows of y and x, all dates of each.

    Args:
        cube: LAI with what there is of its bounds, flags, scene classes and reflectance, see
            `lai_udf.series`.
        size: side of a window, px; pixels are smoothed by themselves, so that there is no overlap.
        **context: keys of `lai_udf.series.SeriesOptions`; `dates`, or `step_days`, `start`, `end`.
    """
    fixed = {key: value for key, value in context.items() if not isinstance(value, Parameter)}
    with renamed_errors():
        settings = series.read_settings(fixed)
    udf = _udf(series.__file__, context)
    return _apply_in_windows(cube, udf, size, 0, list(series.output_bands(settings)))


def list_series_dates(temporal_extent: Sequence[str], step_days: int) -> list[str]:
    """Return a date every `step_days` from the first day to before the last, ISO 8601.

    Raises:
        LaiError: an extent without an end, without dates, or in the wrong order.
    """
    if len(temporal_extent) != 2 or temporal_extent[1] is None:
        raise LaiGraphError("step_days needs a temporal extent of two days")
    with renamed_errors():
        first, end = (series.read_date("temporal_extent", day) for day in temporal_extent)
        last = (end - timedelta(days=1)).isoformat()
        grid = {"step_days": step_days, "start": first.isoformat(), "end": last}
        return [day.isoformat() for day in series.read_settings(grid).list_dates()]


def _require_input(metadata: CubeMetadata | None, resolution: int) -> None:
    """Refuse a cube whose metadata lack a band, or give another pixel size in metres."""
    if metadata is None:
        return
    listed = metadata.band_names if metadata.has_band_dimension() else []
    missing = [band for band in BANDS if band not in listed]
    if listed and missing:
        raise LaiGraphError(
            f"the cube lacks {', '.join(missing)}; it has {', '.join(listed)}: load, or rename to, "
            f"{' '.join(BANDS)}"
        )
    steps = {
        float(dimension.step)
        for dimension in metadata.spatial_dimensions
        if isinstance(dimension.step, int | float) and dimension.step >= 1
    }
    if steps - {float(resolution)}:
        raise LaiGraphError(
            f"the cube has pixels of {', '.join(f'{step:g}' for step in sorted(steps))} m",
            parameter="resolution",
            value=resolution,
            expected="the size of the pixels, 20 or 10, or resample the cube to it",
        )


def lai_from_collection(
    connection: openeo.Connection | None,
    *,
    spatial_extent: dict[str, Any] | Parameter | None = None,
    geometry: Mapping[str, Any] | BaseGeometry | None = None,
    temporal_extent: Sequence[str] | Parameter,
    collection: str | Parameter = COLLECTION,
    auxiliary_bands: Sequence[str] | Parameter = AUXILIARY_BANDS,
    reflectance_scale: float | Parameter = COLLECTION_SCALE,
    resolution: int = 20,
    step_days: int | None = None,
    **settings: Any,  # noqa: ANN401 - passed to lai_cube, which names and checks them
) -> openeo.DataCube:
    """Load Sentinel-2 L2A, bring it to 20 m (or 10 m) and estimate LAI.

    A bounding box given here is loaded with the overlap around it and clipped afterwards, so that
    LAI at its border has neighbours. A `Parameter` cannot be widened: there the back-end's own
    buffering counts, and where it has none, `LAI_FLAGS` marks it (64).

    Args:
        connection: of the back-end; None to build a graph only.
        spatial_extent: west, south, east, north and optionally `crs` (EPSG code).
        geometry: instead, a polygon in degrees (GeoJSON or shapely): its box is loaded, pixels
            outside are no data; within one UTM zone.
        temporal_extent: first day and the day after the last one, ISO 8601.
        collection: id of the collection.
        auxiliary_bands: scene classes and angles to load, of those that the collection has.
        reflectance_scale: see `lai_cube`; by default digital numbers without offset.
        resolution: 20, or 10 m: the 20 m bands come by nearest neighbour, as the network requires.
        step_days: smooth LAI over time and give it every so many days from the first day on, see
            `series_cube`: clouds are rejected, gaps filled.
        **settings: see `lai_cube`.

    Returns:
        The LAI cube; with `step_days` that of `lai_udf.series`.

    Raises:
        LaiGraphError: an extent that is no bounding box; a window no back-end would treat well; a
            band that the collection lacks.
        lai_udf.predict.LaiInputError: a setting that the UDF would refuse.
    """
    if (spatial_extent is None) == (geometry is None):
        raise LaiGraphError("give either spatial_extent or geometry")
    polygon = None if geometry is None else read_geometry(geometry)
    if polygon is not None:
        spatial_extent = dict(zip(SIDES, polygon.bounds, strict=True))
    extent: dict[str, Any] | Parameter | None = spatial_extent
    if isinstance(spatial_extent, dict):
        margin_px = int(settings.get("overlap", HALO_PX))
        extent = buffer_extent(spatial_extent, margin_px, resolution)
    settings["resolution"] = resolution

    def load(bands: Sequence[str] | Parameter, method: str) -> openeo.DataCube:
        names = bands if isinstance(bands, Parameter) else list(bands)
        try:
            cube = openeo.DataCube.load_collection(
                collection,
                connection=connection,
                spatial_extent=extent,
                temporal_extent=temporal_extent,
                bands=names,
                fetch_metadata=connection is not None,
            )
        except ValueError as error:  # of the client, for a band that the collection lacks
            needed = bands is BANDS
            raise LaiGraphError(
                f"{collection}: {error}",
                parameter="collection" if needed else "auxiliary_bands",
                value=collection if needed else names,
                expected="one with the ten bands" if needed else "bands that the collection has",
            ) from error
        return cube.resample_spatial(resolution=resolution, method=method)

    # At 20 m the 10 m bands are the mean of 2 x 2 pixels.
    cube = load(BANDS, "average" if resolution == PIXEL_M else "near")
    if auxiliary_bands:
        cube = cube.merge_cubes(load(auxiliary_bands, "near"))
    if step_days is None:
        lai = lai_cube(cube, reflectance_scale=reflectance_scale, **settings)
    else:
        if isinstance(auxiliary_bands, Parameter) or isinstance(temporal_extent, Parameter):
            raise LaiGraphError("step_days needs bands and dates that are known beforehand")
        shared: dict[str, Any] = {"reflectance_scale": reflectance_scale}
        shared |= {key: settings[key] for key in ("reflectance_offset", "level") if key in settings}
        days = list_series_dates(temporal_extent, step_days)
        passed = [*series.EVIDENCE_BANDS, *(["SCL"] if "SCL" in auxiliary_bands else [])]
        settings = {"bands": SERIES_INPUT, **settings, "pass_through": passed}
        lai = lai_cube(cube, reflectance_scale=reflectance_scale, **settings)
        period = [str(day)[:10] for day in temporal_extent]
        size = int(settings.get("size", WINDOW_PX))
        lai = series_cube(lai, size=size, dates=days, period=period, **shared)
    if polygon is not None:
        lai = lai.mask_polygon(polygon)
    return lai.filter_bbox(spatial_extent) if isinstance(spatial_extent, dict) else lai


def buffer_extent(
    extent: Mapping[str, Any], margin_px: int = HALO_PX, pixel_m: float = PIXEL_M
) -> dict[str, Any]:
    """Widen a bounding box by `margin_px` pixels of `pixel_m` on every side.

    Args:
        extent: west, south, east, north; degrees (west > east across ±180°), or metres where
            `crs` names another EPSG code than 4326.
        margin_px: pixels to add on every side.
        pixel_m: side of a pixel, m.

    Raises:
        LaiGraphError: a side is missing or the box is empty.
    """
    if missing := [side for side in SIDES if side not in extent]:
        raise LaiGraphError(f"spatial extent lacks {', '.join(missing)}: give {', '.join(SIDES)}")
    west, south, east, north = (float(extent[side]) for side in SIDES)
    in_degrees = str(extent.get("crs", 4326)).upper().removeprefix("EPSG:") == "4326"
    crosses = in_degrees and crosses_antimeridian(west, east)
    if not ((west < east or crosses) and south < north):
        raise LaiGraphError(f"spatial extent {dict(extent)} is empty: west < east, south < north")
    margin_x = margin_y = margin_px * pixel_m
    if in_degrees:
        margin_y /= METRES_PER_DEGREE
        widest = min(max(abs(south), abs(north)) + margin_y, 89.0)
        margin_x = margin_y / math.cos(math.radians(widest))
    return dict(extent) | {
        "west": west - margin_x,
        "south": south - margin_y,
        "east": east + margin_x,
        "north": north + margin_y,
    }


def read_geometry(geometry: Mapping[str, Any] | BaseGeometry) -> BaseGeometry:
    """Return a valid polygon, degrees, of GeoJSON (a Feature or FeatureCollection, too) or shapely.

    Raises:
        LaiGraphError: it is none, is broken beyond repair, or lies in two UTM zones.
    """
    try:
        polygon = repair(geometry if isinstance(geometry, BaseGeometry) else _shape(geometry))
        if polygon.area == 0:
            raise GeometryError("a point has no area")
    except (GeometryError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise LaiGraphError(
            f"this is no polygon ({error})",
            parameter="geometry",
            expected="a polygon, as GeoJSON or of shapely, in degrees",
        ) from error
    zones = sorted({code for code, _ in split_by_zone(polygon, "EPSG:4326")})
    if len(zones) != 1:
        raise LaiGraphError(
            f"the polygon lies in {len(zones)} UTM zones ({', '.join(map(str, zones))}): a "
            "back-end would resample the pixels of one; `lai-udf produce` makes a job for each",
            parameter="geometry",
            expected="a polygon within one zone",
        )
    return polygon


def _shape(document: Mapping[str, Any]) -> BaseGeometry:
    kind = document["type"]
    if kind == "FeatureCollection":
        return GeometryCollection([_shape(feature) for feature in document["features"]])
    return _shape(document["geometry"]) if kind == "Feature" else shape(dict(document))
