"""The uncertainty extension under a name of its own, for pystac's entry point; see `extension`."""

from lai_stac.extension import UNC_EXTENSION_HOOKS, UncertaintyExtension

__all__ = ["UNC_EXTENSION_HOOKS", "UncertaintyExtension"]
