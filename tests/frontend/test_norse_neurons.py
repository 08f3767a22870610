from __future__ import annotations

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import torch
from norse.torch import LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
from norse.torch.module.snn import SNN
from torch import Tensor, nn

from spikenm_compile import neurons
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import canonical, check_input, is_neuron

NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS = 40, 2, 2048
CHANNELS = torch.linspace(0.3, 0.8, NUM_CHANNELS)


def t(value: float) -> Tensor:
    return torch.as_tensor(value)


SLOW = {"tau_mem_inv": t(73.0), "tau_syn_inv": t(137.0)}
SHIFTED = {"v_leak": t(-0.1), "v_th": t(0.37), "v_reset": t(-0.3)}
BY_CHANNEL = {"tau_mem_inv": 200 * CHANNELS, "v_th": CHANNELS}

CASES: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "LIFCell": (lambda: norse.LIFCell(), 0.7),
    "LIFCell-slow": (lambda: norse.LIFCell(norse.LIFParameters(**SLOW)), 0.7),
    "LIFCell-shifted": (lambda: norse.LIFCell(norse.LIFParameters(**SHIFTED)), 0.5),
    "LIFCell-dt": (lambda: norse.LIFCell(norse.LIFParameters(**SLOW), dt=0.0017), 0.7),
    "LIFCell-numbers": (lambda: norse.LIFCell(norse.LIFParameters(v_th=0.5, tau_mem_inv=130)), 0.7),
    "LIFCell-by-channel": (lambda: norse.LIFCell(norse.LIFParameters(**BY_CHANNEL)), 0.4),
    "LIFCell-learned": (
        lambda: norse.LIFCell(norse.LIFParameters(tau_mem_inv=nn.Parameter(t(91.0)), v_th=nn.Parameter(t(0.6)))),
        0.7,
    ),
    "LIFCell-tanh": (lambda: norse.LIFCell(norse.LIFParameters(method="tanh")), 0.7),
    "LIF": (lambda: norse.LIF(norse.LIFParameters(**SLOW, **SHIFTED)), 0.5),
    "LIFBoxCell": (lambda: norse.LIFBoxCell(), 3.0),
    "LIFBoxCell-soft": (lambda: norse.LIFBoxCell(LIFBoxParameters(reset_method=reset_subtract, **SHIFTED)), 3.0),
    "LIFBoxCell-shifted": (lambda: norse.LIFBoxCell(LIFBoxParameters(**SHIFTED)), 2.0),
    "IAFCell": (lambda: norse.IAFCell(), 0.5),
    "IAF": (lambda: norse.IAF(norse.IAFParameters(v_th=t(0.7), v_reset=t(-0.2))), 0.5),
    "LICell": (lambda: norse.LICell(norse.LIParameters(v_leak=t(-0.3), **SLOW)), 0.5),
    "LI": (lambda: norse.LI(), 0.5),
    "LIBoxCell": (lambda: norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=t(77.0), v_leak=t(0.2))), 0.5),
    "LIFRefracCell": (lambda: norse.LIFRefracCell(), 1.0),
    "LIFRefracCell-3": (
        lambda: norse.LIFRefracCell(norse.LIFRefracParameters(norse.LIFParameters(**SHIFTED), rho_reset=t(2.5))),
        0.8,
    ),
    "LIFExCell": (lambda: norse.LIFExCell(norse.LIFExParameters(delta_T=t(0.3))), 0.5),
    "LIFEx": (lambda: norse.LIFEx(), 0.5),
    "LIFAdExCell": (lambda: norse.LIFAdExCell(), 0.5),
    "LIFAdEx": (lambda: norse.LIFAdEx(norse.LIFAdExParameters(**SLOW, adaptation_spike=t(0.11))), 0.7),
    "LSNNCell": (lambda: norse.LSNNCell(norse.LSNNParameters(v_th=t(0.4), beta=t(0.17), tau_adapt_inv=t(21.0))), 0.7),
    "LSNNCell-adjoint": (lambda: norse.LSNNCell(adjoint=True), 1.0),
    "LSNN": (lambda: norse.LSNN(norse.LSNNParameters(**SLOW, tau_adapt_inv=t(9.0))), 0.7),
}
"""Name -> (makes the module, scale of a random input that makes it spike)."""


def flat(state: Any) -> list[Tensor]:
    return [leaf for field in state for leaf in (field if isinstance(field, tuple) else (field,))]


def run_library(module: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    if isinstance(module, SNN):
        out, state = module(x)
        return out, flat(state)
    outputs, state = [], None
    for x_t in x:
        out, state = module(x_t, state)
        outputs.append(out)
    return torch.stack(outputs), flat(state)


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_equations_give_the_spikes_and_states_of_norse(case: str) -> None:
    make, scale = CASES[case]
    module = make()
    assert is_neuron(module)
    torch.manual_seed(0)
    x = torch.randn(NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS) * scale + 0.3 * scale
    expected, expected_states = run_library(module, x)
    check_input(module, (NUM_SAMPLES, NUM_CHANNELS))
    neuron = canonical(module)
    states = tuple(torch.full_like(x[0], value) for value in neuron.states.values())
    outputs = []
    for x_t in x:
        out, states = neurons.step(x_t, states, neuron)
        outputs.append(out)
    assert torch.equal(torch.stack(outputs), expected)
    assert len(states) == len(expected_states)
    assert all(torch.equal(a, e) for a, e in zip(states, expected_states, strict=True))
    if neuron.levels is not None:
        assert 0.01 < float(expected.mean()) < 0.9
    assert neuron.is_exact is not ("Ex" in case)


class Subclass(norse.LIFCell):  # type: ignore[misc]
    """Starts somewhere else."""


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "recurrent-cell": (
        lambda: norse.LIFMCRecurrentCell(4, 4),
        "LIFMCRecurrentCell has no canonical neuron",
    ),
    "recurrent-adjoint": (
        lambda: norse.LIFRecurrent(4, 4, norse.LIFParameters(method="adjoint")),
        "LIFRecurrent has no canonical neuron; .* not with method='adjoint'",
    ),
    "LILinearCell": (lambda: norse.LILinearCell(4, 4), "followed by LICell"),
    "izhikevich": (lambda: norse.IzhikevichCell(norse.tonic_spiking), "IzhikevichCell has no canonical neuron"),
    "record-states": (lambda: norse.LIF(record_states=True), "record_states=False"),
    "subclass": (lambda: Subclass(), "no subclasses"),
    "own-reset": (
        lambda: norse.LIFBoxCell(LIFBoxParameters(reset_method=lambda z, v, reset, th: v * (1 - z))),
        "reset_value, reset_subtract",
    ),
    "leak-by-channel": (lambda: norse.LIFCell(norse.LIFParameters(v_leak=CHANNELS)), "a state starts at one number"),
    "broken-in-norse": (lambda: norse.LIFCell(norse.LIFParameters(method="adjoint")), "has no canonical neuron"),
    "double": (lambda: norse.LIFCell(norse.LIFParameters(v_th=CHANNELS.double())), "float64"),
    "matrix": (lambda: norse.LIFCell(norse.LIFParameters(v_th=torch.rand(3, 4))), r"shape \[3, 4\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused_in_a_sentence(case: str) -> None:
    make, message = REFUSED[case]
    module = make()
    assert is_neuron(module)
    with pytest.raises(CaptureError, match=message):
        canonical(module)


def test_channels_must_be_dimension_1() -> None:
    cell = norse.LIFCell(norse.LIFParameters(v_th=torch.rand(4)))
    check_input(cell, (2, 4))
    with pytest.raises(CaptureError, match=r"give it the shape \[4, 1, 1\]"):
        check_input(cell, (2, 4, 4, 4))
    with pytest.raises(CaptureError, match=r"give it the shape \[1, 1, 1\]"):
        check_input(cell, (2, 1, 4, 4))
    check_input(norse.LIFCell(norse.LIFParameters(v_th=torch.rand(4, 1, 1))), (2, 4, 4, 4))
    with pytest.raises(CaptureError, match=r"give it the shape \[3, 1, 1\]"):
        check_input(norse.LIFCell(norse.LIFParameters(v_th=torch.rand(4, 1, 1))), (2, 3, 4, 4))
