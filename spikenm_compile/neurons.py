"""The canonical spiking neuron: one step is charge, fire, reset.

    h = charge(x, v)            membrane potential after the input current x
    s = 1 if h >= v_threshold   (or h > v_threshold)
    v = s·v_reset + (1 - s)·h   hard reset,   or   v = h - s·v_threshold   soft reset

Symbols: x input current, v membrane potential before and after the step, h membrane potential at fire, s spikes (0 or
1), τ time constant in steps, q decay per step, v_rest = v_reset (hard) or 0 (soft). A charge is one of a closed list of
*expressions*, not a set of coefficients: algebraically equal forms differ in float32 in 20-72 % of final potentials,
so that the order of operations is part of what a neuron is. The forms follow SpikingJelly 2.0
(activation_based.neuron).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from spikenm_compile.errors import InputError


class Charge(Enum):
    """How the input current enters the membrane potential; the value is the expression in evaluation order."""

    INTEGRATE = "v + x"
    DECAY_INPUT_DIV = "v + (x - (v - v_rest)) / c"
    DECAY_DIV = "(v - (v - v_rest) / c) + x"
    DECAY_INPUT_MUL = "v + (x - (v - v_rest)) * c"
    DECAY_MUL = "(v - (v - v_rest) * c) + x"


class Fire(Enum):
    """Comparison of the membrane potential with the threshold."""

    AT_LEAST = ">="
    ABOVE = ">"


@dataclass(frozen=True, slots=True)
class Neuron:
    """A canonical neuron. All potentials are in the unit of the weights' output current; time is in steps."""

    charge: Charge
    """Expression of the charge."""
    coefficient: float = 1.0
    """c in the charge: τ for the *_DIV forms, q for the *_MUL forms, unused for INTEGRATE."""
    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    """Potential after a spike (hard reset), or None: subtract the threshold (soft reset)."""
    fire: Fire = Fire.AT_LEAST

    @property
    def v_rest(self) -> float:
        """Potential that the leak pulls to; also the initial potential."""
        return 0.0 if self.v_reset is None else self.v_reset

    def __str__(self) -> str:
        charge = self.charge.value.replace("c", f"{self.coefficient:.9g}").replace("v_rest", f"{self.v_rest:.9g}")
        after = "soft" if self.v_reset is None else f"hard {self.v_reset:.9g}"
        return f"h = {charge}; spike h {self.fire.value} {self.v_threshold:.9g}; reset {after}"


def charge(x: Tensor, v: Tensor, neuron: Neuron, coefficient: float | Tensor | None = None) -> Tensor:
    """Membrane potential h after input current x; same shape as x and v.

    `coefficient` overrides the neuron's own, for a learned decay that needs a gradient.
    """
    c = neuron.coefficient if coefficient is None else coefficient
    rest = neuron.v_rest
    if neuron.charge is Charge.INTEGRATE:
        return v + x
    if neuron.charge is Charge.DECAY_INPUT_DIV:
        return v + (x - (v - rest)) / c
    if neuron.charge is Charge.DECAY_DIV:
        return v - (v - rest) / c + x
    if neuron.charge is Charge.DECAY_INPUT_MUL:
        return v + (x - (v - rest)) * c
    return v - (v - rest) * c + x


def fire(h: Tensor, neuron: Neuron) -> Tensor:
    """Spikes as 0.0 and 1.0 in the dtype of h. No gradient: `ATan` gives one in training."""
    distance = h - neuron.v_threshold
    return (distance >= 0 if neuron.fire is Fire.AT_LEAST else distance > 0).to(h)


def reset(h: Tensor, s: Tensor, neuron: Neuron) -> Tensor:
    """Membrane potential after the spikes s."""
    if neuron.v_reset is None:
        return h - s * neuron.v_threshold
    return s * neuron.v_reset + (1.0 - s) * h


def step(x: Tensor, v: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """One time step of inference: input current and membrane potential to (spikes, membrane potential)."""
    h = charge(x, v, neuron)
    s = fire(h, neuron)
    return s, reset(h, s, neuron)


class ATan(torch.autograd.Function):
    """Heaviside forward; backward α / 2 / (1 + (π/2·α·x)²), the arctangent surrogate of Fang et al., ICCV 2021."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, alpha: float, strict: bool) -> Tensor:
        """Spikes from the distance to the threshold."""
        ctx.save_for_backward(distance)
        ctx.alpha = alpha
        return (distance > 0 if strict else distance >= 0).to(distance)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the surrogate."""
        (distance,) = ctx.saved_tensors
        alpha: float = ctx.alpha
        return grad[0] * (alpha / 2 / (1 + (math.pi / 2 * alpha * distance) ** 2)), None, None


class SpikingNeuron(nn.Module):
    """A layer of canonical neurons with its own membrane potential, for hand-written networks.

    Args:
        neuron: the canonical neuron.
        alpha: width of the arctangent surrogate gradient.
        detach_reset: cut the gradient through the reset.
        step_mode: `"s"`: an input [B, ...] is one time step; `"m"`: an input [T, B, ...] is T of them.

    The potential lives on from call to call until `reset()`; it starts at `v_rest` and takes the input's shape.
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
        self.v: Tensor | None = None

    def coefficient(self) -> float | Tensor:
        """Coefficient of the charge; a tensor where it is learned."""
        return self.neuron.coefficient

    def canonical(self) -> Neuron:
        """The neuron as it is now, learned values included."""
        return self.neuron

    def reset(self) -> None:
        """Forget the membrane potential."""
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        """Input current to spikes, of the same shape."""
        if self.step_mode == "s":
            return self._step(x)
        return torch.stack([self._step(x_t) for x_t in x])

    def _step(self, x: Tensor) -> Tensor:
        v = torch.full_like(x, self.neuron.v_rest) if self.v is None else self.v
        h = charge(x, v, self.neuron, self.coefficient())
        s = cast("Tensor", ATan.apply(h - self.neuron.v_threshold, self.alpha, self.neuron.fire is Fire.ABOVE))  # type: ignore[no-untyped-call]
        self.v = reset(h, s.detach() if self.detach_reset else s, self.neuron)
        return s

    def extra_repr(self) -> str:
        """The equations, for print(model)."""
        return f"{self.neuron}, step_mode={self.step_mode}"


class IF(SpikingNeuron):
    """Integrate and fire: h = v + x."""

    def __init__(self, *, v_threshold: float = 1.0, v_reset: float | None = 0.0, **options: Any) -> None:
        super().__init__(Neuron(Charge.INTEGRATE, v_threshold=v_threshold, v_reset=v_reset), **options)


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
        form = Charge.DECAY_INPUT_DIV if decay_input else Charge.DECAY_DIV
        super().__init__(Neuron(form, tau, v_threshold, v_reset), **options)


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
        form = Charge.DECAY_INPUT_MUL if decay_input else Charge.DECAY_MUL
        super().__init__(Neuron(form, 1.0 / init_tau, v_threshold, v_reset), **options)
        self.w = nn.Parameter(torch.tensor(-math.log(init_tau - 1.0)))

    def coefficient(self) -> Tensor:
        """Q = sigmoid(w)."""
        return self.w.sigmoid()

    def canonical(self) -> Neuron:
        """The neuron with the decay as learned so far."""
        n = self.neuron
        return Neuron(n.charge, float(self.w.detach().sigmoid()), n.v_threshold, n.v_reset, n.fire)
