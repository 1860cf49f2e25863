"""Fit a network: `config` defines it, `pools` and `samples` make its data, and `fit` fits it.

`run_folder` keeps what a run is.
"""
