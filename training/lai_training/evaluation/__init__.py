"""The paper's tables and figures, and real imagery: `lai-train evaluate --report`.

`networks` and `scenes` define what is compared on what; `scores`, `ten_metres` and `dates` measure
and draw; `evaluate` and `real_imagery` make chapters of it.
"""
