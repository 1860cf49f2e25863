"""Scaling: one formula."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lai_udf.predict import to_reflectance


@given(
    number=st.integers(1, 20_000),
    offset=st.sampled_from([0, -1000]),
    dtype=st.sampled_from(["uint16", "int32", "float32", "float64"]),
    form=st.sampled_from(["reflectance", "digital numbers"]),
)
def test_any_form_of_the_scaling_gives_the_same_reflectance(
    number: int, offset: int, dtype: str, form: str
) -> None:
    stored = np.array([number], dtype=dtype)
    given_offset = offset * 1e-4 if form == "reflectance" else offset

    found = to_reflectance(stored, 1e-4, given_offset)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (number + offset) * 1e-4, atol=1e-6)


def test_scaling_may_differ_by_date() -> None:
    stored = np.array([[3000], [4000]], dtype="uint16")  # (t, x): before and after 04.00
    found = to_reflectance(stored, 1e-4, np.array([[0], [-1000]]))
    np.testing.assert_allclose(found, 0.3, atol=1e-6)


def test_the_values_given_are_left_as_they_are() -> None:
    stored = np.array([0.3], dtype="float32")
    to_reflectance(stored, 0.5, -0.1)
    assert stored[0] == np.float32(0.3)
