"""What layers with weights read while a step graph runs on samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile.graph import PER_STEP, run_steps, the_input
from spikenm_compile.ops import IntConv2d

MOST_SAMPLES = 8
"""Samples that are run at most: a share over all positions and steps of so many hardly changes with more."""

Observe = Callable[[IntConv2d, Tensor], None]
"""Called with a layer and the levels [B, I, H, W] that it reads, at each step in order (once, before the steps)."""


def observe_inputs(lowered: GraphModule, samples: Tensor, observe: Observe) -> None:
    """Run a lowered graph, and show what its layers read.

    Args:
        lowered: the lowered graph; `meta["num_steps"]` is T where the samples do not say it.
        samples: [T, B, ...] where the input changes with time, else [B, ...]; the first `MOST_SAMPLES` are run.
        observe: gets the levels.
    """
    per_step = the_input(lowered).meta[PER_STEP]
    few = samples[:, :MOST_SAMPLES] if per_step else samples[:MOST_SAMPLES]

    def hook(conv: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, IntConv2d)
        observe(conv, arguments[0])

    hooks = [m.register_forward_pre_hook(hook) for m in lowered.modules() if isinstance(m, IntConv2d)]
    try:
        with torch.no_grad():
            run_steps(lowered, few, None if per_step else lowered.meta["num_steps"])
    finally:
        for handle in hooks:
            handle.remove()
