"""The paper's tables and figures, and the questions it left open: `lai-train evaluate --report`.

`networks` and `scenes` say what is compared on what; `scores`, `seams`, `robustness`,
`activations`, `ten_metres` and `dates` measure and draw; `evaluate` and `real_imagery`
make chapters of it.
"""
