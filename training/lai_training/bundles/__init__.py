"""From a finished run to the bundle that ships: export, calibrate, score, describe, pack."""
