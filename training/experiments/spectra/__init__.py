"""How the spectra that ship were simulated: PROSPECT-D, 4SAIL, the laws of SL2P, soils."""
