"""How many patches per second a network is fitted on, beside what the processor could do.

And how fast land is simulated.

Run it with `python benchmarks/training.py [NETWORK ...]`; `--patch 64 --batch 16 --steps 10` size
it. In one run it measures, per network: making samples alone, fitting on samples that are made
already, and both together as `lai-train fit` does it. The bound is the machine's own float32 matrix
product divided by the multiplications of the network, times three: forward, and backward to inputs
and to weights. On a CPU everything is per second of one core (CPU time of all threads), so other
work on the machine hardly shows; on a GPU, where Keras finds one, it is per second of the clock.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from experiments.spectra.library import spectral_library
from lai_training.learn.config import FitConfig, SampleConfig
from lai_training.learn.fit import compile_model
from lai_training.learn.pools import Pool, name_constants
from lai_training.learn.samples import PoolStream
from lai_training.networks import FEATURE_COUNT, SPECS, build_network
from lai_training.simulation.landscapes import simulate_scene

TRAINING_PASSES = 3
POOL_PATCHES = 16
TILE_PX = 5490
Clock = Callable[[], float]


@dataclass(frozen=True)
class Throughput:
    """Speeds of one network on one device, patches per second (CPU: of one core)."""

    network: str
    """Key of `lai_training.networks.SPECS`."""
    device: str
    """CPU or GPU."""
    macs_per_pixel: float
    """Multiplications with addition of one forward pass, per pixel."""
    making: float
    """Samples made, nothing fitted."""
    fitting: float
    """Fitted on samples made before."""
    both: float
    """Fitted on samples made meanwhile, as in `lai-train fit`."""
    bound: float
    """What the multiplications alone would allow at the measured matrix speed."""


def count_macs(model: keras.Model, side: int = 64) -> float:
    """Return multiplications with addition of one forward pass per pixel of the input.

    Convolutions are counted, everything else (activations, sums, normalisation) is not: a lower
    bound of the work. Inner levels count by their share of the pixels.
    """
    return sum(_walk(model, (1, side, side, FEATURE_COUNT))) / side**2


def _walk(model: keras.Model, shape: tuple[int, ...]) -> list[float]:
    """Return the multiplications of every convolution, seen by running one image through."""
    found: list[float] = []
    originals = {}
    convolutions = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D))
    ]

    def record(
        layer: keras.Layer, call: Callable[..., keras.KerasTensor]
    ) -> Callable[..., keras.KerasTensor]:
        def counted(inputs: keras.KerasTensor) -> keras.KerasTensor:
            output = call(inputs)
            weights = int(np.prod(layer.kernel.shape))
            # A transposed convolution with stride 2 uses its kernel once per input pixel; a
            # convolution once per output pixel.
            at = inputs if isinstance(layer, layers.Conv2DTranspose) else output
            found.append(float(weights * at.shape[1] * at.shape[2]))
            return output

        return counted

    for layer in convolutions:
        originals[layer] = layer.call
        layer.call = record(layer, layer.call)
    try:
        masks = np.ones((1, model.inputs[1].shape[-1]), dtype="float32")
        model([np.zeros(shape, dtype="float32"), masks])
    finally:
        for layer, call in originals.items():
            layer.call = call
    return found


def measure_matrix_speed(clock: Clock, size: int = 1024, products: int = 20) -> float:
    """Return multiplications with addition per second of float32 matrix products, at best."""
    matrix = ops.convert_to_tensor(np.random.default_rng(0).random((size, size), dtype="float32"))
    seconds = []
    for _ in range(products):
        start = clock()
        ops.convert_to_numpy(ops.matmul(matrix, matrix)[0, 0])
        seconds.append(clock() - start)
    return size**3 / min(seconds)


def measure(network: str, device: str, *, patch: int, batch: int, steps: int) -> Throughput:
    """Time one network: making samples, fitting, both; the first batch of each is not counted."""
    samples = SampleConfig.model_validate({"patch_px": patch, "batch": batch, "grain_share": 0.6})
    pool = np.random.default_rng(0).random((POOL_PATCHES, 10, patch, patch)).astype("float16")
    flat = name_constants(np.full(10, 0.5), np.full(10, 0.3))
    stream = PoolStream(Pool(pool), flat, SPECS[network], samples, steps=steps + 1, seed=1)
    config = FitConfig.model_validate(
        {
            "network": network,
            "seed": 1,
            "pool": {"patches": 8, "size_px": 32, "seed": 1},
            "validation": {"patches": 8, "size_px": 32, "seed": 1},
            "samples": samples,
            "epochs": 1,
            "steps": steps,
            "learning_rate": 1e-4,
            "huber_delta": 0.5,
        }
    )
    model = build_network(network)
    compile_model(model, config)
    macs = count_macs(model, patch)
    ready = stream[0]
    model.train_on_batch(*ready)

    def make(index: int) -> None:
        stream[index]

    def fit(index: int) -> None:
        model.train_on_batch(*ready)

    clock = time.process_time if device == "CPU" else time.perf_counter
    made, fitted = (_rate(step, steps, clock) * batch for step in (make, fit))
    watch = _Stopwatch(clock)
    model.fit(stream, epochs=1, shuffle=False, verbose=0, callbacks=[watch])
    return Throughput(
        network=network,
        device=device,
        macs_per_pixel=macs,
        making=made,
        fitting=fitted,
        both=steps * batch / watch.seconds,
        bound=measure_matrix_speed(clock) / (TRAINING_PASSES * macs * patch**2),
    )


def _rate(step: Callable[[int], None], steps: int, clock: Clock) -> float:
    start = clock()
    for index in range(steps):
        step(index)
    return steps / (clock() - start)


class _Stopwatch(keras.callbacks.Callback):  # type: ignore[misc]
    """Times an epoch from the end of its first batch, which compiles."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._began = self.seconds = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = self._clock()
        if batch == 0:
            self._began = now
        self.seconds = now - self._began


def describe_simulation(spectra: int = 20_000, size_px: int = 512) -> str:
    """Print how fast spectra and scenes are simulated, per second of one core."""
    rng = np.random.default_rng(0)
    spectral_library(1_000, rng)  # reads its tables
    start = time.process_time()
    library = spectral_library(spectra, rng)
    made = time.process_time()
    simulate_scene(size_px, size_px, rng, library=library)
    pixels = size_px**2 / (time.process_time() - made)
    return (
        f"Simulated a core-second: {spectra / (made - start):,.0f} spectra, {pixels:,.0f} pixels "
        f"of a scene (a tile of {TILE_PX:,} px in {TILE_PX**2 / pixels:.0f} s)."
    )


def find_gpu() -> bool:
    """Return whether Keras has a GPU to work on."""
    if keras.backend.backend() == "torch":  # the only backend whose devices Keras cannot list
        import torch

        return bool(torch.cuda.is_available())
    return bool(keras.distribution.list_devices("gpu"))


def main() -> None:
    """Print the speeds as a Markdown table."""
    parser = argparse.ArgumentParser(description="Patches per second of fitting.")
    parser.add_argument("networks", nargs="*", default=list(SPECS), help=", ".join(SPECS))
    parser.add_argument("--patch", type=int, default=64, help="side of a patch, px")
    parser.add_argument("--batch", type=int, default=16, help="patches per step")
    parser.add_argument("--steps", type=int, default=10, help="steps per measurement")
    given = parser.parse_args()
    size = {"patch": given.patch, "batch": given.batch, "steps": given.steps}
    device, other = ("GPU", "CPU") if find_gpu() else ("CPU", "GPU")
    print(
        f"| network, {given.patch} px | device | multiplications/px | samples made/s | fitted/s "
        "| both/s | bound/s | fitted / bound |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in given.networks:
        row = measure(name, device, **size)
        print(
            f"| {name} | {device} | {row.macs_per_pixel:,.0f} | {row.making:.0f} "
            f"| {row.fitting:.1f} | {row.both:.1f} | {row.bound:.0f} "
            f"| {row.fitting / row.bound:.2f} |",
            flush=True,
        )
    print(f"| all | {other} | | not measured | not measured | not measured | | |")
    print(f"\n{describe_simulation()}")


if __name__ == "__main__":
    main()
