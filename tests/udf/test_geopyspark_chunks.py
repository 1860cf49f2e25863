"""The UDFs in the code of the back-ends of CDSE and Terrascope: their Python, without Spark.

`openeo-geopyspark` is installed without what it needs; Spark and its Scala side are stand-ins that
hold lists. Real are the code that sorts, labels and converts chunks, and its call of the UDF.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lai_udf.bundle import default_bundle_path
from lai_udf.process_graph import lai_udf_code, list_series_dates
from lai_udf.series import OUTPUT_BANDS

pytestmark = [pytest.mark.slow, pytest.mark.network]
PACKAGES = ("openeo-geopyspark==0.72.0a1", "epsel==1.0.0")
RUNNER = Path(__file__).with_name("geopyspark_runner.py")
SERIES = Path(RUNNER).parents[2] / "udf" / "lai_udf" / "series.py"
MAX_CHUNK_S = 0.3


@pytest.fixture(scope="module")
def geopyspark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The back-end's Python package, in a folder."""
    folder = tmp_path_factory.mktemp("geopyspark")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"openeo-geopyspark cannot be installed: {done.stderr[-300:]}")
    return folder


def run_chunks(geopyspark: Path, work: Path, order: dict) -> dict:
    (work / "order.json").write_text(json.dumps(order))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(RUNNER), str(geopyspark)],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(work)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((work / "found.json").read_text())


def test_a_chunk_of_two_dates_takes_a_third_of_a_second_after_the_first(geopyspark, tmp_path):
    settings = {"model": "lai_model", "overlap": 16, "reflectance_scale": 0.0001}
    udf = lai_udf_code(settings | {"reflectance_offset": 0.0})
    with zipfile.ZipFile(default_bundle_path()) as bundle:
        bundle.extractall(tmp_path / "lai_model")  # as udf-dependency-archives does
    order = {"code": udf.code, "context": udf.context, "side": 256, "bands": "reflectance"}
    found = run_chunks(geopyspark, tmp_path, order | {"dates": [[0, 5]] * 4})
    assert [chunk["bands"] for chunk in found] == [5] * 4
    assert [len(chunk["dates"]) for chunk in found] == [2] * 4
    assert all(chunk["valid"] > 0.9 for chunk in found)
    print("processor time of chunks, s:", [round(chunk["seconds"], 3) for chunk in found])
    assert max(chunk["seconds"] for chunk in found[1:]) <= MAX_CHUNK_S


def test_chunks_of_different_dates_give_one_grid_of_a_series(geopyspark, tmp_path):
    period = ["2024-03-01", "2024-06-01"]
    context = {"dates": list_series_dates(period, 10), "period": period}  # as in our graphs
    order = {"code": SERIES.read_text(), "context": context, "side": 32, "bands": "lai"}
    days = [list(range(0, 90, 5)), list(range(2, 90, 7)), [40]]
    found = run_chunks(geopyspark, tmp_path, order | {"dates": days})
    assert len({tuple(chunk["dates"]) for chunk in found}) == 1
    assert found[0]["dates"][:2] == ["2024-03-01", "2024-03-11"]
    assert {chunk["bands"] for chunk in found} == {len(OUTPUT_BANDS)}
