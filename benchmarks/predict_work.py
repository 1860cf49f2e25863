"""One measured piece of work of `predict.py`, in a process of its own.

`python benchmarks/predict_work.py NAME ARGUMENT...` prints one line of JSON: seconds, and what the
work measures besides. A process of its own makes its peak of memory its own.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from predict_scenes import make_cube

Facts = dict[str, float | str]


def resident_mb() -> float:
    """Return the memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb() -> float:
    """Return the largest memory that this process ever had, MB.

    Not `ru_maxrss`: that begins with what the process had that started this one.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def clock(facts: Facts) -> Iterator[None]:
    """Note the seconds that the block takes, and those of CPU, the least where it is run again."""
    clocks = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}
    start = {name: read() for name, read in clocks.items()}
    yield
    for name, read in clocks.items():
        passed = read() - start[name]
        facts[name] = min(passed, float(facts.get(name, passed)))


def predict_memory(bundle: str, side: str, samples: str = "0", repeats: str = "2") -> Facts:
    """Run the UDF over a scene in memory: all five bands."""
    import xarray as xr

    from lai_udf.predict import BANDS, apply_datacube

    scene = xr.DataArray(
        make_cube(int(side)), dims=("bands", "y", "x"), coords={"bands": list(BANDS)}
    )
    context = {"model": bundle, "samples": int(samples)}
    apply_datacube(scene[:, :64, :64], context)
    before, facts = resident_mb(), Facts()
    lai = None
    for _ in range(int(repeats)):
        del lai  # or the first result would be counted on top of the second
        with clock(facts):
            lai = apply_datacube(scene, context)
    return {**facts, "extra_mb": peak_mb() - before, "mean_lai": float(lai[0].mean())}


def sl2p_memory(side: str) -> Facts:
    """Run vectorised SL2P, LAI and flags, over the same scene."""
    from lai_training.sl2p.processor import predict_bands
    from lai_training.sl2p.tables import load_network
    from lai_udf.predict import BANDS

    scene = dict(zip(BANDS, make_cube(int(side)), strict=True))
    bands = {name: scene[name] for name in load_network().inputs[:-3]}
    predict_bands({name: band[:8, :8] for name, band in bands.items()})
    facts = Facts()
    for _ in range(2):
        with clock(facts):
            predict_bands(bands)
    return facts


def keras_naive(network: str, side: str, patches: str = "60") -> Facts:
    """Call the Keras model on 128 x 128 patches (96 and a border of 16), one after the other.

    A sample of the patches is timed and multiplied; the patches are features already.
    """
    from lai_training.networks import FEATURE_COUNT, SPECS, build_network

    model = build_network(network)
    features = np.random.default_rng(0).standard_normal((1, 128, 128, FEATURE_COUNT), "float32")
    ones = np.ones((1, SPECS[network].mask_count), dtype="float32")
    model([features, ones])
    facts = Facts()
    with clock(facts):
        for _ in range(int(patches)):
            model([features, ones])
    every = (-(-int(side) // 96)) ** 2
    return {"seconds": float(facts["seconds"]) * every / int(patches)}


def files_to_cogs(bundle: str, scene: str, folder: str, _repeat: str = "0") -> Facts:
    """Run a scene from its files to COGs, as `lai-udf run` does; repeats differ by their number."""
    from lai_udf.identity import RunOptions
    from lai_udf.run import run_scene
    from lai_udf.scenes.read import open_scene

    facts = Facts()
    with clock(facts):
        run_scene(open_scene(scene), Path(folder), RunOptions(model=Path(bundle)))
    return {**facts, "peak_mb": peak_mb()}


def sl2p_files(scene: str, path: str) -> Facts:
    """Run SL2P over the same files."""
    from lai_training.sl2p.scene import write_sl2p
    from lai_udf.scenes.read import open_scene

    facts = Facts()
    with clock(facts):
        write_sl2p(open_scene(scene), Path(path))
    return facts


def dask_workers(bundle: str, side: str, workers: str) -> Facts:
    """Run the UDF through `apply_neighborhood` on a Dask cluster of workers of one thread.

    The workers make their blocks of the scene themselves, and give back sums: the network between
    the processes is not in the comparison.
    """
    import dask.array as da
    import xarray as xr
    from dask.distributed import Client, LocalCluster

    from lai_backend.neighborhood import apply_neighborhood
    from lai_backend.udf_runner import LocalUdf
    from lai_udf.predict import BANDS, HALO_PX
    from lai_udf.process_graph import lai_udf_code

    side_px = int(side)
    code = lai_udf_code({"model": bundle, "overlap": HALO_PX})
    block = 992

    def fill(block_info: Any = None) -> np.ndarray:  # noqa: ANN401 - Dask's own
        (top, bottom), (left, right) = block_info[None]["array-location"][1:]
        return make_cube(block, top * 100_003 + left)[:, : bottom - top, : right - left]

    chunks = [(len(BANDS),)] + [
        tuple(min(block, side_px - start) for start in range(0, side_px, block))
    ] * 2
    values = da.map_blocks(fill, chunks=tuple(chunks), dtype="float32")
    coords = {"bands": list(BANDS), **{axis: 20.0 * np.arange(side_px) for axis in ("y", "x")}}
    coords["y"] = coords["y"][::-1]
    cube = xr.DataArray(values, dims=("bands", "y", "x"), coords=coords)
    size, overlap = (
        [{"dimension": axis, "value": px, "unit": "px"} for axis in ("x", "y")]
        for px in (480, HALO_PX)
    )
    with (
        LocalCluster(n_workers=int(workers), threads_per_worker=1, dashboard_address=None) as here,
        Client(here) as client,
    ):
        call = LocalUdf(code.code, code.context)
        small = apply_neighborhood(cube[:, : block * 2, : block * 2], call, size, overlap)
        client.compute(small.sum()).result()  # every worker has its model
        facts = Facts()
        with clock(facts):
            lai = apply_neighborhood(cube, call, size, overlap)
            total = client.compute(lai.astype("float64").sum(("y", "x"))).result()
    return {**facts, "sums": " ".join(f"{value!r}" for value in total.values.tolist())}


@contextlib.contextmanager
def serving(folder: Path, scene: Path, bundle: Path) -> Iterator[Any]:
    """Yield a connection to `lai-backend` with one worker process of two threads.

    It has answered a request before: for some seconds after its start it still imports.
    """
    import openeo

    password = "benchmark of batch jobs"
    server = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("lai-backend")),
            *("serve", "--port=0", f"--data={folder}"),
            *(f"--collections={scene.parent}", f"--allow={bundle.parent}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAI_BACKEND_PASSWORD": password},
    )
    try:
        assert server.stdout is not None
        connection = openeo.connect(server.stdout.readline().strip())
        connection.authenticate_basic("lai", password)
        add = {"process_id": "add", "arguments": {"x": 1, "y": 1}, "result": True}
        connection.execute({"add": add})
        yield connection
    finally:
        server.terminate()
        server.wait(30)


def batch_job(bundle: str, scene: str, folder: str, rounds: str = "3") -> Facts:
    """Run a scene by `lai-udf run` and as a batch job of `lai-backend`, in turns.

    In turns, because other work on the machine comes and goes; the least of each counts.
    """
    from lai_udf.predict import BANDS
    from lai_udf.process_graph import lai_cube

    here, run = Path(folder), str(Path(sys.executable).with_name("lai-udf"))
    command = [run, "run", scene, str(here / "direct"), "--overwrite", "--model", bundle]
    scaling = {"reflectance_scale": 1e-4}  # the back-end applies the offset
    facts, direct = Facts(), Facts()
    with serving(here / "data", Path(scene), Path(bundle)) as connection:
        loaded = connection.load_stac(scene, bands=list(BANDS))
        graph = lai_cube(loaded, model=bundle, size=480, **scaling)
        for _ in range(int(rounds)):
            with clock(direct):
                subprocess.run(command, check=True, capture_output=True)
            with clock(facts):
                job = graph.create_job(out_format="GTiff")
                job.start_and_wait(print=lambda *_: None, max_poll_interval=0.3)
        job.get_results().download_files(here / "job")
    return {**facts, "command_seconds": direct["seconds"]}


def block_features(bundle: str, side: int) -> tuple[Any, np.ndarray]:
    """Return a bundle and a block of features, (14, y, x)."""
    from lai_udf.predict import BANDS, PredictOptions, build_features, load_model, read_values

    model = load_model(bundle)
    inputs = read_values(make_cube(side), list(BANDS), PredictOptions())
    return model, build_features(inputs, model.contract)


def runtimes(bundle: str) -> Facts:
    """Time the point estimate of a block with what is installed, one thread."""
    model, features = block_features(bundle, 416)
    graph = model.graph("model")
    ones = np.ones((1, model.contract["masks"]["count"]), dtype="float32")
    inputs = {"features": features[None], "masks": ones}
    expected, facts = graph(**inputs)[0], Facts()

    def measure(name: str, run: Callable[[], np.ndarray]) -> None:
        timing = Facts()
        error = float(np.abs(run() - expected).max())
        for _ in range(5):
            with clock(timing):
                run()
        milliseconds = 1000 * float(timing["seconds"])
        facts[name] = f"{milliseconds:.0f} ms, largest difference {error:.1e} LAI"

    measure("ONNX Runtime", lambda: graph(**inputs)[0])
    with contextlib.suppress(ImportError):
        import openvino

        content = model.graphs["model"]
        for precision in ("f32", "bf16"):
            how = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
            network = openvino.Core().read_model(content)
            compiled = openvino.Core().compile_model(network, "CPU", how)
            measure(f"OpenVINO {precision}", lambda net=compiled: net(inputs)[0])
    return facts


WORK: dict[str, Callable[..., Facts]] = {
    work.__name__: work
    for work in (
        predict_memory,
        sl2p_memory,
        keras_naive,
        files_to_cogs,
        sl2p_files,
        dask_workers,
        batch_job,
        runtimes,
    )
}


def main() -> None:
    """Do the work that the command line names."""
    facts = WORK[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
