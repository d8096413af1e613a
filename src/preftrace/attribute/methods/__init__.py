"""Influence methods, one file each: pure functions of the queries' and the pairs' gradients.

`invert(block, damping) -> Inverse` gives H^-1 grad M on the rows of a store. `combine(dots, damping) -> Combination`
gives it as a combination of the query's and the pairs' gradients, so that the streaming passes never hold a gradient;
methods that have no `combine` need the store.
"""
