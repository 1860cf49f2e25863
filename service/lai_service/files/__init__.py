"""Rasters: how they are published, stored, checked and read."""
