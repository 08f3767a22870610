"""Neurons that are written inside of a model's forward: found in the captured graph and made canonical neurons."""
