"""The user-defined process `sentinel2_lai`: LAI of an area and season by name, as committed JSON.

`lai-udf graph` writes `udf/openeo_udp/`: the process with the text of the UDF in it, and what the
APEx algorithm catalogue requires beside it: records of the process and of its provider, and a
benchmark scenario. They are generated, never edited; a test compares them with what this module
builds. For the catalogue they are written with the commit that they belong to (`--revision`), as
the release does.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from openeo.api.process import Parameter
from openeo.rest.udp import build_process_dict

from lai_udf.atomic import new_files
from lai_udf.predict import OUTPUT_BANDS
from lai_udf.process_graph import AUXILIARY_BANDS, COLLECTION, COLLECTION_SCALE, lai_from_collection

PROCESS_ID = "sentinel2_lai"
CDSE = "https://openeo.dataspace.copernicus.eu"
REPOSITORY = "https://github.com/sentinel2-lai/sentinel2-lai"
"""Where the project is published; part of the links of the record."""
RELEASES = f"{REPOSITORY}/releases/download"
CREATED, UPDATED = "2026-11-21T00:00:00Z", "2026-11-29T00:00:00Z"
"""First day, and last change, of the content of the records."""
CONFORMS_TO = "https://www.opengis.net/spec/ogcapi-records-1/1.0/req/record-core"
LANGUAGE = {"code": "en-GB", "name": "English (United Kingdom)"}
EDITOR = "https://editor.openeo.org/"
CREDITS_PER_KM2_AND_DATE = 0.1
"""Published for the APEx process BIOPAR, which loads the same bands; not measured for ours."""
MODEL_FOLDER = "lai_model"
RUNTIME_FOLDER = "onnx_deps"
MEMORY_OPTIONS = {
    "driver-memory": "1g",
    "executor-memory": "2g",
    "executor-memoryOverhead": "1g",
    "python-memory": "2g",
}
"""A worker that predicts windows of 256 px holds 0.5 GB (see `udf/README.md`)."""


def job_options(model_archive: str, runtime_archive: str) -> dict[str, Any]:
    """Return the options of a batch job that finds model and runtime at these addresses (zips)."""
    archives = [f"{model_archive}#{MODEL_FOLDER}", f"{runtime_archive}#{RUNTIME_FOLDER}"]
    return MEMORY_OPTIONS | {"udf-dependency-archives": archives}


def default_job_options(model_name: str) -> dict[str, Any]:
    """Return the options with the archives of a release of the model, such as `name-0.1.0`."""
    version = model_name.rsplit("-", 1)[-1]
    folder = f"{RELEASES}/model-{version}"
    return job_options(f"{folder}/{model_name}.zip", f"{folder}/onnxruntime-python311.zip")


def parameters() -> dict[str, Parameter]:
    """Return the parameters of the process by name, in order."""
    listed = (
        Parameter.bounding_box(
            "spatial_extent",
            description="Bounding box of the result. Where the back-end does not load neighbours "
            "around it, LAI_FLAGS holds 64 along the border: widen it by 320 m and clip then.",
        ),
        Parameter.temporal_interval(
            "temporal_extent", description="First day, and the day after the last one."
        ),
        Parameter.string(
            "model",
            description="Folder of the model on the workers, from `udf-dependency-archives`.",
            default=MODEL_FOLDER,
        ),
        Parameter.string(
            "target",
            description="`sl2p`: as the SNAP biophysical processor estimates; `field`: "
            "corrected towards field measurements.",
            values=["sl2p", "field"],
            default="sl2p",
        ),
        Parameter.integer(
            "samples",
            description="Monte-Carlo draws behind LAI_SD; 0: single pass of the network.",
            default=0,
        ),
        Parameter.integer("seed", description="Seed of the draws.", default=0),
        Parameter.array(
            "bands",
            description="Bands of the result.",
            item_schema={"type": "string", "enum": list(OUTPUT_BANDS)},
            default=list(OUTPUT_BANDS),
        ),
        Parameter.string("collection", description="Sentinel-2 L2A.", default=COLLECTION),
        Parameter.array(
            "auxiliary_bands",
            description="Scene classes (cloud mask) and angles to load beside the reflectance, "
            "under the names of the collection; SCL at least.",
            item_schema={"type": "string"},
            default=list(AUXILIARY_BANDS),
        ),
        Parameter.number(
            "reflectance_scale",
            description="reflectance = value * scale + offset.",
            default=COLLECTION_SCALE,
        ),
        Parameter.number(
            "reflectance_offset",
            description="0 where the back-end takes the offset of processing baseline 04.00 off, "
            "as the Copernicus Data Space does; else -0.1.",
            default=0.0,
        ),
    )
    return {parameter.name: parameter for parameter in listed}


def build_process(model_name: str) -> dict[str, Any]:
    """Return the user-defined process for a model such as `sentinel2-lai-1.1.0`."""
    given: dict[str, Any] = dict(parameters())
    return build_process_dict(
        process_graph=lai_from_collection(None, **given),
        process_id=PROCESS_ID,
        summary="Leaf area index from Sentinel-2 with its uncertainty, 20 m",
        description=(
            "Leaf area index (m2 m-2) from Sentinel-2 L2A by a convolutional network that follows "
            "the SNAP biophysical processor (SL2P), with the standard deviation of Monte-Carlo "
            "dropout, a calibrated 95 % prediction interval and quality flags. Clouds, their "
            "shadows and snow (SCL) are no data. Bands: " + ", ".join(OUTPUT_BANDS) + "."
        ),
        parameters=list(given.values()),
        returns={
            "description": "LAI cube (x, y, t, bands), float32.",
            "schema": {"type": "object", "subtype": "datacube"},
        },
        categories=["sentinel-2", "vegetation"],
        default_job_options=default_job_options(model_name),
    )


def build_record(revision: str = "main") -> dict[str, Any]:
    """Return the record of the process for a catalogue of algorithms (OGC API Records).

    Links lead to `revision`: a commit, tag or branch; relative ones are those of
    `algorithm_catalog/<provider>/sentinel2_lai/records/`.

    Source: ESA-APEx/apex_algorithms at 9d0198f, schemas/record.json.
    """
    wizard = {"wizard": "UDP", "wizard~process": PROCESS_ID, "server": CDSE}
    wizard["wizard~processUrl"] = process_url(revision)
    webapp = f"{EDITOR}?{urlencode(wizard, safe=':/~')}"
    concepts = ("Leaf Area Index (LAI)", "Sentinel-2 MSI")
    properties = {
        "type": "service",
        "title": "Leaf area index from Sentinel-2 with its uncertainty",
        "description": (
            "LAI at 20 m from Sentinel-2 L2A by a convolutional network: value, spread, "
            "calibrated 95 % interval and quality flags for each pixel and date."
        ),
        "cost_estimate": CREDITS_PER_KM2_AND_DATE,
        "cost_unit": "platform credits per km² per observation (that of BIOPAR, which loads the "
        "same bands; not measured yet)",
        "keywords": ["Agriculture", "Vegetation", "Leaf Area Index (LAI)", "Sentinel-2"],
        "contacts": [
            {
                "name": "The sentinel2-lai developers",
                "roles": ["principal investigator", "processor"],
                "links": [_link("about", "text/html", "Project", REPOSITORY)],
            }
        ],
        "themes": [
            {
                "concepts": [{"id": concept} for concept in concepts],
                "scheme": "https://gcmd.earthdata.nasa.gov/kms/concepts/concept_scheme/"
                "sciencekeywords",
            }
        ],
        "formats": [{"name": "GeoTIFF"}, {"name": "netCDF"}],
    }
    process = "application/vnd.openeo+json;type=process"
    platform = "../../../../platform_catalog/cdse_openeo_federation.json"
    links = [
        _link("application", process, "openEO process definition", process_url(revision)),
        _link("service", "application/json", "Copernicus Data Space openEO", CDSE),
        _link("platform", "application/json", "Copernicus Data Space Ecosystem", platform),
        _link("provider", "application/json", "Provider", "../../record.json"),
        _link("webapp", "text/html", "openEO Web Editor", webapp),
        _link("thumbnail", "image/png", "Leaf area of a field", _raw("docs/field.png", revision)),
        _link("code", "text/html", "Source code", f"{REPOSITORY}/tree/{revision}"),
    ]
    udp = "https://apex.esa.int/core/openeo-udp"
    return _record(PROCESS_ID, [udp], properties, links) | {"geometry": None}


def build_provider(revision: str = "main") -> dict[str, Any]:
    """Return the record of the provider (ESA-APEx/apex_algorithms, schemas/provider.json)."""
    picture = _raw("docs/field.png", revision)
    properties = {
        "type": "algorithm_provider",
        "title": "The sentinel2-lai developers",
        "description": "Open software for leaf area from Sentinel-2.",
        "keywords": [],
        "contacts": [],
        "themes": [],
        "acl": {"admin": []},
    }
    links = [
        _link("website", "text/html", "sentinel2-lai", REPOSITORY),
        _link("logo-light", "image/png", "Leaf area of a field", picture),
        _link("logo-dark", "image/png", "Leaf area of a field", picture),
    ]
    return _record("sentinel2-lai", [], properties, links)


def _record(
    name: str, conforms_to: list[str], properties: dict[str, Any], links: list[dict[str, str]]
) -> dict[str, Any]:
    """Return a record of OGC API Records with what ours have in common."""
    shared: dict[str, Any] = {"created": CREATED, "updated": UPDATED, "language": LANGUAGE}
    shared |= {"languages": [LANGUAGE], "license": "Apache-2.0"}
    return {
        "id": name,
        "type": "Feature",
        "conformsTo": [CONFORMS_TO, *conforms_to],
        "properties": shared | properties,
        "linkTemplates": [],
        "links": links,
    }


def build_benchmark(revision: str = "main", reference: str | None = None) -> list[dict[str, Any]]:
    """Return benchmark scenarios: one small area of one month.

    `reference` is the address of a folder with the results of a job that ran the scenario before
    (`job-results.json`, `openEO.nc`); None: nothing to compare with.
    """
    arguments = {
        "spatial_extent": {"west": 5.05, "south": 51.21, "east": 5.1, "north": 51.23},
        "temporal_extent": ["2023-06-01", "2023-06-30"],
    }
    called = {"process_id": PROCESS_ID, "namespace": process_url(revision), "arguments": arguments}
    saved = {"data": {"from_node": "lai"}, "format": "netCDF"}
    scenario: dict[str, Any] = {
        "id": PROCESS_ID,
        "type": "openeo",
        "description": "Fields in Flanders in June 2023.",
        "backend": CDSE.removeprefix("https://"),
        "process_graph": {
            "lai": called,
            "save": {"process_id": "save_result", "arguments": saved, "result": True},
        },
    }
    if reference is not None:
        files = ("job-results.json", "openEO.nc")
        scenario["reference_data"] = {name: f"{reference.rstrip('/')}/{name}" for name in files}
        scenario["reference_options"] = {"rtol": 1e-4, "atol": 1e-3}  # LAI is stored in 0.001
    return [scenario]


def process_url(revision: str = "main") -> str:
    """Return the address under which the committed process can be read."""
    return _raw(f"udf/openeo_udp/{PROCESS_ID}.json", revision)


def _raw(path: str, revision: str) -> str:
    raw = REPOSITORY.replace("https://github.com", "https://raw.githubusercontent.com")
    return f"{raw}/{revision}/{path}"


def write_documents(
    directory: Path, model_name: str, revision: str = "main", reference: str | None = None
) -> list[Path]:
    """Write the process, the records and the benchmark scenario; all of them or none."""
    documents: Mapping[str, Any] = {
        f"{PROCESS_ID}.json": build_process(model_name),
        f"{PROCESS_ID}.record.json": build_record(revision),
        f"{PROCESS_ID}.benchmark.json": build_benchmark(revision, reference),
        "provider.record.json": build_provider(revision),
    }
    with new_files(directory) as work:
        for name, document in documents.items():
            (work / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return [directory / name for name in documents]


def _link(rel: str, media_type: str, title: str, href: str) -> dict[str, str]:
    return {"rel": rel, "type": media_type, "title": title, "href": href}
