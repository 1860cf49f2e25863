"""Read Sentinel-2 L2A scenes and cubes, whatever they come as.

`read` opens one scene (`geotiff`, `stac`, `safe` describe it, `source` reads it, `angles` and
`jpeg2000` help), `items` opens the scenes of a STAC document, `cubes` a time series in one file;
`write` is the way back, to a GeoTIFF that `read` understands.
"""
