"""The one error of the demo; the parts have their own families."""

from lai_udf.predict import LaiError


class LaiDemoError(LaiError):
    """A step did not do its work; the message says which, and where its log is."""
