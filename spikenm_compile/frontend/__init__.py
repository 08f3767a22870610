"""Capture: an `nn.Module` of any supported library to a captured graph, and that to a step graph."""
