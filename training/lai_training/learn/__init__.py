"""Fit a network: `config` defines it, `pools` and `samples` make its data, and `fit` fits it.

`checkpoints` and `run_folder` keep what a run is.
"""
