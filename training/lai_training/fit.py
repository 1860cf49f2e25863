"""Fit a network: a config in, a run folder with the best weights and their whole history out.

A run folder holds `config.yaml` (as run), `provenance.json` (commit, versions, data, seed) and
what `lai_training.checkpoints` writes after every epoch: `best.keras`, `history.csv` and the
backup from which a killed run goes on.
"""

import hashlib
import json
import logging
import subprocess
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import yaml

from lai_training.checkpoints import BEST, AveragedWeights, KeepRun, restore
from lai_training.config import FitConfig, PoolConfig, PreparedConfig, read_config
from lai_training.errors import FitError
from lai_training.networks import SPECS, NetworkSpec, build_network
from lai_training.prepare_manifest import MANIFEST
from lai_training.prepare_pool import PreparedPool, open_prepared
from lai_training.recipe import compile_model, load_start
from lai_training.samples import (
    Floats,
    Normalisation,
    SampleStream,
    make_pool,
    measure_normalisation,
    measure_range,
    normalise_by_range,
    open_pool,
    steps_for,
)
from lai_training.spectral_library import load_or_make_library
from lai_udf.rasters_files import disk_errors, move_finished, work_folder

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
Progress = Callable[[int, int], None]
"""Told (done, all)."""

logger = logging.getLogger("lai_training")


def fit(
    config: FitConfig,
    run: Path,
    *,
    pools: Path,
    verbose: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Fit the network of `config`, going on where a killed run stopped.

    Args:
        config: the experiment.
        run: folder of the run.
        pools: folder in which simulated pools are kept between runs.
        verbose: 0 silent, 1 bar, 2 one line an epoch, printed by Keras.
        progress: told (patches simulated, all), then (batches done, all).

    Returns:
        `best.keras` in the run folder.

    Raises:
        FitError: the folder holds another experiment or a damaged backup, the run to start from
            is missing, patches do not fit the config, or the loss became NaN.
        PrepareError: a pool of real patches is missing or damaged.
        OutputNotWritableError: a folder refuses.
    """
    refuse_other_config(config, run)
    keras.utils.set_random_seed(config.seed)
    spec = SPECS[config.network]
    training_pool = load_pool(config.pool, pools, progress)
    start = find_start(config, run)
    held_out_pool = load_pool(config.validation, pools, progress)
    known, known_held_out = (load_known(pool) for pool in (config.pool, config.validation))
    refuse_unfit(config, training_pool, held_out_pool)
    normalisation = read_normalisation(start) if start else _normalise(config, training_pool)
    stream = SampleStream(
        training_pool,
        normalisation,
        spec,
        config.samples,
        steps=config.steps,
        seed=config.seed,
        cosines=known.cosines,
        lai=known.lai,
    )
    held_out = SampleStream(
        held_out_pool,
        normalisation,
        spec,
        config.samples.model_copy(update={"masked_draw_share": 0.0}),
        steps=steps_for(len(held_out_pool), config.samples),
        seed=config.seed + 1,
        fixed=True,
        cosines=known_held_out.cosines,
        lai=known_held_out.lai,
    )
    model = build_network(config.network)
    if start:
        load_start(model, start, freeze=config.freeze_start)
    compile_model(model, config)
    done = restore(model, run, steps=config.steps)
    if done == 0:
        write_provenance(config, normalisation, run)
    if done < config.epochs:
        callbacks = _callbacks(stream, config, run, done, progress)
        with warnings.catch_warnings():  # the spread head has no loss here; it is taught later
            warnings.filterwarnings("ignore", "Gradients do not exist for variables .'spread1")
            model.fit(
                stream,
                validation_data=held_out,
                initial_epoch=done,
                epochs=config.epochs,
                shuffle=False,  # a resumed run sees the batches in the same order as a whole one
                verbose=verbose,
                callbacks=callbacks,
            )
    best = run / BEST
    if not best.exists():
        raise FitError(f"{best} is missing though the run is complete: delete {run}, fit anew")
    return best


def find_start(config: FitConfig, run: Path) -> Path | None:
    """Return the folder of the run that `start_from` names; None where nothing is named."""
    if config.start_from is None:
        return None
    start = run.parent / config.start_from
    if not (start / BEST).exists():
        raise FitError(
            f"start_from: {start} holds no {BEST}; fit training/configs/{config.start_from}.yaml "
            "first, into that folder"
        )
    return start


def load_pool(
    config: PoolConfig | PreparedConfig, pools: Path, progress: Progress | None = None
) -> Floats:
    """Open a pool of real patches, or of simulated ones; simulate them where not there yet."""
    if isinstance(config, PreparedConfig):
        return _open(config).reflectance
    path = pools / f"patches-{config.patches}x{config.size_px}-seed{config.seed}.npy"
    if not path.exists():
        logger.info("simulating %d patches of %d px", config.patches, config.size_px)
        with disk_errors(pools):
            library = load_or_make_library(pools / "spectra-seed1.npz", seed=1)
        make_pool(
            path,
            library,
            patches=config.patches,
            size_px=config.size_px,
            seed=config.seed,
            progress=progress,
        )
    return open_pool(path)


class Known(NamedTuple):
    """What a pool knows beside reflectance, patch by patch."""

    cosines: Floats | None
    """(n, 3) of the angles; None = drawn, for simulated patches have none."""
    lai: Floats | None
    """(n, y, x) labels from elsewhere; None = SL2P's."""


def load_known(config: PoolConfig | PreparedConfig) -> Known:
    """Return what is known of the patches of a pool; nothing of simulated ones."""
    if not isinstance(config, PreparedConfig):
        return Known(None, None)
    pool = _open(config)
    given = pool.manifest.settings["labels"] is not None
    return Known(pool.cosines, pool.lai if given else None)


def refuse_unfit(config: FitConfig, *pools: Floats) -> None:
    """Raise `FitError` where patches cannot be cut from a pool, or its labels are too few."""
    for pool in pools:
        if pool.shape[-1] < config.samples.patch_px:
            raise FitError(
                f"patches of the pool have {pool.shape[-1]} px, samples.patch_px is "
                f"{config.samples.patch_px}: lower it, or make a pool of larger patches"
            )
    known = (load_known(pool) for pool in (config.pool, config.validation))
    if any(each.lai is not None for each in known) and len(SPECS[config.network].variables) > 1:
        raise FitError(
            f"network {config.network} has more outputs than LAI, and the pool's labels are "
            "rasters of LAI alone: prepare it with SL2P labels (labels: null)"
        )


def _open(config: PreparedConfig) -> PreparedPool:
    return open_prepared(Path(config.prepared), config.split)


def _normalise(config: FitConfig, pool: Floats) -> Normalisation:
    """Return the constants that the config asks for, measured on the training pool."""
    if config.normalisation == "mean_std":
        return measure_normalisation(pool)
    if isinstance(config.pool, PreparedConfig):
        limits = _open(config.pool).manifest.normalisation
        return normalise_by_range(limits.lowest, limits.highest)
    return measure_range(pool)


def _callbacks(
    stream: SampleStream, config: FitConfig, run: Path, done: int, progress: Progress | None
) -> list[keras.callbacks.Callback]:
    """Return the callbacks, in the order in which they must act at the end of an epoch."""
    callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: setattr(stream, "epoch", epoch)
        )
    ]
    if config.ema_momentum:  # validation and checkpoints see the averaged weights
        callbacks.append(AveragedWeights(resumed=done > 0))
    if progress:
        batches = iter(range(done * config.steps + 1, config.epochs * config.steps + 1))
        callbacks.append(
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: progress(
                    next(batches), config.epochs * config.steps
                )
            )
        )
    patches = config.steps * config.samples.batch
    return [*callbacks, KeepRun(run, epochs_done=done, patches=patches)]


def refuse_other_config(config: FitConfig, run: Path) -> None:
    """Raise `FitError` where the run folder holds another experiment than `config`."""
    path = run / CONFIG
    if not path.exists():
        return
    found = read_config(path).model_dump()
    if differing := [key for key, value in config.model_dump().items() if found[key] != value]:
        raise FitError(
            f"{run} holds a run of another config (it differs in {', '.join(differing)}): "
            "choose another --run, or delete that folder"
        )


def write_provenance(config: FitConfig, normalisation: Normalisation, run: Path) -> None:
    """Write what it takes to repeat the run beside its weights."""
    provenance = {
        "commit": _commit(),
        "backend": keras.backend.backend(),
        "versions": {name: version(name) for name in ("keras", "numpy", "sentinel2-lai")},
        "normalisation": normalisation.contract(),
        "data": {
            name: _describe_data(pool)
            for name, pool in (("pool", config.pool), ("validation", config.validation))
        },
        "config": config.model_dump(),
    }
    texts = {
        PROVENANCE: json.dumps(provenance, indent=2),
        CONFIG: yaml.safe_dump(config.model_dump(), sort_keys=False),
    }
    with work_folder(run) as work, disk_errors(run):
        for name, text in texts.items():
            (work / name).write_text(text, encoding="utf-8")
        move_finished({work / name: run / name for name in texts})


def _describe_data(config: PoolConfig | PreparedConfig) -> dict[str, Any]:
    """Return what a run's patches are: simulated, or which products by which manifest."""
    if not isinstance(config, PreparedConfig):
        return {"simulated": config.model_dump()}
    manifest = _open(config).manifest
    text = (Path(config.prepared) / MANIFEST).read_bytes()
    products = [each for each in manifest.products if config.split in each.patches]
    return {
        "manifest_sha256": hashlib.sha256(text).hexdigest(),
        "patches": manifest.splits[config.split].patches,
        "products": {each.product_id: each.checksum for each in products},
    }


def _commit() -> str:
    """Return the commit of the working tree, with a mark where it is not clean."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    here = Path(__file__).parent
    result = subprocess.run(describe, cwd=here, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def spec_of(run: Path) -> tuple[NetworkSpec, dict[str, Any]]:
    """Return the network's promises and the provenance of a run.

    Raises:
        FitError: the folder holds no run.
    """
    try:
        provenance: dict[str, Any] = json.loads((run / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FitError(f"{run} is not the folder of a run: {error}") from error
    return SPECS[provenance["config"]["network"]], provenance


def read_normalisation(run: Path) -> Normalisation:
    """Return the constants that a run was fitted with."""
    constants = spec_of(run)[1]["normalisation"]
    mean, std = (np.array(constants[key], dtype="float32") for key in ("mean", "std"))
    return Normalisation(mean, std)
