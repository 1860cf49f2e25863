"""Downloaded results of openEO batch jobs as back-ends of API 1.0 and 1.1 leave them, tiny."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from fake_lai import UTM32

from lai_udf.grid import Grid
from lai_udf.predict import OUTPUT_BANDS

DAYS = ("2024-06-21", "2024-07-01")
TIMES = ("2024-06-21T10:36:29Z", "2024-07-01T10:36:31Z")
PRODUCTS = (
    "S2A_MSIL2A_20240621T103629_N0510_R008_T32TQM_20240621T170857",
    "S2A_MSIL2A_20240701T103631_N0510_R008_T32TQM_20240701T165353",
)
MODEL_ARCHIVE = "https://models.example.org/sentinel2-lai-seamless-0.1.0.zip"
GEOTIFF = "image/tiff; application=geotiff"


def job_description(archive: str = MODEL_ARCHIVE, **context: Any) -> dict[str, Any]:
    """Return what `job.describe()` answers, as far as it matters."""
    settings = {"model": "lai_model", "target": "sl2p", "samples": 0, "seed": 0, **context}
    udf = {"udf": "BANDS = ('LAI', 'LAI_LOWER')", "runtime": "Python", "context": settings}
    run = {"runudf1": {"process_id": "run_udf", "arguments": udf, "result": True}}
    graph = {
        "loadcollection1": {
            "process_id": "load_collection",
            "arguments": {"id": "SENTINEL2_L2A", "bands": ["B02", "SCL"]},
        },
        "applyneighborhood1": {
            "process_id": "apply_neighborhood",
            "arguments": {
                "data": {"from_node": "loadcollection1"},
                "process": {"process_graph": run},
            },
            "result": True,
        },
    }
    options = {"udf-dependency-archives": [f"{archive}#lai_model"]}
    return {"id": "j-1", "process": {"process_graph": graph}, "job_options": options}


def write_geotiff(
    path: Path,
    layers: dict[str, np.ndarray],
    bands: tuple[str, ...] = OUTPUT_BANDS,
    *,
    named: bool = True,
    grid: Grid = UTM32,
) -> None:
    """Write bands into one float32 GeoTIFF, described by name or not."""
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": len(bands),
        "dtype": "float32",
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": np.nan,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as raster:
        for index, band in enumerate(bands, start=1):
            raster.write(layers[band].astype("float32"), index)
            if named:
                raster.set_band_description(index, band)


def asset(name: str, bands: tuple[str, ...] = OUTPUT_BANDS) -> dict[str, Any]:
    return {
        "href": f"https://openeo.example.org/jobs/j-1/results/assets/{name}?expires=1",
        "type": GEOTIFF,
        "roles": ["data"],
        "eo:bands": [{"name": band} for band in bands],
        "bands": [{"name": band} for band in bands],
    }


def write_cloud_results(folder: Path, layers: dict[str, np.ndarray]) -> Path:
    """Write what `download_files` leaves of a job on the Copernicus Data Space.

    A Collection whose Items are elsewhere, files named by day, bands named in the metadata alone,
    `derived_from` links of every input of the job.
    """
    names = [f"openEO_{day}Z.tif" for day in DAYS]
    for name in names:
        write_geotiff(folder / name, layers, named=False)
    metadata = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "j-1",
        "links": [
            {"rel": "item", "href": "https://openeo.example.org/jobs/j-1/results/items/1"},
            *(
                {
                    "rel": "derived_from",
                    "href": f"/eodata/Sentinel-2/MSI/L2A/{product}.SAFE",
                    "title": f"Derived from {product}",
                }
                for product in PRODUCTS
            ),
        ],
        "assets": {name: asset(name) for name in names},
        "processing:facility": "openEO cloud",
    }
    (folder / "job-results.json").write_text(json.dumps(metadata))
    (folder / "job.json").write_text(json.dumps(job_description()))
    return folder


def write_collection_results(folder: Path, layers: dict[str, np.ndarray]) -> Path:
    """Write what `download_as_collection` leaves of a job of our back-end."""
    links = []
    for day, time in zip(DAYS, TIMES, strict=True):
        stem = f"openEO_{day}Z"
        write_geotiff(folder / stem / f"{stem}.tif", layers)
        item = {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": stem,
            "properties": {"datetime": time},
            "assets": {f"{stem}.tif": {**asset(f"{stem}.tif"), "href": f"{stem}.tif"}},
            "links": [],
        }
        (folder / stem / f"{stem}.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"{stem}/{stem}.json"})
    metadata = {"type": "Collection", "stac_version": "1.0.0", "id": "j-1", "links": links}
    (folder / "job-results.json").write_text(json.dumps(metadata))
    (folder / "job.json").write_text(json.dumps(job_description(samples=8, seed=3)))
    return folder
