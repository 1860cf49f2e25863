"""SL2P, the teacher: the networks of SNAP's biophysical processor, vectorised.

`processor` computes variables and flags, `scene` applies it to products and series, `tables` holds
the coefficients and the definition domain.
"""

from lai_training.sl2p.processor import (
    NOMINAL_RELATIVE_AZIMUTH_DEG,
    NOMINAL_SUN_ZENITH_DEG,
    NOMINAL_VIEW_ZENITH_DEG,
    Flag,
    predict,
    predict_bands,
    predict_image,
    predict_patches,
)

__all__ = [
    "NOMINAL_RELATIVE_AZIMUTH_DEG",
    "NOMINAL_SUN_ZENITH_DEG",
    "NOMINAL_VIEW_ZENITH_DEG",
    "Flag",
    "predict",
    "predict_bands",
    "predict_image",
    "predict_patches",
]
