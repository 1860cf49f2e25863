"""Fit a network: `config` says what, `pools` and `samples` with what data, and `fit` does it.

`checkpoints` and `run_folder` keep what a run is.
"""
