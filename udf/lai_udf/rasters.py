"""Former name of `lai_udf.cog`, for scripts of the first edition."""

from lai_udf.cog import read_lai_cogs, read_lai_geotiff, write_lai_cogs

__all__ = ["read_lai_cogs", "read_lai_geotiff", "write_lai_cogs"]
