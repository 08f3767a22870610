"""Images to spike trains. x is the intensity in 0..1.

direct    s_t = x                                the first layer makes the spikes
rate      s_t ~ Bernoulli(x)                     independent in each step
latency   s_t = [t = round((T - 1)(1 - x))]      brighter is earlier; black stays silent
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spikenm_compile.errors import InputError


def direct(x: Tensor, num_steps: int) -> Tensor:
    """[...] repeated to [T, ...]; a view, do not write into it."""
    return x.expand(_checked(num_steps), *x.shape)


def rate(x: Tensor, num_steps: int, seeds: Sequence[int]) -> Tensor:
    """Spikes [T, B, ...] of a batch [B, ...] in 0..1; the noise of a sample depends on its seed and shape alone.

    Args:
        x: intensities; above 1 counts as 1, below 0 as 0.
        num_steps: T.
        seeds: one per sample; `sample_seed` makes them.

    Raises:
        InputError: fewer or more seeds than samples, or T below 1.
    """
    if len(seeds) != len(x):
        raise InputError(f"{len(seeds)} seeds for {len(x)} samples; one seed per sample is needed; use sample_seed")
    shape = (_checked(num_steps), *x.shape[1:])
    noise = [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    uniform = torch.stack(noise, 1) if noise else torch.empty(num_steps, *x.shape)
    return (uniform.to(x.device) < x).to(x.dtype)


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of a sample's noise, another one in each epoch; arguments are 0 or more."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0])


def latency(x: Tensor, num_steps: int) -> Tensor:
    """One spike [T, ...] of each intensity [...] above 0, the earlier the brighter; above 1 counts as 1.

    Raises:
        InputError: T below 1.
    """
    first = torch.round((_checked(num_steps) - 1) * (1 - x.clamp(0, 1)))
    steps = torch.arange(num_steps, device=x.device).view(-1, *[1] * x.dim())
    return ((steps == first) & (x > 0)).to(x.dtype)


def _checked(num_steps: int) -> int:
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}; 1 or more steps are supported; choose a larger number")
    return num_steps
