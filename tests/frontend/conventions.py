"""One small trainable network for each library, and the library's own ways to handle it."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import norse.torch as norse
import sinabs
import sinabs.layers as sl
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import spikenm_compile
from spikenm_compile.frontend.capture import capture
from spikenm_compile.learning import MaskOptions, Schedule
from spikenm_compile.neurons import LIF, ParametricLIF

NUM_STEPS, BATCH = 3, 4
STATES = (".v_mem", ".i_syn")
"""Keys that sinabs gives to states, whose shape is that of the last batch: only the others are saved and loaded."""
NOISY = MaskOptions(Schedule(noise=1.0))


def spikingjelly_model() -> nn.Module:
    return nn.Sequential(
        layer.Linear(16, 32, step_mode="m"),
        neuron.LIFNode(v_threshold=0.3, step_mode="m"),
        layer.Linear(32, 32, step_mode="m"),
        neuron.ParametricLIFNode(v_threshold=0.1, step_mode="m"),
        layer.Linear(32, 8, step_mode="m"),
        neuron.LIFNode(v_threshold=0.1, step_mode="m"),
    )


class SnntorchModel(nn.Module):
    """States inside the neurons, which `utils.reset` finds among the direct children only."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 32)
        self.lif1 = snntorch.Leaky(beta=torch.full((32,), 0.9), learn_beta=True, threshold=0.3, init_hidden=True)
        self.fc2 = nn.Linear(32, 32)
        self.lif2 = snntorch.Synaptic(alpha=0.7, beta=0.8, threshold=0.1, init_hidden=True)
        self.fc3 = nn.Linear(32, 8)
        self.lif3 = snntorch.Leaky(beta=0.5, threshold=0.1, learn_threshold=True, init_hidden=True, output=True)

    def forward(self, x: Tensor) -> Tensor:
        potentials = []
        for x_t in x:
            _, mem = self.lif3(self.fc3(self.lif2(self.fc2(self.lif1(self.fc1(x_t))))))
            potentials.append(mem)
        return torch.stack(potentials)


class NorseModel(nn.Module):
    """States by hand; the states that a call returns can be given to the next."""

    def __init__(self) -> None:
        super().__init__()
        fast = norse.LIFParameters(v_th=torch.as_tensor(0.1))
        self.net = norse.SequentialState(
            nn.Linear(16, 32),
            norse.LIFCell(fast),
            nn.Linear(32, 32),
            norse.LIFCell(fast),
            nn.Linear(32, 8),
            norse.LICell(),
        )

    def forward(self, x: Tensor) -> Tensor:
        state, potentials = None, []
        for x_t in x:
            out, state = self.net(10 * x_t, state)
            potentials.append(out)
        return torch.stack(potentials)


def sinabs_model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(16, 32),
        sl.IAF(spike_threshold=torch.tensor(0.3)),
        nn.Linear(32, 32),
        sl.LIF(tau_mem=torch.full((32,), 4.0), spike_threshold=torch.tensor(0.1), train_alphas=True),
        nn.Linear(32, 8),
        sl.ExpLeak(tau_mem=5.0),
    )


def own_model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(16, 32),
        LIF(v_threshold=0.3),
        nn.Linear(32, 32),
        ParametricLIF(v_threshold=0.1),
        nn.Linear(32, 8),
        LIF(v_threshold=0.1, detach_reset=False),
    )


def reset_own(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, LIF | ParametricLIF):
            module.reset()


@dataclass(frozen=True)
class Library:
    """A model of a library and how the library treats it."""

    make: Callable[[], nn.Module]
    reset: Callable[[nn.Module], object]
    """The library's own function that forgets the states of a model."""
    masked: tuple[str, str]
    """Names of the layers that learn a mask."""
    keeps_state: bool = True
    """Whether states live on from call to call."""
    resets_copies: bool = True
    """Whether its reset function finds the neurons of a deep copy."""
    resets_nested: bool = True
    """Whether its reset function finds neurons inside a wrapper such as DistributedDataParallel."""
    pickles: bool = True
    runs_in_float64: bool = True


LIBRARIES = {
    "spikingjelly": Library(spikingjelly_model, functional.reset_net, ("2", "4")),
    "snntorch": Library(
        SnntorchModel,
        utils.reset,
        ("fc2", "fc3"),
        resets_copies=False,
        resets_nested=False,
        pickles=False,
        runs_in_float64=False,
    ),
    "norse": Library(NorseModel, lambda _: None, ("net.2", "net.4"), keeps_state=False, pickles=False),
    "sinabs": Library(sinabs_model, sinabs.reset_states, ("2", "4"), runs_in_float64=False),
    "own": Library(own_model, reset_own, ("2", "4")),
}


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return LIBRARIES[name].make()


def transformed(name: str) -> nn.Module:
    return spikenm_compile.transform(make(name), "2:4", options=NOISY, example_inputs=inputs(), report=None)


def inputs(seed: int = 1) -> Tensor:
    return torch.rand(NUM_STEPS, BATCH, 16, generator=torch.Generator().manual_seed(seed)) * 2


def folded(name: str) -> nn.Module:
    model = transformed(name)
    train_step(model, name)
    return spikenm_compile.fold(model)


def captured(name: str) -> nn.Module:
    return capture(make(name), inputs())


STAGES: dict[str, Callable[[str], nn.Module]] = {
    "plain": make,
    "captured": captured,
    "transformed": transformed,
    "folded": folded,
}
"""Ways a model goes through; each is made anew from the library's name."""


def train_step(model: nn.Module, name: str, run: Callable[[Tensor], Tensor] | None = None) -> None:
    """One step of the loop that users of the library write."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    LIBRARIES[name].reset(model)
    (model if run is None else run)(inputs()).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    LIBRARIES[name].reset(model)


def through(model: nn.Module, way: str) -> nn.Module:
    """A copy of the model."""
    if way == "deepcopy":
        return copy.deepcopy(model)
    if way == "pickle":
        copied: nn.Module = pickle.loads(pickle.dumps(model))
        return copied
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


def values(model: nn.Module) -> dict[str, Any]:
    """Copy of the state_dict without states."""
    return {k: v.detach().clone() for k, v in model.state_dict().items() if not k.endswith(STATES)}
