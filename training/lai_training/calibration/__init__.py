"""Field measurements: read the `pairs`, `calibrate` on them, `validate` against them."""
