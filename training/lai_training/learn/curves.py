"""Draw the loss curves of a run (the paper's figures 3 and 4).

Comes in: the rows of `history.csv`. Goes out: a PNG.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def draw_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw training and validation loss over the epochs, on a logarithmic axis.

    Args:
        rows: one per epoch, with `epoch` (from 0), `loss` and `val_loss`; numbers or their text.
        path: PNG to write.
    """
    from matplotlib.figure import Figure  # slow to import, and only drawn here
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    epochs = [int(row["epoch"]) + 1 for row in rows]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (
        ("loss", "training (noise, gaps and dropout)", "0.55"),
        ("val_loss", "validation (no dropout)", "black"),
    ):
        losses = [float(row[key]) for row in rows]
        axes.plot(epochs, losses, color=style, marker="." if len(rows) < 20 else "", label=label)
    if all(float(row[key]) > 0 for row in rows for key in ("loss", "val_loss")):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="epoch", ylabel="weighted loss", xlim=(0.5, len(rows) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)
