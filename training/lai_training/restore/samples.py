"""Training samples of a body: patches, degraded or disturbed, and what they were before."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lai_training.learn.config import RestoreConfig
from lai_training.learn.pools import Constants, name_constants
from lai_training.learn.samples import (
    SampleStream,
    draw_cosines,
    draw_missing,
    draw_training_masks,
)
from lai_training.restore.degradation import add_measured_noise, cover, degrade, move
from lai_training.restore.network import BodySpec, read_spectra
from lai_training.restore.scenes import Scene, find_valid_vegetation
from lai_udf.predict import BANDS, FINE_ROWS, build_body_features, split_blocks

Float32 = NDArray[np.float32]
Inputs = tuple[Float32, Float32, Float32, Float32]
"""features, masks, spectra and cosines, see `network.attach_head`."""


USUAL_LAI = 8.0


@dataclass(frozen=True, eq=False)
class Patches:
    """What samples are cut from."""

    real: Sequence[Scene]
    """Real scenes."""
    simulated: Float32 | None = None
    """(n, 10, y, x), noise-free; None where none are wanted."""


def measure_constants(scenes: Sequence[Scene], side: int) -> Constants:
    """Return the normalisation of a body: `mean`, `std`, `limit`, and `detail_std` at 10 m."""
    pixels = np.concatenate([scene.reflectance.reshape(len(BANDS), -1) for scene in scenes], axis=1)
    constants = name_constants(np.nanmean(pixels, axis=1), np.nanstd(pixels, axis=1))
    if side > 1:
        constants["detail_std"] = measure_detail(scenes)[FINE_ROWS].round(6).tolist()
    return constants


def measure_detail(scenes: Sequence[Scene]) -> Float32:
    """Return (10,): how far the pixels of 2x2 blocks lie from their mean, standard deviation."""
    parts = []
    for scene in scenes:
        height, width = (px // 2 * 2 for px in scene.reflectance.shape[1:])
        blocks = split_blocks(scene.reflectance[:, :height, :width], 2)
        detail = blocks - blocks.mean(axis=0)
        parts.append(detail.transpose(1, 0, 2, 3).reshape(len(BANDS), -1))
    spread: Float32 = np.nanstd(np.concatenate(parts, axis=1), axis=1)
    return spread


class BodyStream(SampleStream):
    """Batches for a body.

    A target is, per pixel, five variables as SL2P reads them off the undisturbed patch, the
    correction of ten bands that would give it back, and 1 where the variables count: clear
    vegetation where SL2P is valid.
    """

    def __init__(
        self,
        patches: Patches,
        spec: BodySpec,
        config: RestoreConfig,
        constants: Constants,
        *,
        workers: int = 1,
    ) -> None:
        self._patches, self._spec, self._config = patches, spec, config
        self._own, self._constants = config.body(spec.resolution), constants
        super().__init__(steps=self._own.steps, seed=config.seed, workers=workers)
        counts = [scene.place for scene in patches.real]
        weights = np.array(
            [
                np.sqrt(max(float(scene.scored.mean()), 0.02) / counts.count(scene.place))
                for scene in patches.real
            ]
        )
        self._weights = weights / weights.sum()

    def build(self, rng: np.random.Generator) -> tuple[Inputs, Float32]:
        """Return inputs and targets."""
        config, body, spec = self._config, self._own, self._spec
        cosines = draw_cosines(body.batch, config.nominal_angle_share, rng)
        missing = draw_missing(
            (body.batch, body.patch_px, body.patch_px), config.missing_share, rng
        )
        features, spectra, targets = [], [], []
        for angles, gone in zip(cosines, missing, strict=True):
            blocks, target = self._make(angles, gone, rng)
            features.append(build_body_features(blocks, self._constants).transpose(1, 2, 0))
            spectra.append(np.nan_to_num(blocks).transpose(2, 3, 0, 1))
            targets.append(target.transpose(2, 3, 0, 1))
        share, rate = config.masked_draw_share, spec.dropout_rate
        masks = draw_training_masks(body.batch, spec.width, rate, share, rng)
        return (np.stack(features), masks, np.stack(spectra), cosines), np.stack(targets)

    def _make(
        self, cosines: Float32, gone: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Float32, Float32]:
        """Return a sample, (pixels, 10, y, x) with NaN = no data, and its target."""
        truth, scored = self._cut(rng)
        covered = rng.random() < self._config.covered_share
        if covered:
            truth = cover(truth, rng)
        seen = self._disturb(truth, rng)
        seen[:, gone | np.isnan(truth).any(axis=0)] = np.nan
        whole = np.isfinite(seen).all(axis=0)
        correction = np.where(whole, truth - seen, 0)
        values = np.where(whole, read_spectra(np.nan_to_num(truth), cosines), 0)
        if covered:  # under cloud SL2P extrapolates: not fit to train on
            scored = scored & (values[0] > 0) & (values[0] < USUAL_LAI)
        target = np.concatenate([values, correction, (scored & whole)[None]]).astype("float32")
        side = self._spec.side
        return split_blocks(seen, side), split_blocks(target, side)

    def _disturb(self, truth: Float32, rng: np.random.Generator) -> Float32:
        seen = np.nan_to_num(truth)
        if self._own.moved:
            seen = move(seen, rng)
        if self._own.noise_level:
            seen = add_measured_noise(seen, self._own.noise_level * rng.uniform(0, 1.5), rng)
        return degrade(seen) if self._spec.side > 1 else seen.copy()

    def _cut(self, rng: np.random.Generator) -> tuple[Float32, NDArray[np.bool_]]:
        """Cut a patch, (10, y, x), turned and flipped at random; blocks begin anywhere."""
        simulated, size = self._patches.simulated, self._own.patch_px
        scored: NDArray[np.bool_] | None = None
        if simulated is not None and rng.random() < self._config.simulated_share:
            image = np.asarray(simulated[rng.integers(len(simulated))], dtype="float32")
        else:
            scene = self._patches.real[rng.choice(len(self._weights), p=self._weights)]
            image, scored = scene.reflectance, scene.scored
        top, left = (int(rng.integers(0, px - size + 1)) for px in image.shape[1:])
        part = np.s_[..., top : top + size, left : left + size]
        image = image[part]
        scored = find_valid_vegetation(image) if scored is None else scored[part]
        turns = int(rng.integers(4))
        image, scored = np.rot90(image, turns, (1, 2)), np.rot90(scored, turns)
        if rng.random() < 0.5:
            image, scored = image[:, ::-1], scored[::-1]
        return np.ascontiguousarray(image), np.ascontiguousarray(scored)
