"""Simulated land: parcels through the year, drawn of a library of spectra, whole scenes.

`parcels`, `cover` and `landscapes` render it, `observation` looks at it as Sentinel-2 does,
`simulate` writes a scene.
"""
