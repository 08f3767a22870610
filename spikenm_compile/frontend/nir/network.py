"""A NIR graph as a torch network of layers and canonical neurons."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spikenm_compile.errors import InputError
from spikenm_compile.frontend.nir.graph import Plan, plan
from spikenm_compile.frontend.nir.layers import layer_of
from spikenm_compile.frontend.nir.notes import NAME, noted_dt, noted_neuron
from spikenm_compile.frontend.nir.package import kind_of, load_graph
from spikenm_compile.frontend.nir.parameters import FIELDS, unit_of
from spikenm_compile.frontend.nir.producers import NIR, OURS, PRODUCERS, RESETS, Producer, get_producer
from spikenm_compile.frontend.nir.readers.common import Reset
from spikenm_compile.neurons import Neuron, SpikingNeuron

_ENDS = ("Input", "Output")


class NirNetwork(nn.Module):
    """The nodes of a NIR graph, in order, each on the sum of what feeds it.

    Input and output are [T, B, ...]; with `num_steps` the input is [B, ...], the same at each of that many steps. The
    neurons keep their states from call to call until `reset()`. `layers` holds the nodes by name.
    """

    def __init__(self, nodes: Plan, modules: dict[str, nn.Module], num_steps: int | None) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.layers = nn.ModuleDict()
        keys = {name: self._add(name, module) for name, module in modules.items()}
        self._calls = tuple((name, keys.get(name), nodes.sources[name]) for name in nodes.nodes if name != nodes.input)
        self._ends = (nodes.input, nodes.output)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, ...], or [B, ...] with `num_steps`, to the outputs of all steps [T, B, ...]."""
        if self.num_steps is not None:
            x = x.unsqueeze(0).repeat(self.num_steps, *[1] * x.dim())
        num_steps, batch = x.shape[0], x.shape[1]
        values = {self._ends[0]: x}
        for name, key, sources in self._calls:
            value = values[sources[0]]
            for source in sources[1:]:
                value = value + values[source]
            if key is not None:
                module = self.layers[key]
                is_neuron = isinstance(module, SpikingNeuron)
                value = module(value) if is_neuron else module(value.flatten(0, 1)).unflatten(0, (num_steps, batch))
            values[name] = value
        return values[self._ends[1]]

    def reset(self) -> None:
        """Forget the states of all neurons."""
        for module in self.layers.values():
            if isinstance(module, SpikingNeuron):
                module.reset()

    def _add(self, name: str, module: nn.Module) -> str:
        """Register a module; a name of NIR may hold dots, or be that of a method."""
        key = name.replace(".", "_")
        while hasattr(self.layers, key) or key in self.layers:
            key = f"{key}_"
        self.layers[key] = module
        return key


def from_nir(
    source: Any,
    *,
    producer: str | None = None,
    dt: float | None = None,
    reset: Reset | None = None,
    num_steps: int | None = None,
) -> NirNetwork:
    """The network of a NIR graph, computing what the library computes that wrote it.

    A graph of this package says itself what its neurons are. Of another one, name the producer; where it is unknown, dt
    alone gives NIR's own equations, by Euler's method with spikes where v > v_threshold.

    Args:
        source: a `nir.NIRGraph`, or the path of a file of one.
        producer: the library that wrote it, a name of `producers.PRODUCERS`.
        dt: time step in the unit of the graph's time constants; by default the one that the producer writes with.
        reset: "hard" (to v_reset) or "soft" (by v_threshold); by default that of the producer's neurons.
        num_steps: None: the network takes [T, B, ...]. A number: it takes [B, ...] and repeats it that often.

    Raises:
        InputError: a graph that cannot be read, that has no form as a step graph, or whose writer is not known.
        ToolError: the package nir is not installed.
    """
    if reset not in (None, *RESETS):
        raise InputError(f"reset {reset!r} is unknown; neurons reset 'hard' or 'soft'; use one of these")
    if dt is not None and not dt > 0:
        raise InputError(f"dt={dt} is no time step; it is above zero, in the unit of the graph's time constants")
    if num_steps is not None and num_steps < 1:
        raise InputError(f"num_steps={num_steps} is no number of time steps; give 1 or more, or leave it out")
    graph = load_graph(source)
    nodes = plan(graph)
    is_told = producer is not None or dt is not None or reset is not None
    reading = _Reading(graph, producer, dt, reset)
    modules: dict[str, nn.Module] = {}
    for name, node in nodes.nodes.items():
        if kind_of(node) in FIELDS:
            noted = None if is_told else noted_neuron(name, node)
            modules[name] = SpikingNeuron(noted or reading.neuron(name, node))
        elif kind_of(node) not in _ENDS:
            modules[name] = layer_of(name, node)
    return NirNetwork(nodes, modules, num_steps)


class _Reading:
    """How to understand neurons of one graph."""

    def __init__(self, graph: Any, producer: str | None, dt: float | None, reset: Reset | None) -> None:
        is_ours = graph.metadata.get("producer") == NAME
        self.producer: Producer | None = None
        if producer is not None:
            self.producer = get_producer(producer)
        elif dt is not None:
            self.producer = NIR
        elif is_ours:
            self.producer = OURS
        self.dt = noted_dt(graph) if dt is None and is_ours and self.producer is OURS else dt
        self.reset = reset

    def neuron(self, name: str, node: Any) -> Neuron:
        """The neuron of a node.

        Raises:
            InputError: nobody said who wrote the graph.
        """
        producer, unit = self.producer, unit_of(name, node)
        if producer is None and unit.kind != "Threshold":
            raise InputError(
                f"{unit} is in continuous time, and NIR stores no time step and no kind of reset; each library writes "
                f"its own; give producer= ({', '.join(PRODUCERS)}), or dt= for NIR's own equations"
            )
        chosen = producer or NIR
        dt = chosen.dt if self.dt is None else self.dt
        return chosen.neuron(unit, dt, self.reset or chosen.reset)
