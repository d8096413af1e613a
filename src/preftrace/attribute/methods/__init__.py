"""Influence methods, one file each: `combine(dots) -> Combination`, a pure function of the first pass's numbers.

A method approximates H^-1 grad M as a combination of the query's and the pairs' gradients, so that no method ever
holds a gradient: the passes form the sums.
"""
