"""The paper's tables and figures, and real imagery: `lai-train evaluate --report`.

`networks` defines what is compared; `scores` and `ten_metres` measure and draw; `evaluate`
and `real_imagery` make chapters of it.
"""
