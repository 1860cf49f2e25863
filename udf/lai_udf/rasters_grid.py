"""Former name of `lai_udf.grid`, for scripts of the first edition."""

from lai_udf.grid import Grid

__all__ = ["Grid"]
