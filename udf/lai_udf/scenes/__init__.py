"""Read Sentinel-2 L2A scenes and cubes, whatever they come as.

`read` opens scenes: `safe`, `stac`, `geotiff`, `folder`, `eopf` and `cubes` describe them, `source`
and `bands` read them; `metadata` is what is stated of a scene beside its pixels.
"""
