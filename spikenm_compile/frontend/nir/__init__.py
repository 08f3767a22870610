"""NIR, the Neuromorphic Intermediate Representation (Pedersen et al., 2024): graphs that libraries exchange.

`spikenm_compile.nir` is the door. A NIR graph holds continuous-time neurons without the time step and without the
kind of reset that its writer simulated; `producers` knows what each library means by its numbers.
"""
