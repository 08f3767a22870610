"""Which neuron the networks of this package spike with; every one of them takes these options."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spikenm_compile.errors import InputError
from spikenm_compile.neurons import IF, LIF, ParametricLIF

KINDS = ("if", "lif", "plif")


@dataclass(frozen=True, slots=True)
class NeuronOptions:
    """Neurons of a network.

    Raises:
        InputError: an unknown kind.
    """

    neuron: str = "lif"
    """`if`, `lif`, or `plif`: LIF whose time constant is learned, one per layer."""
    tau: float = 2.0
    """Time constant in steps; `plif` starts there."""
    decay_input: bool = False
    """Whether the input current leaks too."""
    v_threshold: float = 1.0
    alpha: float = 2.0
    """Width of the arctangent surrogate gradient."""

    def __post_init__(self) -> None:
        if self.neuron not in KINDS:
            raise InputError(f"neuron '{self.neuron}' is unknown; use {', '.join(KINDS)}")

    def __call__(self) -> nn.Module:
        """A fresh layer of neurons that takes [T, B, ...]."""
        if self.neuron == "if":
            return IF(v_threshold=self.v_threshold, alpha=self.alpha)
        leaky = LIF if self.neuron == "lif" else ParametricLIF
        return leaky(self.tau, decay_input=self.decay_input, v_threshold=self.v_threshold, alpha=self.alpha)
