"""Where work runs. `base.py` is the contract, `local.py` this process; a Ray engine is one more file.

Functions and workers are importable names (`package.module:attribute`), settings are JSON, data goes through files.
"""
