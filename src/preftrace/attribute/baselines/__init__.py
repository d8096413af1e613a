"""Baselines, one file each: simple scores of the pairs that influence has to beat. `score(given) -> (n, Q)`.

The sign is influence's: above 0 the pair helps trust. None of them differentiates anything.
"""
