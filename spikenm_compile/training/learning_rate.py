"""The learning rate as a pure function of the step, so that a checkpoint needs no scheduler.

    warmup    (s + 1) / (w + 1)                       s < w
    cosine    (1 + cos(π · (s - w) / (S - w))) / 2    SGDR without restarts (Loshchilov & Hutter, ICLR 2017, eq. 5)
    constant  1

s is the step, 0 for the first one; S is the number of steps and w the number of warm-up steps.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer

from spikenm_compile.training.settings import Settings


def lr_factor(settings: Settings, step: int, total_steps: int) -> float:
    """Share of `settings.lr` at `step`."""
    if step < settings.warmup:
        return (step + 1) / (settings.warmup + 1)
    if settings.lr_schedule == "constant":
        return 1.0
    return (1.0 + math.cos(math.pi * (step - settings.warmup) / max(1, total_steps - settings.warmup))) / 2.0


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give all parameters of `optimizer` this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
