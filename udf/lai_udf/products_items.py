"""Former name of `lai_udf.scenes.items`, for scripts of the first edition."""

from lai_udf.scenes.items import open_items

__all__ = ["open_items"]
