"""The curve of a field: LAI of polygons over a period, from wherever the images are.

`season` finds the scenes (files, a STAC API), runs the UDF around the fields and asks
`lai_udf.zonal` for their means (an openEO back-end computes where the images are), `table` keeps
the rows, `plot` draws them. `lai-udf field` is the command.
"""
