"""Field LAI to compare own points with: results as they are, scenes run for it."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from lai_udf.errors import RasterError
from lai_udf.results import LaiResult, find_results
from lai_udf.run_options import RunOptions
from lai_udf.runs import run_scenes
from lai_udf.scenes.read import open_scenes

BANDS = ("LAI", "LAI_FLAGS")


@contextmanager
def open_field_results(sources: Sequence[Path], model: Path | None) -> Iterator[list[LaiResult]]:
    """Give results of sources; those that are scenes are run with `target="field"` first.

    Args:
        sources: folders of results, or whatever `lai_udf.open_scenes` reads.
        model: bundle for scenes; None: the one that ships.

    Raises:
        ProductError: a source is neither.
        RasterError: a result cannot be read.
    """
    results: list[LaiResult] = []
    scenes: list[Path] = []
    for source in sources:
        try:
            results += find_results([source])
        except RasterError:
            scenes.append(source)
    with tempfile.TemporaryDirectory() as folder:
        if scenes:
            entries = chain.from_iterable(open_scenes(source) for source in scenes)
            run_scenes(entries, Path(folder), RunOptions(model=model, target="field", bands=BANDS))
            results += find_results([Path(folder)])
        yield results
