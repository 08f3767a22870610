"""One training step through the captured graph is the library's, for every neuron of the tables of neurons."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from frontend import test_norse_neurons, test_sinabs_neurons, test_snntorch_neurons, test_spikingjelly_neurons
from spikingjelly.activation_based import neuron as jelly
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from spikenm_compile.frontend.adapters import canonical, is_multi_step
from spikenm_compile.frontend.capture import capture
from spikenm_compile.frontend.snntorch_forms import FORMS

NUM_STEPS, BATCH, SIZE = 4, 2, 2048
MORE_JELLY: dict[str, Callable[..., nn.Module]] = {
    "IF": jelly.IFNode,
    "LIF": lambda **o: jelly.LIFNode(tau=1.7, **o),
    "LIF-full-input": lambda **o: jelly.LIFNode(tau=1.7, decay_input=False, detach_reset=True, **o),
    "ParametricLIF": lambda **o: jelly.ParametricLIFNode(init_tau=1.7, v_threshold=0.4, **o),
}

Make = Callable[[], nn.Module]


class Network(nn.Module):
    """Linear, neuron, Linear, in the step mode and with the states that the neuron wants."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.before = nn.Linear(8, SIZE)
        self.neuron = neuron
        self.behind = nn.Linear(SIZE, 3)

    def forward(self, x: Tensor) -> Tensor:
        current = self.before(x)
        if is_multi_step(self.neuron):
            spikes = of_all_steps(self.neuron(current), self.neuron, x.shape[0])
            return self.behind(spikes)  # type: ignore[no-any-return]
        outputs: list[Tensor] = []
        states: tuple[Any, ...] = ()
        for t in range(x.shape[0]):
            out, states = of_one_step(self.neuron(current[t], *states), self.neuron)
            outputs.append(out)
        return self.behind(torch.stack(outputs))  # type: ignore[no-any-return]


def of_all_steps(returned: Any, neuron: nn.Module, num_steps: int) -> Tensor:
    """The output of a multi-step neuron, of what its call returns."""
    kind = type(neuron)
    if kind.__name__.startswith("NonSpiking"):
        return torch.stack([returned[t] for t in range(num_steps)])
    out: Tensor = returned[0] if kind.__module__.startswith("norse") else returned
    return out


def of_one_step(returned: Any, neuron: Any) -> tuple[Any, tuple[Any, ...]]:
    """The output, and what the next call gets behind its input; a traced value cannot be asked what it is."""
    kind = type(neuron)
    if kind.__module__.startswith("norse"):
        return returned[0], (returned[1],)
    if kind.__name__ == "OTTTLIFNode":  # in training: spikes, and a trace for the layer behind
        return returned[0], ()
    if not kind.__module__.startswith("snntorch"):
        return returned, ()
    states = FORMS[kind.__name__].states
    parts = [returned[i] for i in range(1 + len(states) - (states[0] == "spk"))] if has_states(neuron) else [returned]
    return parts[0], () if neuron.init_hidden else tuple(parts if states[0] == "spk" else parts[1:])


def has_states(neuron: Any) -> bool:
    """Whether a call of an snnTorch neuron returns its states too."""
    return bool(neuron.output or not neuron.init_hidden)


def jelly_cases() -> dict[str, Make]:
    table = test_spikingjelly_neurons
    cases: dict[str, Make] = {
        f"spikingjelly-{name}-{reset}-{mode}": partial(table.make, name, reset, mode)
        for name, reset, mode in table.CASES
        if reset != "zero" and not name.startswith("STBIF")  # which is for inference, and has no gradient
    }
    for name, make in MORE_JELLY.items():
        for reset in ("hard", "soft"):
            for mode in table.BOTH:
                cases[f"spikingjelly-{name}-{reset}-{mode}"] = partial(make, **table.RESETS[reset], step_mode=mode)
    return cases


CASES: dict[str, Make] = {
    **jelly_cases(),
    **{
        f"snntorch-{kind}-{option}-{reset}": partial(test_snntorch_neurons.make, kind, option, reset)
        for kind, option in test_snntorch_neurons.TABLE
        for reset in ("subtract", "zero")
    },
    **{f"norse-{name}": make for name, (make, _) in test_norse_neurons.CASES.items()},
    **{
        f"sinabs-{kind}-{option}": partial(test_sinabs_neurons.make, kind, option)
        for kind, option in test_sinabs_neurons.TABLE
    },
}


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Everything that learns, and norse's neurons hold theirs in a tuple."""
    inside = pytree.tree_leaves(getattr(model.get_submodule("neuron"), "p", ()))
    learned = {f"p.{i}": leaf for i, leaf in enumerate(inside) if isinstance(leaf, nn.Parameter)}
    return {**dict(model.named_parameters()), **learned}


def trained(name: str, *, through_graph: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of one step of training, and the values after it."""
    torch.manual_seed(0)
    model = Network(copy.deepcopy(CASES[name]())).train()  # the tables share their values per channel
    num_steps = 20 if "DSR" in name else NUM_STEPS  # a DSR neuron knows how many steps there will be
    x = torch.randn(num_steps, BATCH, 8) * (8 if name.startswith(("sinabs", "norse")) else 2) + 0.5
    run = capture(model, x) if through_graph else model
    optimizer = torch.optim.SGD(parameters(model).values(), lr=0.1)
    run(x).square().sum().backward()
    gradients = {key: p.grad.clone() for key, p in parameters(model).items() if p.grad is not None}
    optimizer.step()
    canonical(model.get_submodule("neuron"))  # no case that has no equations
    return gradients, {**model.state_dict(), **parameters(model)}


@pytest.mark.parametrize("name", CASES)
def test_one_training_step_is_the_librarys(name: str) -> None:
    expected, expected_values = trained(name, through_graph=False)
    actual, values = trained(name, through_graph=True)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)
    assert values.keys() == expected_values.keys()
    assert all(torch.equal(values[key], expected_values[key]) for key in values)
    assert expected["behind.weight"].any()
    assert "no-surrogate" in name or expected["before.weight"].any()
