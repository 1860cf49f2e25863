"""Figures of fields: gaps, single dates, intervals."""

import numpy as np
import pandas as pd
import pytest

from lai_udf.field.plot import draw_field, split_at_gaps


def test_the_line_of_a_figure_breaks_at_gaps() -> None:
    days = pd.to_datetime(["2020-01-01", "2020-01-20", "2020-06-01"])
    broken = split_at_gaps(pd.DataFrame({"lai": [1.0, 2.0, 3.0]}, index=days))
    assert list(broken["lai"].isna()) == [False, False, True, False]


@pytest.mark.parametrize("mean", [None, np.nan, 2.0])
def test_a_field_of_one_date_has_a_figure_with_or_without_a_mean(mean: float | None) -> None:
    row = {"datetime": "2024-06-13T10:00:00Z", "mean": mean, "lower": mean, "upper": mean}
    assert draw_field("1", pd.DataFrame([row])).startswith(b"\x89PNG")


def test_an_interval_without_neighbours_in_time_is_drawn_as_a_bar() -> None:
    dates = ["2024-01-01", "2024-06-01", "2024-06-06"]
    rows = [
        {"datetime": f"{day}T10:00:00Z", "mean": 2.0, "lower": 1.0, "upper": upper}
        for day, upper in zip(dates, (2.5, 3.0, 3.0), strict=True)
    ]
    other = [{**rows[0], "lower": 2.0, "upper": 2.0}, *rows[1:]]
    assert draw_field("1", pd.DataFrame(rows)) != draw_field("1", pd.DataFrame(other))
