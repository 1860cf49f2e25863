"""Former name of `lai_udf.cog`, for scripts of the first edition."""

from lai_udf.cog import write_lai_cogs
from lai_udf.results import read_lai_cogs, read_lai_geotiff

__all__ = ["read_lai_cogs", "read_lai_geotiff", "write_lai_cogs"]
