from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import surrogate
from torch import Tensor, nn

from spikenm_compile import neurons
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import canonical, check_input, is_neuron, reset_states

NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS = 40, 2, 2048
CHANNELS = torch.linspace(0.3, 0.8, NUM_CHANNELS)

KINDS: dict[str, dict[str, Any]] = {
    "Leaky": {"beta": 0.9},
    "Synaptic": {"alpha": 0.8, "beta": 0.7},
    "Alpha": {"alpha": 0.85, "beta": 0.7},
    "Lapicque": {"R": 5.3, "C": 2.7, "time_step": 0.3, "threshold": 0.1},
    "RLeaky": {"beta": 0.8, "V": 0.3, "all_to_all": False},
    "RSynaptic": {"alpha": 0.7, "beta": 0.8, "V": -0.4, "all_to_all": False},
}
KNOWS_DELAY = ("Leaky", "Synaptic", "RLeaky")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "threshold": {"threshold": 0.37},
    "threshold-by-channel": {"threshold": CHANNELS},
    "learned-threshold": {"threshold": CHANNELS, "learn_threshold": True},
    "beta-by-channel": {"beta": CHANNELS},
    "learned-beta": {"beta": CHANNELS, "learn_beta": True},
    "beta-above-1": {"beta": 1.5},
    "whole-beta": {"beta": 1},
    "double-beta": {"beta": np.float64(0.9)},
    "alpha-by-channel": {"alpha": CHANNELS + 0.1, "beta": CHANNELS},
    "learned-alpha": {"alpha": CHANNELS + 0.1, "learn_alpha": True},
    "V-by-channel": {"V": CHANNELS},
    "no-delay": {"reset_delay": False},
    "graded": {"graded_spikes_factor": 0.3, "reset_delay": False},
    "graded-by-channel": {"graded_spikes_factor": CHANNELS, "learn_graded_spikes_factor": True, "reset_delay": False},
    "hidden": {"init_hidden": True},
    "hidden-output": {"init_hidden": True, "output": True},
    "output": {"output": True},
    "fast-sigmoid": {"spike_grad": surrogate.fast_sigmoid(slope=25)},
    "no-surrogate": {"surrogate_disable": True},
    "by-R": {"beta": 0.9, "R": 2, "C": False},
    "by-C": {"beta": 0.9, "R": False, "C": 2.7},
}


def applies(kind: str, option: str) -> bool:
    """Whether the class takes the option."""
    if option.startswith("graded"):
        return kind == "Leaky"
    if option == "no-delay":
        return kind in KNOWS_DELAY
    if option in ("by-R", "by-C"):
        return kind == "Lapicque"
    if option in ("V-by-channel",):
        return kind in ("RLeaky", "RSynaptic")
    if option == "learned-alpha":
        return kind in ("Synaptic", "RSynaptic")
    if option == "alpha-by-channel":
        return kind in ("Synaptic", "Alpha", "RSynaptic")
    if "beta" in option:  # Lapicque's decay is that of its R and C, Alpha's lies below alpha
        return kind not in ("Lapicque", "Alpha")
    return True


TABLE = [(kind, option) for kind in KINDS for option in OPTIONS if applies(kind, option)]


def make(kind: str, option: str, reset_mechanism: str) -> Any:
    return getattr(snn, kind)(**{**KINDS[kind], **OPTIONS[option], "reset_mechanism": reset_mechanism})


@torch.no_grad()
def run_library(node: Any, x: Tensor, states: tuple[str, ...]) -> tuple[Tensor, list[Tensor]]:
    """[T, B, C] spikes and the last states, states handed on by hand where the neuron wants that."""
    spikes, handed = [], ()
    for x_t in x:
        result = node(x_t) if node.init_hidden else node(x_t, *handed)
        parts = result if isinstance(result, tuple) else (result,)
        spikes.append(parts[0])
        handed = parts[len(parts) - len(states) :] if states[0] != "spk" else parts
    return torch.stack(spikes), [getattr(node, state) for state in states]


@pytest.mark.parametrize("reset_mechanism", ["subtract", "zero", "none"])
@pytest.mark.parametrize(("kind", "option"), TABLE)
def test_spikes_and_states_are_the_librarys(kind: str, option: str, reset_mechanism: str) -> None:
    node = make(kind, option, reset_mechanism)
    spec = canonical(node)
    x = torch.randn(NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS) + 0.3
    expected, expected_states = run_library(node, x, tuple(spec.states))
    assert 0.01 < expected.ne(0).float().mean() < 0.99
    states: Any = [torch.full_like(x[0], first) for first in spec.states.values()]
    actual = []
    for x_t in x:
        out, states = neurons.step(x_t, states, spec)
        actual.append(out)
    assert torch.equal(torch.stack(actual), expected)
    for name, state, wanted in zip(spec.states, states, expected_states, strict=True):
        assert torch.equal(state, wanted), name


@pytest.mark.parametrize("reset_mechanism", ["subtract", "zero", "none"])
def test_channels_behind_a_convolution(reset_mechanism: str) -> None:
    shape = (6, 1, 1)
    node = snn.Leaky(
        beta=torch.rand(shape), threshold=torch.rand(shape), reset_mechanism=reset_mechanism, reset_delay=False
    )
    spec = canonical(node)
    x = torch.randn(10, 2, 6, 5, 6) + 0.3
    check_input(node, tuple(x[0].shape))
    expected, (mem,) = run_library(node, x, ("mem",))
    states: Any = [torch.zeros_like(x[0])]
    for t, x_t in enumerate(x):
        out, states = neurons.step(x_t, states, spec)
        assert torch.equal(out, expected[t])
    assert torch.equal(states[0], mem)


def test_learned_values_are_those_of_now() -> None:
    node = snn.Leaky(beta=0.5, learn_beta=True, threshold=1.0, learn_threshold=True)
    with torch.no_grad():
        node.beta.fill_(0.75)
        node.threshold.fill_(2.0)
    assert dict(canonical(node).constants) == {"beta": 0.75, "threshold": 2.0}


def test_reset_mechanism_is_the_one_that_is_computed() -> None:
    late, at_once = (snn.Leaky(beta=0.5, reset_mechanism="zero", reset_delay=delay) for delay in (True, False))
    for node in (late, at_once):
        node.load_state_dict(snn.Leaky(beta=0.5, reset_mechanism="subtract").state_dict())
    assert canonical(late) == canonical(snn.Leaky(beta=0.5, reset_mechanism="zero"))
    with pytest.raises(CaptureError, match="a Leaky was built with one reset_mechanism and got another later"):
        canonical(at_once)


class Subclass(snn.Leaky):  # type: ignore[misc]
    """Could compute anything."""


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "SLSTM": (lambda: snn.SLSTM(4, 4), "SLSTM has no canonical neuron; Leaky, .*RSynaptic .*use one of these"),
    "SConv2dLSTM": (lambda: snn.SConv2dLSTM(2, 2, 3), "SConv2dLSTM has no canonical neuron"),
    "LeakyParallel": (lambda: snn.LeakyParallel(4, 4), "LeakyParallel has no canonical neuron"),
    "StateLeaky": (lambda: snn.StateLeaky(0.5, 4), "StateLeaky has no canonical neuron"),
    "DeltaLeaky": (lambda: snn.DeltaLeaky(beta=0.5), "DeltaLeaky has no canonical neuron"),
    "subclass": (lambda: Subclass(beta=0.5), "Subclass has no canonical neuron; .*no subclasses"),
    "state_quant": (
        lambda: snn.Leaky(beta=0.5, state_quant=torch.round),
        r"a Leaky quantises its state .*state_quant=False",
    ),
    "spike_grad": (
        lambda: snn.Leaky(beta=0.5, spike_grad=torch.sigmoid),
        "spike_grad of a Leaky gives other values .*snntorch.surrogate",
    ),
    "spike at the threshold": (
        lambda: snn.Leaky(beta=0.5, spike_grad=lambda x: (x >= 0).float()),
        "spike_grad of a Leaky gives other values",
    ),
    "AssociativeLeaky": (lambda: snn.AssociativeLeaky(4, 4, 4, 16), "AssociativeLeaky has no canonical neuron"),
    "LinearLeaky": (lambda: snn.LinearLeaky(0.5, 4, 4), "LinearLeaky has no canonical neuron"),
    "broken delay": (
        lambda: snn.RSynaptic(alpha=0.6, beta=0.5, all_to_all=False, reset_delay=False),
        "RSynaptic has reset_delay=False, which snnTorch 1.0 itself cannot compute",
    ),
    "parameter per neuron": (lambda: snn.Leaky(beta=torch.rand(3, 4, 4)), r"the beta of a Leaky has shape \[3, 4, 4\]"),
    "double parameter": (lambda: snn.Leaky(beta=torch.rand(3).double()), "the beta of a Leaky is torch.float64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_class_and_the_way_out(name: str) -> None:
    build, message = REFUSED[name]
    module = build()
    assert is_neuron(module)
    with pytest.raises(CaptureError, match=message) as caught:
        canonical(module)
    assert "\n" not in str(caught.value)


def test_inhibition_is_refused() -> None:
    with pytest.warns(UserWarning, match="unstable"):
        node = snn.Leaky(beta=0.5, inhibition=True)
    with pytest.raises(CaptureError, match="a Leaky has inhibition=True"):
        canonical(node)


@pytest.mark.parametrize(
    ("shape", "input_shape"), [((8,), (2, 8, 8, 8)), ((8, 1), (2, 8, 8, 8)), ((4, 1, 1), (2, 8, 8, 8)), ((3,), (2, 8))]
)
def test_parameters_that_are_not_by_channel(shape: tuple[int, ...], input_shape: tuple[int, ...]) -> None:
    node = snn.Leaky(beta=0.5, threshold=torch.rand(shape))
    with pytest.raises(CaptureError, match="does not stand for the channels"):
        check_input(node, input_shape)


@torch.no_grad()
def test_reset_states_resets_nested_neurons_and_deep_copies() -> None:
    model = nn.Sequential(*(nn.Sequential(make(kind, "hidden", "subtract")) for kind in KINDS))
    for block in model:
        block(torch.ones(2, 3))
    twin = copy.deepcopy(model)
    assert states_of(twin)
    assert any(state.any() for state in states_of(twin))
    reset_states(twin)
    assert not any(state.any() for state in states_of(twin))
    assert any(state.any() for state in states_of(model))


def states_of(model: nn.Module) -> list[Tensor]:
    return [m.get_buffer(name) for m in model.modules() for name in sorted(m._non_persistent_buffers_set)]
