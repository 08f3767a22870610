from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from sinabs.layers.alif import ALIFSqueeze
from torch import Tensor, nn

from spikenm_compile import neurons
from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import canonical, check_input, is_neuron, reset_states

NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS = 40, 2, 2048
CHANNELS = torch.linspace(0.3, 0.8, NUM_CHANNELS)
STRONG, WEAK = 1.0, 0.3

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "synapse": {"tau_syn": 3.7},
    "threshold": {"spike_threshold": torch.tensor(0.37)},
    "threshold-by-channel": {"spike_threshold": CHANNELS},
    "single": {"spike_fn": sina.SingleSpike},
    "multi": {"spike_fn": sina.MultiSpike},
    "max-3": {"spike_fn": sina.MaxSpike(3)},
    "max-1": {"spike_fn": sina.MaxSpike(1)},
    "max-none": {"spike_fn": sina.MaxSpike()},
    "subtract-value": {"reset_fn": sina.MembraneSubtract(0.6)},
    "reset": {"reset_fn": sina.MembraneReset()},
    "reset-value": {"reset_fn": sina.MembraneReset(-0.1), "spike_fn": sina.SingleSpike},
    "floor": {"min_v_mem": -0.5},
    "all": {"tau_syn": 2.0, "min_v_mem": -0.3, "spike_fn": sina.MaxSpike(2), "reset_fn": sina.MembraneReset(0.07)},
}
LEAKY: dict[str, dict[str, Any]] = {
    "not-normed": {"norm_input": False},
    "tau-by-channel": {"tau_mem": 10 * CHANNELS},
    "trained": {"train_alphas": True, "tau_syn": 3.0},
}
SYNAPSE_BY_CHANNEL = {"synapse-by-channel": {"tau_syn": 10 * CHANNELS, "tau_mem": 20 * CHANNELS}}  # no ALIF takes it

KINDS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], dict[str, dict[str, Any]]]] = {
    "IAF": (sl.IAF, {}, OPTIONS),
    "LIF": (sl.LIF, {"tau_mem": 5.3}, {**OPTIONS, **LEAKY, **SYNAPSE_BY_CHANNEL}),
    "ALIF": (sl.ALIF, {"tau_mem": 5.3, "tau_adapt": 9.1, "adapt_scale": 0.7}, {**OPTIONS, **LEAKY}),
    "ExpLeak": (
        sl.ExpLeak,
        {"tau_mem": 5.3},
        {"plain": {}, "normed": {"norm_input": True}, "floor": {"min_v_mem": -0.2}, "by": LEAKY["tau-by-channel"]},
    ),
}
TABLE = [(kind, option) for kind, (_, _, options) in KINDS.items() for option in options]


def make(kind: str, option: str) -> Any:
    cls, required, options = KINDS[kind]
    return cls(**{**required, **options[option]})


@torch.no_grad()
@pytest.mark.parametrize(("kind", "option"), TABLE)
def test_equations_give_the_spikes_and_states_of_sinabs(kind: str, option: str) -> None:
    module = make(kind, option)
    assert is_neuron(module)
    scale = 4.0 if kind in ("LIF", "ALIF") else 1.0  # norm_input takes most of it away
    torch.manual_seed(0)
    x = (torch.randn(NUM_STEPS, NUM_SAMPLES, NUM_CHANNELS) + 0.3) * scale
    expected: Tensor = module(x.transpose(0, 1)).transpose(0, 1)
    check_input(module, (NUM_SAMPLES, NUM_CHANNELS))
    neuron = canonical(module)
    states = tuple(torch.full_like(x[0], value) for value in neuron.states.values())
    outputs = []
    for x_t in x:
        out, states = neurons.step(x_t, states, neuron)
        outputs.append(out)
    actual = torch.stack(outputs)
    assert torch.equal(actual, expected)
    assert neuron.is_exact
    named = dict(zip(neuron.states, states, strict=True))
    assert torch.equal(named["v"], module.v_mem)
    if kind == "ALIF":
        assert torch.equal(named["b"], module.b)
    elif "i" in named:
        assert torch.equal(named["i"], module.i_syn)
    assert ("i" in named) is ("tau_syn" in {**KINDS[kind][2][option]})
    if neuron.levels is not None:
        assert expected.any()
        assert float(expected.max()) <= neuron.levels.high


def test_spikes_beyond_the_bound_stay_in_the_potential() -> None:
    neuron = canonical(sl.IAF())
    x = torch.tensor([[300.5]])
    spikes, (v,) = neurons.step(x, [torch.zeros(1, 1)], neuron)
    assert (float(spikes), float(v)) == (63.0, 237.5)


def test_squeeze_layers_have_the_same_equations() -> None:
    assert canonical(sl.LIFSqueeze(tau_mem=7.0, batch_size=2)) == canonical(sl.LIF(tau_mem=7.0))
    assert canonical(sl.IAFSqueeze(num_timesteps=2)) == canonical(sl.IAF())
    assert canonical(ALIFSqueeze(tau_mem=7.0, tau_adapt=3.0, batch_size=2)) == canonical(sl.ALIF(7.0, 3.0))
    assert canonical(sl.ExpLeakSqueeze(tau_mem=7.0, batch_size=2)) == canonical(sl.ExpLeak(7.0))


def test_learned_time_constants_are_taken_as_they_are() -> None:
    layer = sl.LIF(tau_mem=7.0)
    before = canonical(layer)
    with torch.no_grad():
        layer.tau_mem.fill_(3.0)
    assert canonical(layer) == canonical(sl.LIF(tau_mem=3.0)) != before


def test_reset_forgets_every_state() -> None:
    layer = sl.LIF(tau_mem=7.0, tau_syn=2.0)
    layer(torch.rand(2, 3, 4))
    assert layer.v_mem.any()
    reset_states(nn.Sequential(layer))
    assert not layer.v_mem.any()
    assert not layer.i_syn.any()


class Subclass(sl.LIF):  # type: ignore[misc]
    """May compute anything."""


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "subclass": (lambda: Subclass(5.0), "no subclasses"),
    "spike-function": (lambda: sl.IAF(spike_fn=torch.nn.functional.relu), "spike_fn of a IAF is relu"),
    "reset-function": (lambda: sl.IAF(reset_fn=lambda spikes, state, threshold: state), "reset_fn of a IAF"),
    "threshold": (lambda: sl.IAF(spike_threshold=torch.tensor(0.0)), "threshold of 0"),
    "falling-threshold": (lambda: sl.ALIF(5.0, 5.0, adapt_scale=-1.0, spike_fn=sina.MultiSpike), "adapts by -1"),
    "matrix": (lambda: sl.LIF(tau_mem=torch.rand(3, 4)), r"shape \[3, 4\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused_in_a_sentence(case: str) -> None:
    build, message = REFUSED[case]
    module = build()
    assert is_neuron(module)
    with pytest.raises(CaptureError, match=message):
        canonical(module)


def test_channels_must_be_dimension_1() -> None:
    layer = sl.LIF(tau_mem=torch.tensor([5.0, 6.0]))
    check_input(layer, (3, 2))
    with pytest.raises(CaptureError, match=r"alpha_mem of a LIF.*\[2, 1, 1\]"):
        check_input(layer, (3, 2, 2, 2))
    check_input(sl.LIF(tau_mem=torch.rand(2, 1, 1)), (3, 2, 2, 2))
