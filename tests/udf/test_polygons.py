"""Polygons of users, from the formats they come in."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
from shapely.geometry import LineString, Polygon, box

from lai_udf.errors import PolygonFileError
from lai_udf.polygons import read_polygons

FIELDS = gpd.GeoDataFrame(
    {"name": ["north", "south"]}, geometry=[box(1, 44, 2, 45), box(1, 43, 2, 44)], crs=4326
)


def write(table: gpd.GeoDataFrame, path: Path) -> Path:
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_file(path)
    return path


@pytest.mark.parametrize("name", ["fields.geojson", "fields.gpkg", "fields.parquet"])
def test_every_format_gives_the_same_polygons(name: str, tmp_path: Path) -> None:
    found = read_polygons(write(FIELDS, tmp_path / name))

    assert list(found["id"]) == ["north", "south"]
    assert found.crs == 4326
    assert found.geometry.geom_equals(FIELDS.geometry).all()


def test_the_only_layer_of_polygons_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fields.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"styleQML": ["<qgis/>"]}), path, layer="layer_styles")
    FIELDS.to_file(path, layer="fields", mode="a")
    assert list(read_polygons(path)["id"]) == ["north", "south"]


def test_several_layers_of_polygons_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fields.gpkg"
    for layer in ("2023", "2024"):
        FIELDS.to_file(path, layer=layer)
    with pytest.raises(PolygonFileError, match="2023, 2024"):
        read_polygons(path)


def test_any_crs_is_kept(tmp_path: Path) -> None:
    path = write(FIELDS.to_crs(32631), tmp_path / "fields.gpkg")
    assert read_polygons(path).crs == 32631


def test_polygons_without_names_are_numbered(tmp_path: Path) -> None:
    path = write(FIELDS[["geometry"]], tmp_path / "fields.geojson")
    assert list(read_polygons(path)["id"]) == ["1", "2"]


def test_a_column_can_be_chosen_by_hand(tmp_path: Path) -> None:
    path = write(FIELDS.assign(block=[7, 8]), tmp_path / "fields.parquet")
    assert list(read_polygons(path, "BLOCK")["id"]) == ["7", "8"]


@pytest.mark.parametrize("column", ["crop", "block"])
def test_a_column_without_different_names_is_refused(column: str, tmp_path: Path) -> None:
    path = write(FIELDS.assign(crop="wheat"), tmp_path / "fields.parquet")
    with pytest.raises(PolygonFileError) as caught:
        read_polygons(path, column)
    assert caught.value.parameter == "id_column"


def test_a_bow_tie_is_repaired(tmp_path: Path) -> None:
    bow_tie = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    path = write(gpd.GeoDataFrame(geometry=[bow_tie], crs=32631), tmp_path / "one.parquet")
    assert read_polygons(path).area.tolist() == [2]


def test_all_broken_polygons_are_named_at_once(tmp_path: Path) -> None:
    line = LineString([(0, 0), (1, 1)])
    table = gpd.GeoDataFrame({"id": ["a", "b"]}, geometry=[line, Polygon()], crs=32631)
    with pytest.raises(PolygonFileError, match=r"a: .*b: "):
        read_polygons(write(table, tmp_path / "broken.parquet"))


@pytest.mark.parametrize("content", ["", "no polygons at all"])
def test_a_file_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "fields.geojson"
    path.write_text(content)
    with pytest.raises(PolygonFileError):
        read_polygons(path)


def test_a_file_without_a_crs_is_refused(tmp_path: Path) -> None:
    path = write(FIELDS.set_crs(None, allow_override=True), tmp_path / "fields.parquet")
    with pytest.raises(PolygonFileError):
        read_polygons(path)
