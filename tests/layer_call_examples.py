"""Calls of layers for tests of costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spikenm_compile.costs.layer_call import LayerCall
from spikenm_compile.pattern import Pattern

CALL = LayerCall(
    outputs=128,
    channels=64,
    groups=1,
    size=(8, 8),
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1),
    dilation=(1, 1),
    pattern=Pattern(2, 4),
    largest_weight=127,
    fits_int16=True,
    levels="spikes",
    is_binary=True,
    density=0.125,
    num_steps=4,
    neuron="lif",
    num_states=1,
)


def call(pattern: str = "2:4", **changes: Any) -> LayerCall:
    """A layer like `CALL`."""
    return replace(CALL, pattern=Pattern.parse(pattern), **changes)
