"""Make `first_edition.zip`: a catalogue, an item folder and a run of the first edition.

Run with the code of that edition on the path (commit 21185a1), from its root:

    PYTHONPATH=udf:stac_extension:service:tests python .../make_first_edition.py first_edition.zip

The zip holds `data/` (the data root of `lai-service`, three items of one scene: sl2p, field, eight
draws that replaced the one pass), `item/<id>/` (as `make demo` writes it) and `run/` (COGs of
`lai-udf run`, without an item).
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from fake_lai import ARGUMENTS, UTM32, fake_layers

from lai_service.catalogue_sqlite import SqliteCatalogue
from lai_service.publishing import Publisher, PublishRequest
from lai_stac.item import describe
from lai_udf.bundle import open_bundle
from lai_udf.rasters import write_lai_cogs

SCENE = "S2A_MSIL2A_20240621T103629_N0510_R008_T32TQM_20240621T170857"
SIDE = 24


def write_run(folder: Path, **tags: str) -> None:
    layers = fake_layers(np.random.default_rng(0), SIDE)
    grid = type(UTM32)(UTM32.crs, UTM32.transform, SIDE, SIDE)
    cube = grid.to_data_array(np.stack(list(layers.values())), list(layers))
    write_lai_cogs(cube, folder, tags=tags)


def describe_run(folder: Path, **changes: object) -> Path:
    write_run(folder)
    link = {"rel": "derived_from", "href": f"s3://eodata/Sentinel-2/{SCENE}.SAFE", "title": SCENE}
    graph = {"load": {"process_id": "load_collection", "arguments": {"note": "x" * 3000}}}
    arguments = ARGUMENTS | {
        "model": dict(open_bundle().description),
        "platform": "S2A",
        "process_graph": graph,
        "job_metadata": {"links": [link], "processing:facility": "openEO back-end"},
        "created": "2024-07-01T00:00:00Z",
    }
    path = describe(folder, **(arguments | changes))
    return folder.rename(folder.parent / path.stem)


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        catalogue = SqliteCatalogue(root / "zip" / "data" / ".catalogue" / "catalogue.sqlite")
        publisher = Publisher(catalogue, root / "zip" / "data", (root,), "lai")
        for changes in ({}, {"target": "field"}, {"samples": 8, "seed": 1}):
            folder = describe_run(root / "work" / "one", **changes)
            publisher.publish(PublishRequest(directory=folder))
            shutil.rmtree(folder)
        catalogue.close()
        describe_run(root / "zip" / "item" / "one")
        bundle = open_bundle()
        write_run(
            root / "zip" / "run",
            DATETIME="2024-06-21T10:36:29Z",
            PLATFORM="sentinel-2a",
            PRODUCT_ID=SCENE,
            MODEL_ID=bundle.model_id,
            MODEL_VERSION=bundle.version,
            MODEL_CHECKSUM=bundle.checksum,
            TARGET="sl2p",
            SAMPLES="0",
            SEED="0",
        )
        shutil.make_archive(str(target.with_suffix("")), "zip", root / "zip")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
