"""Fit a network: `config` says what, `samples` with what data, `recipe` how, and `fit` does it.

Samples come from `pools` of clean patches through `augmentation`, `labels` and `normalisation`;
`checkpoints` and `run_folder` keep what a run is.
"""
