"""Measure the kernels that could compute each layer on this machine, and keep a log of them that `build` reads."""
