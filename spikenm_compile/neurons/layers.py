"""Layers of canonical neurons that train with a surrogate gradient, for networks written by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikenm_compile.equations import Evaluator
from spikenm_compile.errors import InputError
from spikenm_compile.neurons.canonical import Neuron, as_tensor, channel_tensors, input_tensors
from spikenm_compile.neurons.forms import integrate_and_fire, leaky, parametric_leaky
from spikenm_compile.neurons.fused_leaky import FusedLeaky, fused_leaky
from spikenm_compile.neurons.surrogate import SurrogateAlgebra


class SpikingNeuron(nn.Module):
    """A layer of canonical neurons with its own states, for hand-written networks.

    Args:
        neuron: the canonical neuron.
        alpha: width of the arctangent surrogate gradient.
        detach_reset: cut the gradient through the spikes that later equations read.
        step_mode: `"s"`: an input [B, ...] is one time step; `"m"`: an input [T, B, ...] is T of them.

    A call takes one tensor for each of `neuron.inputs`, all of one shape. The states live on from call to call until
    `reset()`, follow `.to()`, start at `neuron.states` and take the input's shape.
    """

    def __init__(
        self, neuron: Neuron, *, alpha: float = 2.0, detach_reset: bool = True, step_mode: Literal["s", "m"] = "m"
    ) -> None:
        super().__init__()
        if step_mode not in ("s", "m"):
            raise InputError(f"step_mode {step_mode!r} is unknown; use 's' (one step) or 'm' (T steps in dimension 0)")
        self.neuron = neuron
        self.alpha = alpha
        self.detach_reset = detach_reset
        self.step_mode = step_mode
        self.states: tuple[Tensor, ...] | None = None
        """In the order of `neuron.states`; None before the first step."""

    @property
    def v(self) -> Tensor | None:
        """The membrane potential: the state of that name."""
        return None if self.states is None else dict(zip(self.neuron.states, self.states, strict=True))["v"]

    def learned(self) -> Mapping[str, Tensor]:
        """Constants that are learned, as tensors with a gradient."""
        return {}

    def canonical(self) -> Neuron:
        """The neuron as it is now, learned values included."""
        learned = {name: float(value.detach()) for name, value in self.learned().items()}
        return dataclasses.replace(self.neuron, constants={**self.neuron.constants, **learned})

    def reset(self) -> None:
        """Forget the states."""
        self.states = None

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Input currents to spikes (or what the neuron emits), of the same shape."""
        if self.step_mode == "s":
            return self._step(x, *others)
        inputs = input_tensors(self.neuron, (x, *others)).values()
        fused = self._fused(x)
        if fused is not None:
            v = torch.full_like(x[0], fused.v_reset) if self.states is None else self.states[0]
            spikes, v = fused.spikes_of(x, v)
            self.states = (v,)
            return spikes
        return torch.stack([self._step(*at_t) for at_t in zip(*inputs, strict=True)])

    def _fused(self, x: Tensor) -> FusedLeaky | None:
        """The quicker way for currents x [T, ...], where there is one; a compiler fuses the equations by itself."""
        if torch.compiler.is_compiling() or not self.detach_reset or len(x) == 0:
            return None
        state = None if self.states is None else self.states[0]
        fits = state is None or (state.shape, state.dtype) == (x.shape[1:], x.dtype)
        return fused_leaky(self.neuron, self.alpha) if fits and not self.learned() else None

    def _step(self, *currents: Tensor) -> Tensor:
        neuron = self.neuron
        values: dict[str, Tensor | float] = {**input_tensors(neuron, currents), **neuron.scalars}
        out = currents[0]
        states = self.states or tuple(torch.full_like(out, first) for first in neuron.states.values())
        values.update(channel_tensors(neuron, out))
        values.update(self.learned())
        values.update(zip(neuron.states, states, strict=True))
        evaluate = Evaluator(SurrogateAlgebra(self.alpha))
        for equation in neuron.parsed:
            value = values[equation.name] = evaluate(equation.expression, values)
            if equation.name == neuron.output:
                out = as_tensor(value)
                if self.detach_reset and neuron.levels is not None:
                    values[equation.name] = out.detach()
        self.states = tuple(as_tensor(values[name]) for name in neuron.states)
        return out

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SpikingNeuron:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.states is not None:
            self.states = tuple(fn(state) for state in self.states)
        return self

    def extra_repr(self) -> str:
        """The equations, for print(model)."""
        return f"{self.neuron}, step_mode={self.step_mode}"


class IF(SpikingNeuron):
    """Integrate and fire: h = v + x."""

    def __init__(self, *, v_threshold: float = 1.0, v_reset: float | None = 0.0, **options: Any) -> None:
        super().__init__(integrate_and_fire(v_threshold=v_threshold, v_reset=v_reset), **options)


class LIF(SpikingNeuron):
    """Leaky integrate and fire with time constant `tau` in steps.

    `decay_input=True`: h = v + (x - (v - v_rest)) / τ, else h = v - (v - v_rest) / τ + x.
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        **options: Any,
    ) -> None:
        if not tau > 1.0:
            raise InputError(f"LIF time constant tau={tau} would not leak; use tau > 1 (in time steps), or IF")
        super().__init__(leaky(tau, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset), **options)


class ParametricLIF(SpikingNeuron):
    """LIF whose decay q = sigmoid(w) is learned, one w per layer, from q = 1 / init_tau on (Fang et al., ICCV 2021)."""

    def __init__(
        self,
        init_tau: float = 2.0,
        *,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        **options: Any,
    ) -> None:
        if not init_tau > 1.0:
            raise InputError(
                f"ParametricLIF init_tau={init_tau} has no decay in (0, 1); use init_tau > 1 (in time steps)"
            )
        decay = 1.0 / init_tau
        neuron = parametric_leaky(decay, decay_input=decay_input, v_threshold=v_threshold, v_reset=v_reset)
        super().__init__(neuron, **options)
        self.w = nn.Parameter(torch.tensor(-math.log(init_tau - 1.0)))

    def learned(self) -> dict[str, Tensor]:
        """Decay q = sigmoid(w)."""
        return {"decay": self.w.sigmoid()}
