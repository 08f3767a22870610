"""Kernel families as TIR, one per file. A kernel knows shapes and layouts; widths come from the target's facts."""
