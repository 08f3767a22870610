"""What a network is made for: the shape of one sample, the number of classes and of time steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikenm_compile.errors import InputError


@dataclass(frozen=True, slots=True)
class Task:
    """A classification.

    Raises:
        InputError: a size below 1.
    """

    sample: tuple[int, ...]
    """Shape of one sample at one time step: [C, H, W], or [C]."""
    classes: int
    num_steps: int
    """T."""
    has_time: bool
    """Whether a sample comes as T steps, [T, *sample]; else each step sees the same [*sample]."""

    def __post_init__(self) -> None:
        if min(*self.sample, self.classes, self.num_steps) < 1:
            raise InputError(
                f"samples {list(self.sample)}, {self.classes} classes and {self.num_steps} time steps: every size must "
                "be 1 or more"
            )

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.sample[0]

    def image(self, network: str) -> tuple[int, int]:
        """Height and width.

        Raises:
            InputError: samples are not images.
        """
        if len(self.sample) != 3:
            raise InputError(
                f"network '{network}' takes images [C, H, W], and samples are {list(self.sample)}; use network 'mlp'"
            )
        return self.sample[1], self.sample[2]

    def example(self, batch: int) -> Tensor:
        """Random inputs 0..1 of a network for this task: [B, T, *sample] or [B, *sample]."""
        shape = (self.num_steps, *self.sample) if self.has_time else self.sample
        return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
