"""The graph of the README over bands of 10 m and 20 m: what `lai-udf run` and `zonal` give."""

import json
import time
from pathlib import Path

import numpy as np
import openeo
import pandas as pd
import pytest
import rasterio
import shapely
from fake_cubes import fake_cube
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds, transform_geom

from lai_backend.local import LocalConnection
from lai_udf.bundle import default_bundle_path
from lai_udf.grid import Grid
from lai_udf.predict import BANDS
from lai_udf.process_graph import lai_from_collection
from lai_udf.run import predict_scene
from lai_udf.scenes.read import read_scene
from lai_udf.zonal import describe_pixels, take_pixels
from lai_udf.zones import weigh_zones

FINE = ("B02", "B03", "B04", "B08")
SIDE, WEST, NORTH, EPSG = 140, 600_000.0, 5_000_000.0, 32633
INNER = (32, 112)
"""Pixels of 20 m, from the corner, that the graph asks for, in phase with the poolings."""
DATES = ("2021-06-05", "2023-06-05")
OFFSETS = dict(zip(DATES, (0.0, -0.1), strict=True))
"""Before and after baseline 04.00."""


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """Write two dates, a file a band."""
    home = tmp_path_factory.mktemp("collection") / "S2"
    rng = np.random.default_rng(3)
    fine = fake_cube(rng, 2 * SIDE, dates=2)
    for date, reflectance in zip(DATES, fine.values, strict=True):
        folder = home / date
        folder.mkdir(parents=True)
        assets = {}
        for name, layer in zip(BANDS, reflectance, strict=True):
            step = 10 if name in FINE else 20
            plane = layer if step == 10 else layer.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
            numbers = np.round((plane - OFFSETS[date]) * 10_000).astype("uint16")
            write(folder / f"{name}.tif", numbers, step)
            scaling = {"scale": 1e-4, "offset": OFFSETS[date], "nodata": 0}
            assets[name] = asset(name, {"raster:bands": [scaling]})
        write(folder / "SCL.tif", np.full((SIDE, SIDE), 4, "uint8"), 20)
        assets["SCL"] = asset("SCL", {})
        (folder / f"{date}.json").write_text(json.dumps(item(date, assets)))
    extent = {
        "spatial": {"bbox": [box()]},
        "temporal": {"interval": [[f"{DATES[0]}T00:00:00Z", None]]},
    }
    described = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "S2",
        "description": "Two dates.",
    }
    described |= {"license": "other", "extent": extent, "links": []}
    (home / "collection.json").write_text(json.dumps(described))
    return home.parent


def write(path: Path, layer: np.ndarray, step: int) -> None:
    profile = {"driver": "GTiff", "dtype": layer.dtype, "count": 1, "nodata": 0}
    profile |= {"height": len(layer), "width": layer.shape[1], "crs": f"EPSG:{EPSG}"}
    with rasterio.open(
        path, "w", **profile, transform=from_origin(WEST, NORTH, step, step)
    ) as file:
        file.write(layer, 1)


def asset(name: str, more: dict) -> dict:
    return {"href": f"./{name}.tif", "type": "image/tiff", "roles": ["data"], **more}


def box() -> list[float]:
    bounds = (WEST, NORTH - 20 * SIDE, WEST + 20 * SIDE, NORTH)
    return list(transform_bounds(EPSG, 4326, *bounds, densify_pts=21))


def item(date: str, assets: dict) -> dict:
    bbox = box()
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": f"S2A_{date}",
        "properties": {"datetime": f"{date}T10:10:19Z", "platform": "sentinel-2a"},
        "bbox": bbox,
        "geometry": shapely.geometry.mapping(shapely.box(*bbox)),
        "links": [],
        "assets": assets,
    }


def readme_graph(**more) -> openeo.DataCube:
    first, last = INNER
    extent = {
        "west": WEST + 20 * first,
        "east": WEST + 20 * last,
        "south": NORTH - 20 * last,
        "north": NORTH - 20 * first,
        "crs": EPSG,
    }
    return lai_from_collection(
        None,
        spatial_extent=extent,
        temporal_extent=["2021-06-01", "2023-07-01"],
        collection="S2",
        auxiliary_bands=["SCL"],
        model=str(default_bundle_path()),
        **more,
    )


@pytest.fixture(scope="module")
def connection(collection) -> LocalConnection:
    return LocalConnection(collections=[collection])


@pytest.fixture(scope="module")
def expected(collection) -> list:
    return [predict_scene(read_scene(collection / "S2" / day / f"{day}.json")) for day in DATES]


def test_it_gives_what_the_command_gives_before_and_after_baseline_04_00(connection, expected):
    found = connection.execute(readme_graph().flat_graph()).compute()
    inner = slice(*INNER)
    for day, whole in enumerate(expected):
        for band in ("LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER"):
            one = found.isel(t=day).sel(bands=band).values
            other = whole.sel(bands=band).values[inner, inner]
            np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
            assert np.nanmax(np.abs(one - other)) <= 1e-4


def test_means_of_fifty_parcels_are_those_of_zonal(connection, tmp_path):
    squares = [
        shapely.box(x, y - 120, x + 120, y)
        for n in range(50)
        for x, y in [(WEST + 20 * (34 + 10 * (n % 7)), NORTH - 20 * (34 + 9 * (n // 7)))]
    ]
    features = [
        {
            "type": "Feature",
            "properties": {},
            "geometry": transform_geom(EPSG, 4326, shapely.geometry.mapping(square)),
        }
        for square in squares
    ]
    fields = {"type": "FeatureCollection", "features": features}
    lai = readme_graph()
    started = time.perf_counter()
    cube = connection.execute(lai.flat_graph()).compute()
    alone = time.perf_counter() - started
    started = time.perf_counter()
    means = connection.execute(lai.aggregate_spatial(fields, reducer="mean").flat_graph())
    assert time.perf_counter() - started <= 5 * alone + 5  # not a run a parcel

    from lai_backend.vectors import ZonalValues, read_polygons, write_vectors

    values = ZonalValues(read_polygons(fields), means)
    (file,) = write_vectors(values, "CSV", tmp_path, "")
    table = pd.read_csv(tmp_path / file["name"])
    grid = Grid.of_data_array(cube.isel(t=0), "the cube")
    zones = weigh_zones(squares, f"EPSG:{EPSG}", grid)
    for day in range(cube.sizes["t"]):
        layers = {"lai": cube.isel(t=day).sel(bands="LAI").values}
        zonal = describe_pixels(take_pixels(zones, layers), min_valid_share=0.0)
        rows = table[table["date"].str.startswith(DATES[day])]
        np.testing.assert_allclose(rows["LAI"], zonal.mean["lai"], atol=1e-6)
