"""Learn LAI from Sentinel-2: the teacher SL2P, simulated land, networks, calibration, scores."""
