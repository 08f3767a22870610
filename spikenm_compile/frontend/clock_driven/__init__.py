"""The names of SpikingJelly's former package `clock_driven`, on SpikingJelly 2.0, for model files written for it."""
