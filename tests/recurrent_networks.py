"""Networks whose spikes go round, as step graphs and as models of the libraries."""

from __future__ import annotations

from collections.abc import Callable

import neuron_kinds
import norse.torch as norse
import snntorch as snn
import torch
from neuron_kinds import Kind
from spikingjelly.activation_based import layer, neuron
from step_graphs import StepGraphBuilder, randomize
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from spikenm_compile.neurons import Neuron, leaky
from spikenm_compile.passes.base import run_pipeline
from spikenm_compile.passes.pipelines import lowering
from spikenm_compile.passes.quantize_inputs import choose_levels
from spikenm_compile.pattern import Pattern

NUM_STEPS = 7


def recurrent(
    b: StepGraphBuilder,
    name: str,
    x: Node,
    back: nn.Module,
    kind: Kind = neuron_kinds.two_inputs,
    source: Node | None = None,
) -> Node:
    """A layer of neurons that reads `x` and what `back` makes of its own output at the step before."""
    shape = x.meta["shape"]
    previous = b.state(f"{name}_previous", shape)
    spikes = b.neuron(name, x, kind(shape[0]), (b.layer(f"{name}_back", back, previous),))
    b.states.append((previous, spikes))
    return spikes


def vectors(b: StepGraphBuilder) -> Node:
    """70 neurons: more than a word of bits, and no whole number of words."""
    n = recurrent(b, "first", b.layer("fc", nn.Linear(12, 70), b.x), nn.Linear(70, 70))
    return b.layer("head", nn.Linear(70, 5), n)


def maps(b: StepGraphBuilder) -> Node:
    """A halo around the previous spikes; a pool and a second layer behind."""
    n = recurrent(b, "first", b.layer("conv1", nn.Conv2d(2, 20, 3, padding=1), b.x), nn.Conv2d(20, 20, 5, padding=2))
    n = b.layer("conv2", nn.Conv2d(20, 9, 3), b.layer("pool", nn.MaxPool2d(2), n))
    return b.neuron("second", n, leaky(2.0, v_threshold=6.0))


def grouped(b: StepGraphBuilder) -> Node:
    """A dense kernel reads the previous spikes as bytes."""
    back = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
    return recurrent(b, "first", b.layer("conv1", nn.Conv2d(2, 8, 3, padding=1), b.x), back)


def two_layers(b: StepGraphBuilder) -> Node:
    n = recurrent(b, "first", b.layer("fc1", nn.Linear(12, 33), b.x), nn.Linear(33, 33))
    return recurrent(b, "second", b.layer("fc2", nn.Linear(33, 20), n), nn.Linear(20, 20, bias=False))


def counts(b: StepGraphBuilder) -> Node:
    """Neurons that emit -1, 0 and 1."""

    def kind(channels: int) -> Neuron:
        equations = ("h = v + x + rec", *neuron_kinds.ternary(channels).equations[1:])
        levels = neuron_kinds.ternary(channels).levels
        return Neuron(equations, {"v": 0.0}, {"th": 0.6}, levels=levels, inputs=("x", "rec"))

    return recurrent(b, "first", b.layer("fc", nn.Linear(12, 33), b.x), nn.Linear(33, 33), kind)


def a_current_goes_round(b: StepGraphBuilder) -> Node:
    """What the layer makes of the spikes waits for the next step."""
    previous = b.state("rec", (33,))
    n = b.neuron("first", b.layer("fc", nn.Linear(12, 33), b.x), neuron_kinds.two_inputs(33), (previous,))
    b.states.append((previous, b.layer("back", nn.Linear(33, 33), n)))
    return n


def spikes_as_current(b: StepGraphBuilder) -> Node:
    """Neurons that read their previous spikes without a layer."""
    previous = b.state("previous", (33,))
    n = b.neuron("first", b.layer("fc", nn.Linear(12, 33), b.x), neuron_kinds.two_inputs(33), (previous,))
    b.states.append((previous, n))
    return n


def over_two_layers(b: StepGraphBuilder) -> Node:
    """The second layer feeds the first."""
    previous = b.state("previous", (20,))
    back = b.layer("back", nn.Linear(20, 33), previous)
    n = b.neuron("first", b.layer("fc1", nn.Linear(12, 33), b.x), neuron_kinds.two_inputs(33), (back,))
    n = b.neuron("second", b.layer("fc2", nn.Linear(33, 20), n))
    b.states.append((previous, n))
    return n


RECURRENT: dict[Callable[[StepGraphBuilder], Node], tuple[int, ...]] = {
    vectors: (12,),
    maps: (2, 6, 7),
    grouped: (2, 6, 7),
    two_layers: (12,),
    counts: (12,),
    a_current_goes_round: (12,),
    spikes_as_current: (12,),
    over_two_layers: (12,),
}


def lower_recurrent(
    make: Callable[[StepGraphBuilder], Node], families: tuple[str, ...], *, per_step: bool
) -> tuple[GraphModule, Tensor]:
    """Random weights, lowered, with samples; an output at each step, or the mean of one input for all steps."""
    shape = RECURRENT[make]
    b = StepGraphBuilder(shape, per_step=per_step)
    n = make(b)
    graph = b.output(n if per_step else b.mean(n))
    torch.manual_seed(0)
    randomize(graph, 0)
    graph.meta["num_steps"] = NUM_STEPS
    x = torch.rand((NUM_STEPS, 6, *shape) if per_step else (6, *shape))
    return run_pipeline(lowering(choose_levels(x), Pattern(2, 4), families), graph), x


class Net(nn.Module):
    """A front, a recurrent layer called as its library wants it, and a classifier."""

    def __init__(self, front: nn.Module, cell: nn.Module) -> None:
        super().__init__()
        self.front, self.cell, self.fc = front, cell, nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.cell, snn.RLeaky):
            states, out = self.cell.reset_mem(), []
            for t in range(x.shape[0]):
                states = self.cell(self.front(x[t]), *states)
                out.append(states[0])
            spikes = torch.stack(out)
        else:
            found = self.cell(self.front(x))
            spikes = found[0] if isinstance(self.cell, norse.LIFRecurrent) else found
        return self.fc(spikes).mean(0)  # type: ignore[no-any-return]


RECURRENT_MODELS: dict[str, Callable[[], nn.Module]] = {
    "snntorch": lambda: Net(nn.Linear(16, 32), snn.RLeaky(beta=0.9, linear_features=32, threshold=0.3)),
    "norse": lambda: Net(nn.Identity(), norse.LIFRecurrent(16, 32, norse.LIFParameters(v_th=torch.tensor(0.2)))),
    "spikingjelly": lambda: Net(
        nn.Sequential(nn.Linear(16, 32), neuron.LIFNode(v_threshold=0.1, step_mode="m")),
        layer.LinearRecurrentContainer(neuron.LIFNode(v_threshold=0.1), 32, 32, step_mode="m"),
    ),
}
