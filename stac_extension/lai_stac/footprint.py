"""Former place of footprints, now in `lai_stac.product`, for scripts of the first edition."""

from lai_stac.product import block_size, bounding_box, outline, to_wgs84

__all__ = ["block_size", "bounding_box", "outline", "to_wgs84"]
