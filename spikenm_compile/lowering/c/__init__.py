"""Lowered graph to portable C99: kernels, weights and entry functions, without TVM."""
