"""Rewrites of a step graph, one per file; `pipelines.py` has their order on one screen."""
