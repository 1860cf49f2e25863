"""The paper's tables and figures, and the questions it left open: `lai-train evaluate --report`.

`networks` and `scenes` say what is compared on what; `scores`, `seams`, `robustness` and
`activations` measure; `tables`, `figures`, `figures_maps` and `report` show.
"""
