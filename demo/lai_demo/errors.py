"""The one error of the demo; the parts have their own families."""


class LaiDemoError(Exception):
    """A step did not do its work; the message says which, and where its log is."""
