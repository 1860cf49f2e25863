"""Former name of `lai_udf.scenes.read`, for scripts of the first edition."""

from lai_udf.scenes.read import open_scene, read_scene

__all__ = ["open_scene", "read_scene"]
