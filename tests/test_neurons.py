from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from spikingjelly.activation_based import neuron as jelly
from spikingjelly.activation_based import surrogate
from torch import Tensor

from spikenm_compile import neurons
from spikenm_compile.errors import CaptureError, InputError
from spikenm_compile.frontend.adapters import canonical
from spikenm_compile.neurons import IF, LIF, ATan, ParametricLIF, SpikingNeuron, integrate_and_fire, leaky

NUM_STEPS, NUM_NEURONS = 40, 4096
TAU = 2.7  # not a power of two: division and multiplication by 1/τ differ

KINDS: dict[str, tuple[Callable[..., SpikingNeuron], str, dict[str, Any], dict[str, Any]]] = {
    "IF": (IF, "IFNode", {}, {}),
    **{
        f"LIF-{decay}": (LIF, "LIFNode", {"tau": TAU, "decay_input": decay}, {"tau": TAU, "decay_input": decay})
        for decay in (True, False)
    },
    **{
        f"ParametricLIF-{decay}": (
            ParametricLIF,
            "ParametricLIFNode",
            {"init_tau": TAU, "decay_input": decay},
            {"init_tau": TAU, "decay_input": decay},
        )
        for decay in (True, False)
    },
}
RESETS = {"hard-0": 0.0, "hard-0.1": -0.1, "soft": None}


def pair(kind: str, reset: str, step_mode: Literal["s", "m"]) -> tuple[SpikingNeuron, Any]:
    """Our module and SpikingJelly's with the same parameters."""
    ours, theirs, our_options, their_options = KINDS[kind]
    v_reset = RESETS[reset]
    one = ours(v_threshold=0.7, v_reset=v_reset, step_mode=step_mode, **our_options)
    other = getattr(jelly, theirs)(
        v_threshold=0.7,
        v_reset=v_reset,
        step_mode=step_mode,
        surrogate_function=surrogate.ATan(alpha=2.0),
        detach_reset=True,
        **their_options,
    )
    return one, other


def run(module: Any, x: Tensor) -> Tensor:
    """[T, N] spikes, in the module's step mode."""
    spikes: Tensor = module(x) if module.step_mode == "m" else torch.stack([module(x_t) for x_t in x])
    return spikes


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", KINDS)
class TestAgainstSpikingJelly:
    def test_spikes_and_potentials_are_equal(self, kind: str, reset: str, step_mode: Literal["s", "m"]) -> None:
        torch.manual_seed(0)
        x = torch.randn(NUM_STEPS, NUM_NEURONS) + 0.5
        ours, theirs = pair(kind, reset, step_mode)
        with torch.no_grad():
            actual, expected = run(ours, x), run(theirs, x)
        assert 0.05 < expected.mean() < 0.95
        assert torch.equal(actual, expected)
        assert ours.v is not None
        assert torch.equal(ours.v, theirs.v)

        spec = canonical(theirs)
        assert spec == ours.canonical()
        v = torch.full((NUM_NEURONS,), spec.states["v"])
        stepped = []
        for x_t in x:
            s, (v,) = neurons.step(x_t, (v,), spec)
            stepped.append(s)
        assert torch.equal(torch.stack(stepped), expected)
        assert torch.equal(v, theirs.v)

    def test_gradients_agree(self, kind: str, reset: str, step_mode: Literal["s", "m"]) -> None:
        torch.manual_seed(1)
        x = torch.randn(8, 256) + 0.5
        weight = torch.randn(8, 256)
        gradients = []
        for module in pair(kind, reset, step_mode):
            current = x.clone().requires_grad_()
            (run(module, current) * weight).sum().backward()  # type: ignore[no-untyped-call]
            assert current.grad is not None
            gradients.append([current.grad, *(p.grad for p in module.parameters() if p.grad is not None)])
        assert gradients[0][0].any()
        assert len(gradients[0]) == len(gradients[1]) == (2 if kind.startswith("Parametric") else 1)
        assert torch.equal(gradients[0][0], gradients[1][0])
        for actual, expected in zip(*(g[1:] for g in gradients), strict=True):
            # SpikingJelly's multi-step kernel sums the gradient of the learned decay in another order.
            torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0.0)


def test_trajectory_by_hand() -> None:
    # h = v + (x - v) / 2, threshold 1, hard reset to 0
    lif = LIF(2.0, step_mode="s")
    potentials = []
    spikes = []
    for x in (1.0, 1.0, 1.5, 0.0, -2.0):
        spikes.append(float(lif(torch.tensor([x]))))
        assert lif.v is not None
        potentials.append(float(lif.v))
    assert spikes == [0, 0, 1, 0, 0]
    assert potentials == [0.5, 0.75, 0.0, 0.0, -1.0]


def test_soft_reset_keeps_what_is_above_the_threshold() -> None:
    s, (v,) = neurons.step(torch.tensor([1.75]), [torch.tensor([0.5])], integrate_and_fire(v_reset=None))
    assert (float(s), float(v)) == (1.0, 1.25)


def test_soft_reset_conserves_charge() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 8, (50, 100)) / 8  # exact in float32
    neuron = IF(v_reset=None, v_threshold=1.0)
    spikes = neuron(x)
    assert neuron.v is not None
    assert torch.equal(spikes.sum(0) + neuron.v, x.sum(0))


@pytest.mark.parametrize(("fire", "expected"), [(">=", 1.0), (">", 0.0)])
def test_spike_exactly_at_the_threshold(fire: Literal[">=", ">"], expected: float) -> None:
    neuron = integrate_and_fire(fire=fire)
    assert float(neurons.step(torch.ones(1), [torch.zeros(1)], neuron)[0]) == expected
    assert float(SpikingNeuron(neuron, step_mode="s")(torch.ones(1))) == expected


def test_surrogate_gradient_is_its_formula() -> None:
    distance = torch.linspace(-2, 2, 9, requires_grad=True)
    ATan.apply(distance, 3.0, False).sum().backward()  # type: ignore[no-untyped-call]
    expected = [1.5 / (1 + (math.pi / 2 * 3.0 * float(d)) ** 2) for d in distance.detach()]
    assert distance.grad is not None
    torch.testing.assert_close(distance.grad, torch.tensor(expected))


def test_detach_reset_cuts_the_gradient_through_the_spike() -> None:
    gradients = []
    for detach_reset in (True, False):
        x = torch.full((2, 1), 0.9, requires_grad=True)
        IF(detach_reset=detach_reset)(x)[1].sum().backward()
        assert x.grad is not None
        gradients.append(float(x.grad[0]))
    assert gradients[0] != gradients[1]


def test_potential_lives_on_until_reset() -> None:
    neuron = IF(step_mode="s")
    assert float(neuron(torch.tensor([0.6]))) == 0.0
    assert float(neuron(torch.tensor([0.6]))) == 1.0
    neuron(torch.tensor([0.6]))
    neuron.reset()
    assert neuron.v is None
    assert float(neuron(torch.tensor([0.6]))) == 0.0


def test_learned_decay_is_a_canonical_constant() -> None:
    neuron = ParametricLIF(4.0)
    assert neuron.canonical().constants["decay"] == pytest.approx(0.25)
    with torch.no_grad():
        neuron.w.fill_(0.0)
    assert neuron.canonical().constants["decay"] == 0.5


def test_printed_neuron_states_its_equations() -> None:
    assert str(leaky(2.0, v_reset=None)) == "h = v + (x - v) / 2; s = h >= 1; v = h - s * 1"
    assert str(leaky(2.0, v_reset=-0.1)) == "h = v + (x - (v - -0.1)) / 2; s = h >= 1; v = where(s, -0.1, h)"
    assert "step_mode=m" in repr(IF())


def test_step_mode_is_checked() -> None:
    with pytest.raises(InputError, match="step_mode 'x' is unknown; use 's'"):
        IF(step_mode="x")


@pytest.mark.parametrize("tau", [1.0, 0.5, math.nan])
def test_time_constant_is_checked(tau: float) -> None:
    with pytest.raises(InputError, match=f"tau={tau} .*use .*tau > 1"):
        LIF(tau)
    with pytest.raises(InputError, match=f"init_tau={tau} .*use init_tau > 1"):
        ParametricLIF(tau)


def test_spikingjelly_neuron_without_canonical_form() -> None:
    class OwnNode(jelly.IFNode):  # type: ignore[misc]
        pass

    with pytest.raises(CaptureError, match="OwnNode has no canonical neuron; IFNode, LIFNode, ParametricLIFNode, "):
        canonical(OwnNode())


def test_spikingjelly_surrogate_without_spikes() -> None:
    with pytest.raises(CaptureError, match="spiking=False and so emits no spikes"):
        canonical(jelly.IFNode(surrogate_function=surrogate.ATan(spiking=False)))


def test_overridden_step_has_no_canonical_form() -> None:
    class Odd(IF):
        def forward(self, x: Tensor, *others: Tensor) -> Tensor:
            return -super().forward(x, *others)

    with pytest.raises(CaptureError, match="Odd overrides the step of SpikingNeuron"):
        canonical(Odd())


def test_foreign_module_is_no_neuron() -> None:
    with pytest.raises(
        CaptureError,
        match=r"ReLU is not a neuron of a known library \(spikenm_compile, spikingjelly, .*\); use a neuron of these",
    ):
        canonical(torch.nn.ReLU())
