"""What a person sees: tiles, colours, plots, pages."""
