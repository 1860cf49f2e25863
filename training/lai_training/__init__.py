"""Learn LAI from Sentinel-2: the teacher SL2P, simulated land, networks, calibration, scores.

Data flow: `simulation` makes scenes and `datasets` reads real ones, `sl2p` labels them, `learn`
makes samples of either and fits a network of `networks`, `restore` the one that ships;
`calibration` calibrates it on field measurements, `bundles` packs it, `release` does both.
`evaluation` and `parcels` make the paper's tables and figures, `cli` the commands.

Nothing is imported here: SL2P alone must not wait for Keras.
"""

__all__: list[str] = []
