"""The process graph: what a back-end is asked to do, and what is refused before it is asked."""

from typing import Any

import openeo
import pytest
from openeo.api.process import Parameter
from openeo.internal.graph_building import PGNode
from openeo.metadata import CollectionMetadata
from shapely.geometry import shape

from lai_udf.errors import LaiGraphError
from lai_udf.predict import BANDS, OUTPUT_BANDS, LaiInputError
from lai_udf.process_graph import buffer_extent, lai_cube, lai_from_collection


@pytest.fixture
def cube() -> openeo.DataCube:
    return openeo.DataCube.load_collection("SENTINEL2_L2A", bands=list(BANDS), fetch_metadata=False)


def find(cube: openeo.DataCube, process_id: str) -> list[dict[str, Any]]:
    return [
        node["arguments"] for node in cube.flat_graph().values() if node["process_id"] == process_id
    ]


def udf_of(cube: openeo.DataCube) -> dict[str, Any]:
    (neighborhood,) = find(cube, "apply_neighborhood")
    (node,) = neighborhood["process"]["process_graph"].values()
    arguments: dict[str, Any] = node["arguments"]
    return arguments


def test_udf_is_the_file_verbatim(cube: openeo.DataCube, udf_code: str) -> None:
    udf = udf_of(lai_cube(cube))

    assert udf["udf"] == udf_code
    assert (udf["runtime"], udf["version"]) == ("Python", "3.11")


def test_window_and_overlap_are_asked_for_in_pixels(cube: openeo.DataCube) -> None:
    (neighborhood,) = find(lai_cube(cube, size=96, overlap=16), "apply_neighborhood")

    assert neighborhood["size"] == [
        {"dimension": "x", "value": 96, "unit": "px"},
        {"dimension": "y", "value": 96, "unit": "px"},
    ]
    assert neighborhood["overlap"] == [
        {"dimension": "x", "value": 16, "unit": "px"},
        {"dimension": "y", "value": 16, "unit": "px"},
    ]


def test_settings_travel_in_the_context(cube: openeo.DataCube) -> None:
    lai = lai_cube(
        cube,
        model="elsewhere",
        samples=30,
        seed=7,
        target="field",
        bands=["LAI"],
        reflectance_scale=1e-4,
        reflectance_offset=-0.1,
    )
    assert udf_of(lai)["context"] == {
        "model": "elsewhere",
        "target": "field",
        "samples": 30,
        "seed": 7,
        "bands": ["LAI"],
        "reflectance_scale": 1e-4,
        "reflectance_offset": -0.1,
        "overlap": 16,
    }


def test_bands_are_relabelled_after_the_neighbourhood(cube: openeo.DataCube) -> None:
    (renamed,) = find(lai_cube(cube, bands=["LAI", "LAI_SD"]), "rename_labels")

    assert renamed["dimension"] == "bands"
    assert renamed["target"] == ["LAI", "LAI_SD"]


@pytest.mark.parametrize(
    ("size", "overlap"), [(98, 16), (96, 10), (0, 16), (96, 0), (12, 16), (-96, 16)]
)
def test_windows_that_no_back_end_treats_well_are_refused(
    cube: openeo.DataCube, size: int, overlap: int
) -> None:
    with pytest.raises(LaiGraphError):
        lai_cube(cube, size=size, overlap=overlap)


@pytest.mark.parametrize(
    "wrong", [{"samples": 1}, {"bands": ["NDVI"]}, {"target": "snap"}, {"reflectance_scale": 0}]
)
def test_settings_that_the_udf_would_refuse_fail_before_the_job(
    cube: openeo.DataCube, wrong: dict[str, Any]
) -> None:
    with pytest.raises(LaiInputError):
        lai_cube(cube, **wrong)


def test_settings_may_be_parameters_of_a_process(cube: openeo.DataCube) -> None:
    lai = lai_cube(
        cube, samples=Parameter.integer("draws", description="n"), model="m", bands=["LAI"]
    )
    assert udf_of(lai)["context"]["samples"] == {"from_parameter": "draws"}


BOX = {"west": 5.0, "south": 51.0, "east": 5.1, "north": 51.1}


def test_collection_is_loaded_wider_and_clipped_to_the_area_asked_for() -> None:
    lai = lai_from_collection(
        None, spatial_extent=BOX, temporal_extent=["2024-06-01", "2024-07-01"]
    )
    loads, (clip,) = find(lai, "load_collection"), find(lai, "filter_bbox")

    assert clip["extent"] == BOX
    for load in loads:
        assert load["spatial_extent"] == buffer_extent(BOX, 16)
        assert load["temporal_extent"] == ["2024-06-01", "2024-07-01"]


def test_reflectance_is_averaged_to_20_m_and_classes_are_not() -> None:
    lai = lai_from_collection(
        None, spatial_extent=BOX, temporal_extent=["2024-06-01", "2024-07-01"]
    )
    methods = {
        tuple(lai.flat_graph()[arguments["data"]["from_node"]]["arguments"]["bands"]): (
            arguments["method"],
            arguments["resolution"],
        )
        for arguments in find(lai, "resample_spatial")
    }
    assert methods[BANDS] == ("average", 20)
    (other,) = [bands for bands in methods if bands != BANDS]
    assert "SCL" in other
    assert methods[other] == ("near", 20)


def test_auxiliary_bands_can_be_left_out() -> None:
    lai = lai_from_collection(
        None,
        spatial_extent=BOX,
        temporal_extent=["2024-06-01", "2024-07-01"],
        auxiliary_bands=(),
        bands=["LAI"],
    )
    assert len(find(lai, "load_collection")) == 1
    assert not find(lai, "merge_cubes")


def test_digital_numbers_of_the_collection_are_scaled() -> None:
    lai = lai_from_collection(
        None, spatial_extent=BOX, temporal_extent=["2024-06-01", "2024-07-01"]
    )
    assert udf_of(lai)["context"]["reflectance_scale"] == 1e-4
    assert list(udf_of(lai)["context"]["bands"]) == list(OUTPUT_BANDS)


def test_extent_in_metres_grows_by_pixels_of_20_m() -> None:
    box = {"west": 600_000, "south": 5_000_000, "east": 601_000, "north": 5_002_000, "crs": 32632}
    assert buffer_extent(box, 16) == {
        "west": 599_680,
        "south": 4_999_680,
        "east": 601_320,
        "north": 5_002_320,
        "crs": 32632,
    }


@pytest.mark.parametrize("latitude", [0.0, 51.0, -33.0, 70.0])
def test_extent_in_degrees_grows_by_at_least_the_overlap(latitude: float) -> None:
    from rasterio.warp import transform_bounds

    box = {"west": 5.0, "south": latitude, "east": 5.2, "north": latitude + 0.2}
    wider = buffer_extent(box, 16)
    epsg = f"EPSG:{32631 if latitude >= 0 else 32731}"
    sides = ("west", "south", "east", "north")
    before = transform_bounds("EPSG:4326", epsg, *(box[side] for side in sides))
    after = transform_bounds("EPSG:4326", epsg, *(wider[side] for side in sides))

    margins = [abs(new - old) for old, new in zip(before, after, strict=True)]
    assert min(margins) > 0.99 * 320
    assert max(margins) < 1.2 * 320


def test_extent_across_the_antimeridian_keeps_its_spelling() -> None:
    wider = buffer_extent({"west": 179.9, "south": 10, "east": -179.9, "north": 10.2}, 16)
    assert 179.8 < wider["west"] < 179.9
    assert -179.9 < wider["east"] < -179.8


@pytest.mark.parametrize(
    "box",
    [{"west": 1, "south": 2, "east": 3}, BOX | {"east": 4.0}],
)
def test_extent_that_is_no_box_is_refused(box: dict[str, float]) -> None:
    with pytest.raises(LaiGraphError):
        lai_from_collection(None, spatial_extent=box, temporal_extent=["2024-06-01", "2024-07-01"])


SUMMER = {
    "spatial_extent": {"west": 5.0, "south": 51.0, "east": 5.1, "north": 51.1},
    "temporal_extent": ["2023-06-01", "2023-07-01"],
}


def test_a_series_is_a_second_udf_over_all_dates_of_a_window() -> None:
    lai = lai_from_collection(None, **SUMMER, step_days=10, reflectance_offset=-1000, level=0.8)
    first, second = find(lai, "apply_neighborhood")
    contexts = [
        next(iter(node["process"]["process_graph"].values()))["arguments"]["context"]
        for node in (first, second)
    ]

    passed = ["B02", "B04", "B8A", "B11", "SCL"]
    assert contexts[0]["pass_through"] == passed
    assert contexts[1] == {
        "dates": ["2023-06-01", "2023-06-11", "2023-06-21"],
        "period": ["2023-06-01", "2023-07-01"],
        "reflectance_scale": 1e-4,
        "reflectance_offset": -1000,
        "level": 0.8,
    }
    assert contexts[0]["level"] == 0.8
    assert all(entry["dimension"] != "t" for entry in second["size"])
    targets = [node["target"] for node in find(lai, "rename_labels")]
    assert targets[0] == ["LAI", "LAI_LOWER", "LAI_UPPER", "LAI_FLAGS", *passed]
    assert targets[1] == ["LAI", "LAI_SD", "LAI_LOWER", "LAI_UPPER", "GAP_DAYS"]


def test_a_series_needs_dates_known_beforehand() -> None:
    with pytest.raises(LaiInputError):
        lai_from_collection(None, **SUMMER, step_days=0)
    with pytest.raises(LaiGraphError):
        lai_from_collection(
            None, **SUMMER | {"temporal_extent": Parameter("temporal_extent", "days")}, step_days=5
        )


JUNE = ["2024-06-01", "2024-07-01"]
POLYGON = {
    "type": "Polygon",
    "coordinates": [[[1.0, 43.5], [1.02, 43.5], [1.02, 43.52], [1.0, 43.52], [1.0, 43.5]]],
}


@pytest.mark.parametrize(
    "geometry",
    [
        POLYGON,
        {"type": "Feature", "properties": {}, "geometry": POLYGON},
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "properties": {}, "geometry": POLYGON}],
        },
        shape(POLYGON),
    ],
    ids=["geometry", "feature", "collection", "shapely"],
)
def test_a_polygon_is_loaded_by_its_box_and_masked(geometry: Any) -> None:
    lai = lai_from_collection(None, geometry=geometry, temporal_extent=JUNE)
    (box,) = (node["extent"] for node in find(lai, "filter_bbox"))
    assert (box["west"], box["north"]) == (1.0, 43.52)
    assert len(find(lai, "mask_polygon")) == 1


def test_a_polygon_in_two_utm_zones_is_refused() -> None:
    across = {
        "type": "Polygon",
        "coordinates": [[[5.9, 45], [6.1, 45], [6.1, 45.1], [5.9, 45.1], [5.9, 45]]],
    }
    with pytest.raises(LaiGraphError) as caught:
        lai_from_collection(None, geometry=across, temporal_extent=JUNE)
    assert caught.value.parameter == "geometry"


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon"},
        {},
        {"type": "Polygon", "coordinates": []},
        {"type": "Point", "coordinates": [1.0, 43.5]},
        {"type": "Polygon", "coordinates": [[[5e5, 4.8e6], [5.1e5, 4.8e6], [5e5, 4.9e6]]]},
    ],
)
def test_what_is_no_polygon_is_refused(geometry: Any) -> None:
    with pytest.raises(LaiGraphError):
        lai_from_collection(None, geometry=geometry, temporal_extent=JUNE)


def test_either_a_box_or_a_polygon_is_given() -> None:
    with pytest.raises(LaiGraphError):
        lai_from_collection(None, temporal_extent=JUNE)
    with pytest.raises(LaiGraphError):
        lai_from_collection(None, spatial_extent=BOX, geometry=POLYGON, temporal_extent=JUNE)


def context_of(cube: openeo.DataCube) -> dict[str, Any]:
    return dict(udf_of(cube)["context"])


def test_ten_metres_load_nearest_neighbours_and_pass_the_resolution() -> None:
    lai = lai_from_collection(None, spatial_extent=BOX, temporal_extent=JUNE, resolution=10)
    resampled = find(lai, "resample_spatial")
    assert {(node["resolution"], node["method"]) for node in resampled} == {(10, "near")}
    assert context_of(lai)["resolution"] == 10


def test_variables_name_the_output_bands() -> None:
    lai = lai_from_collection(
        None, spatial_extent=BOX, temporal_extent=JUNE, variables=["FAPAR", "CCC"]
    )
    assert context_of(lai)["bands"] == ["FAPAR", "CCC"]
    assert context_of(lai)["variables"] == ["FAPAR", "CCC"]


def test_defaults_stay_out_of_the_context() -> None:
    lai = lai_from_collection(None, spatial_extent=BOX, temporal_extent=JUNE)
    assert not set(context_of(lai)) & {"variables", "resolution", "region", "level"}


@pytest.mark.parametrize(("pixel_m", "resolution"), [(10, 20), (20, 10), (60, 20)])
def test_a_cube_of_another_pixel_size_is_refused(pixel_m: int, resolution: int) -> None:
    axes = {
        axis: {"type": "spatial", "axis": axis, "step": pixel_m, "reference_system": 32631}
        for axis in ("x", "y")
    }
    bands = {"bands": {"type": "bands", "values": list(BANDS)}}
    metadata = CollectionMetadata({"cube:dimensions": axes | bands})
    cube = openeo.DataCube(PGNode("load_collection", {"id": "x"}), None, metadata)
    with pytest.raises(LaiGraphError) as caught:
        lai_cube(cube, resolution=resolution)
    assert caught.value.parameter == "resolution"
    lai_cube(cube.resample_spatial(resolution=resolution, method="near"), resolution=resolution)
