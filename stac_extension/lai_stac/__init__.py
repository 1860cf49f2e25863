"""Describe: LAI rasters and their model become STAC Items with the lai-quality extension.

The road through the room: `item.build_item` reads the COGs of a result, `statistics` says what
their pixels say, `footprint` where they are, `extension` holds the fields, `validation` checks
the outcome offline.
"""
