"""Field measurements: read them, `calibrate` on them, `validate` against them."""
