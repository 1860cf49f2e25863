"""The shipped network: a small body that restores spectra, SL2P's equations as its fixed head.

At 10 m the body gives the six 20 m bands the detail that the four 10 m bands have; at 20 m it
corrects the ten bands a little by what their neighbours know. SL2P (set 2_1) reads the corrected
spectrum with the weights of its authors: a correction of zero is SL2P itself, and five variables
come at once. The 10 m body is learnt by Wald's protocol: scenes are degraded twofold, and what
they were before is the truth.
"""
