"""The verticals inside other harnesses: lm-eval and Inspect ask the same items and judge with the same code."""
