"""The embedded study: original pairs and items written for preftrace, and its study.yaml."""
