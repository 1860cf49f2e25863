"""Graphical output: tiles, colours, plots, pages."""

from importlib.resources import files


def web_file(name: str) -> str:
    """Return a script, page or template that travels with the package."""
    return (files("lai_service.web") / name).read_text(encoding="utf-8")
