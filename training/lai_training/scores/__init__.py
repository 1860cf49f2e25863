"""How near two fields of LAI are: `metrics`, and `emulation` of SL2P on real scenes."""
