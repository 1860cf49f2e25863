"""Parcels as people keep them: registers and plain polygons, in every format, anywhere."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from fake_parcels import BANDS, make_cube, make_parcels, write_day
from pyproj import Transformer
from rasterio.crs import CRS
from shapely.geometry import LineString, box

from lai_training.parcels.means import (
    find_items,
    observe_items,
    outline_items,
    read_parcels,
)
from lai_udf.errors import PolygonFileError
from lai_udf.grid import Grid
from lai_udf.polygons import LEFT_OUT


@pytest.mark.parametrize("name", ["p.gpkg", "p.parquet", "p.geojson"])
def test_the_register_is_read_from_each_format(tmp_path: Path, name: str) -> None:
    parcels = make_parcels(a=(0, 0, 2, 2), b=(2, 2, 5, 5))
    register_ = parcels.rename(columns={"parcel": "ID_PARCEL", "crop": "CODE_CULTU"})
    path = tmp_path / name
    if path.suffix == ".parquet":
        register_.to_parquet(path)
    else:
        register_.to_crs("EPSG:4326" if path.suffix == ".geojson" else "EPSG:2154").to_file(path)

    table = read_parcels(path)

    assert table["parcel"].tolist() == ["a", "b"]
    assert table["crop"].tolist() == ["BTH", "BTH"]


@pytest.mark.parametrize("name", ["p.gpkg", "p.parquet"])
def test_only_the_parcels_near_the_items_are_read(tmp_path: Path, name: str) -> None:
    write_day(tmp_path / "item", make_cube(np.ones((6, 8))), "2020-06-08T10:00:00Z")
    here_and_far = make_parcels(a=(0, 0, 2, 2), far=(9000, 0, 9002, 2)).to_crs("EPSG:2154")
    path = tmp_path / name
    (here_and_far.to_parquet if path.suffix == ".parquet" else here_and_far.to_file)(path)

    within = outline_items(find_items([tmp_path]))
    table = read_parcels(path, within=within)

    assert table["parcel"].tolist() == ["a"]
    elsewhere = within.translate(xoff=30)
    with pytest.raises(PolygonFileError):
        read_parcels(path, within=elsewhere)


def test_a_buffer_takes_the_border_away(tmp_path: Path) -> None:
    make_parcels(a=(0, 0, 1, 1), b=(1, 1, 6, 6)).to_file(tmp_path / "p.gpkg")

    table = read_parcels(tmp_path / "p.gpkg", inner_buffer_m=10)

    assert table["parcel"].tolist() == ["b"]
    assert table.area[0] == pytest.approx((100 - 20) ** 2, rel=1e-3)


def test_wrong_parcel_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.gpkg").write_text("no parcels")
    make_parcels(a=(0, 0, 2, 2)).to_file(tmp_path / "plain.gpkg")
    pd.concat([make_parcels(a=(0, 0, 2, 2))] * 2).to_file(tmp_path / "twice.gpkg")

    for name, column in (("no", None), ("plain", "ID_PARCEL"), ("twice", "parcel")):
        with pytest.raises(PolygonFileError):
            read_parcels(tmp_path / f"{name}.gpkg", id_column=column)


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({}, ["1", "2"]),
        ({"ID": ["x", "y"]}, ["x", "y"]),
        ({"ID_PARCEL": ["7", "8"], "CODE_CULTU": ["BTH", "MIS"]}, ["7", "8"]),
        ({"Field": ["north", "south"], "area": [1, 2]}, ["north", "south"]),
    ],
)
def test_plain_polygons_need_no_column_names(
    tmp_path: Path, columns: dict[str, list[object]], ids: list[str]
) -> None:
    outlines = make_parcels(a=(0, 0, 2, 2), b=(2, 2, 5, 5)).geometry
    gpd.GeoDataFrame(columns, geometry=outlines).to_parquet(tmp_path / "p.parquet")

    table = read_parcels(tmp_path / "p.parquet")

    assert table["parcel"].tolist() == ids
    assert table["crop"].tolist() == columns.get("CODE_CULTU", ["", ""])


def test_parcels_without_area_are_left_out_by_name(tmp_path: Path) -> None:
    parcels = make_parcels(good=(0, 0, 2, 2), bad=(0, 0, 2, 2), gone=(0, 0, 2, 2))
    parcels.geometry = [parcels.geometry[0], LineString([(0, 0), (1, 1)]), None]
    parcels.to_parquet(tmp_path / "p.parquet")

    table = read_parcels(tmp_path / "p.parquet")

    assert table["parcel"].tolist() == ["good"]
    assert [name for name, _ in table.attrs[LEFT_OUT]] == ["bad", "gone"]
    parcels[1:].to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(PolygonFileError):
        read_parcels(tmp_path / "bad.parquet")


def test_parcels_on_both_sides_of_the_antimeridian_are_found(tmp_path: Path) -> None:
    grid = Grid(CRS.from_epsg(32601), Affine(20, 0, 170_000, 0, -20, 1_110_000), 200, 200)
    layers = np.stack([np.full((200, 200), v) for v in (2, 0.1, 1, 3, 0)]).astype("float32")
    write_day(tmp_path / "item", grid.to_data_array(layers, BANDS), "2020-06-08T22:00:00Z")
    middle = Transformer.from_crs(32601, 4326, always_xy=True).transform(172_000, 1_108_000)
    assert middle[0] == pytest.approx(180, abs=0.02) or middle[0] == pytest.approx(-180, abs=0.02)
    outlines = [box(179.995, 10.012, 180.005, 10.018), box(-179.999, 10.012, -179.997, 10.018),
                box(179.997, 10.012, 179.999, 10.018)]  # fmt: skip
    parcels = gpd.GeoDataFrame({"id": ["over", "east", "west"]}, geometry=outlines, crs=4326)
    parcels.to_file(tmp_path / "p.gpkg")

    items = find_items([tmp_path])
    table = read_parcels(tmp_path / "p.gpkg", within=outline_items(items))
    observed = observe_items(table, items)

    assert sorted(observed["parcel"]) == ["east", "over", "west"]
    assert observed["valid_fraction"].tolist() == pytest.approx([1, 1, 1])
