"""Mixed precision: multiply in bfloat16, keep weights and outputs in float32.

The policy is set layer by layer, on a network that is already built, instead of for the process:
what is saved has the float32 form, so nothing behind the fit need know how it was fitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras

HALF = "mixed_bfloat16"
FULL = "float32"


def set_precision(model: keras.Model, policy: str) -> None:
    """Let every layer but inputs and outputs compute with `policy`; weights are float32 in both."""
    last = set(model.output_names)
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, keras.layers.InputLayer) and layer.name not in last:
            layer.dtype_policy = policy


@contextmanager
def full_precision(model: keras.Model) -> Iterator[keras.Model]:
    """Give a model that is fitted in bfloat16 its float32 form for as long as it is saved."""
    mixed = any(layer.dtype_policy.name == HALF for layer in model.layers)
    if mixed:
        set_precision(model, FULL)
    try:
        yield model
    finally:
        if mixed:
            set_precision(model, HALF)
