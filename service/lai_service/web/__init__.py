"""Graphical output: tiles, colours, plots, pages."""
