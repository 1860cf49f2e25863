"""Former place of `open_items`, now in `lai_udf.scenes.stac`, for scripts of the first edition."""

from lai_udf.scenes.stac import open_items

__all__ = ["open_items"]
