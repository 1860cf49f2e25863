"""Simulated land: spectra of leaves, canopies and soils, parcels through the year, whole scenes.

`prospect`, `sail` and `prosail` make spectra, `surfaces` and `spectral_library` a palette of them;
`parcels`, `cover` and `landscapes` render it, `observation` looks at it as Sentinel-2 does,
`simulate` writes a scene.
"""
