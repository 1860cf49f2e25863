"""Real products to training patches: find, read, mask, cut, label, divide, describe.

`prepare` runs all steps; `products` finds what a config names, `product` and `patches` work on one
of them, `split` divides, `assemble` writes the pool, `manifest` describes it, `pool` opens it.
"""
