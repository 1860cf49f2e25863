"""Real products to training patches: find, read, mask, cut, label, describe, divide.

`prepare` runs all steps; `products` finds what a config names, `product` and `patches` work on one
of them, `manifest` describes the pool, `pool` divides and opens it.
"""
