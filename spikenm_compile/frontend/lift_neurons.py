"""Neurons of a captured graph in time: steps with explicit state, whether the model passes states by hand or not."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import (
    canonical,
    check_input,
    given_states,
    is_multi_step,
    is_neuron,
    layout,
    returned,
    wiring,
)
from spikenm_compile.frontend.lift_wiring import connect
from spikenm_compile.frontend.readings import flat_batch
from spikenm_compile.frontend.recording import StateCall, call_detach, call_initial
from spikenm_compile.frontend.snapshot import restored
from spikenm_compile.frontend.time_algebra import Time, with_node
from spikenm_compile.frontend.values import Flat, Layout, Sequence, Static, Step, Value, describe
from spikenm_compile.neurons import Neuron


def single_step_calls(captured: GraphModule) -> Counter[str]:
    """How often each single-step neuron is called: once per time step of an unrolled loop.

    Raises:
        CaptureError: the neurons are not called equally often.
    """
    nodes = captured.graph.find_nodes(op="call_module", sort=False)
    names = (str(node.target) for node in nodes)
    calls = Counter(n for n in names if is_neuron(m := captured.get_submodule(n)) and not is_multi_step(m))
    if len(set(calls.values())) > 1:
        (most, high), (least, low) = calls.most_common()[0], calls.most_common()[-1]
        raise CaptureError(
            f"neuron '{most}' is called {high} times and '{least}' {low} times; each must be called once per step; "
            "give every place in the network a neuron of its own"
        )
    return calls


class Spiking:
    """A layer of neurons in the step graph.

    Args:
        neuron: its canonical neuron.
        inputs: nodes of what a call gives to it.
        output: node of its output.
        states: state name -> node of the state after the step.
        first: state name -> its first value.
    """

    def __init__(
        self,
        neuron: Neuron,
        inputs: tuple[Node, ...],
        output: Node,
        states: Mapping[str, Node],
        first: Mapping[str, float],
    ) -> None:
        self.neuron = neuron
        self.inputs = inputs
        self.output = output
        self.states = states
        self.first = first
        self.num_calls = 0

    def nodes_of(self, state: str) -> tuple[Node, ...]:
        """Nodes that hold the state after a step: a state may be the output itself."""
        is_output = f"{state} = {self.neuron.output}" in self.neuron.equations
        return (self.states[state], self.output) if is_output else (self.states[state],)


class NeuronLifter:
    """Reads calls of neurons in time order.

    Args:
        time: the step graph under construction.
        calls: number of calls of each single-step neuron in the whole graph.
    """

    def __init__(self, time: Time, calls: Counter[str]) -> None:
        self.time = time
        self.total = calls
        self._made: dict[str, Spiking] = {}
        self._names: dict[nn.Module, str] = {}

    @property
    def found_any(self) -> bool:
        """Whether any neuron was met."""
        return bool(self._made)

    def call(
        self, name: str, module: nn.Module, values: tuple[Value, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """What the neuron `module` returns for its inputs `values` and the arguments behind them."""
        is_first = name not in self._made
        layer = self._made[name] if not is_first else self._spiking(name, module, values)
        t, layer.num_calls = layer.num_calls, layer.num_calls + 1
        try:
            given = given_states(module, args, kwargs)
        except CaptureError as error:
            raise CaptureError(f"layer '{name}': {error}") from error
        _check_states(name, layer, given, t)
        if is_multi_step(module):
            return self._sequence(name, module, layer, values)
        for value, node in zip(values, layer.inputs, strict=True):
            self._check_step(name, node, value, t)
        return returned(module, Step(layer.output, t), lambda state: Step(layer.states[state], t))

    def main_output(self, value: Any) -> Any:
        """What a model returns without the states that it returns beside its output: a step graph has these anyway."""
        if not isinstance(value, tuple | list) or len(value) < 2:
            return value
        states = {node for layer in self._made.values() for node in layer.states.values()}
        beside = pytree.tree_leaves(list(value[1:]))
        return value[0] if all(v is None or (isinstance(v, Value) and v.node in states) for v in beside) else value

    def set_state(self, call: StateCall) -> Any:
        """A reset in forward: harmless before the first step or after the last, which is where a step graph has it.

        Gives what the call returns: nothing, or the first states.
        """
        if call.function is call_detach:
            return None  # gradients only
        module: nn.Module = call.arguments[0]
        name = self._names.get(module, "")
        num_calls = self._made[name].num_calls if name else 0
        if 0 < num_calls < self.total[name]:
            raise CaptureError(
                f"neuron '{name}' is reset between its time steps {num_calls - 1} and {num_calls}; a "
                "reset is supported before the first step and after the last; move it out of the loop"
            )
        if call.function is not call_initial:
            return None
        with restored(module), torch.no_grad():
            return call()

    def _sequence(self, name: str, module: nn.Module, layer: Spiking, values: tuple[Value, ...]) -> Any:
        if layer.num_calls > 1:
            raise CaptureError(
                f"neuron '{name}' is called twice on sequences; its state would run on from one place to the other; "
                "give every place in the network a neuron of its own"
            )
        lengths = [self._check_sequence(name, layout(module), value) for value in values]
        last = lengths[0] - 1
        return returned(module, with_node(values[0], layer.output), lambda state: Step(layer.states[state], last))

    def _check_sequence(self, name: str, wanted: Layout, value: Value) -> int:
        """Number of steps of a sequence that is laid out as a multi-step neuron takes it."""
        kind = Flat if wanted.is_flat else Sequence
        if not isinstance(value, Sequence | Flat) or not isinstance(value, kind) or value.dim != wanted.dim:
            raise CaptureError(
                f"multi-step neuron '{name}' gets {describe(value)}; it takes a sequence {wanted}; give the model such "
                f"an input, or repeat the input T times in dimension {wanted.dim}"
            )
        size = self.time.shape(value)[0]
        if wanted.is_flat and flat_batch(wanted, size) != size // value.length:
            raise CaptureError(
                f"multi-step neuron '{name}' splits {size} samples with batch_size={wanted.batch}, "
                f"num_timesteps={wanted.length}, and they are {size // value.length} times {value.length} steps; all "
                "layers must split alike; set the same sizes everywhere"
            )
        self.time.note_length(value.length)
        return value.length

    def _check_step(self, name: str, node: Node, value: Value, t: int) -> None:
        if not isinstance(value, Static) and not (isinstance(value, Step) and value.t == t):
            raise CaptureError(
                f"single-step neuron '{name}' gets {describe(value)} at its call {t}; it takes the value of step {t}; "
                "call it once per time step, or give it the multi-step mode"
            )
        if value.node is not node:
            raise CaptureError(
                f"neuron '{name}' gets '{value.node.name}' at step {t} and '{node.name}' at step 0; all "
                "time steps must compute the same; give every place in the network a neuron of its own"
            )

    def _spiking(self, name: str, module: nn.Module, values: tuple[Value, ...]) -> Spiking:
        builder, inputs = self.time.builder, tuple(value.node for value in values)
        try:
            neuron, found = canonical(module), wiring(module)
        except CaptureError as error:
            raise CaptureError(f"layer '{name}': {error}") from error
        connected = None if found is None else connect(builder, name, found, inputs[0])
        currents = inputs if connected is None else connected.currents
        try:
            check_input(module, builder.shape(currents[0]))
        except CaptureError as error:
            raise CaptureError(f"layer '{name}': {error}") from error
        self._names[module] = name
        output = builder.neuron(name, neuron, currents)
        states = {
            state: builder.call(operator.getitem, (output.args[0], index))
            for index, state in enumerate(neuron.states, start=1)
        }
        first = dict(neuron.states)
        if connected is not None:
            states[connected.state], first[connected.state] = connected.close(output), 0.0
        self._made[name] = Spiking(neuron, inputs, output, states, first)
        return self._made[name]


def _check_states(name: str, layer: Spiking, given: Mapping[str, Any], t: int) -> None:
    """States passed by hand: their first value at the first step, then what the call before returned."""
    for state, value in given.items():
        first = layer.first[state]
        if t == 0:
            fits = _is_constant(value, first)
        else:
            fits = isinstance(value, Step) and value.t == t - 1 and value.node in layer.nodes_of(state)
        if not fits:
            wanted = f"its first value {first:.9g}" if t == 0 else f"what its call {t - 1} returned"
            raise CaptureError(
                f"neuron '{name}' gets another '{state}' at its call {t} than {wanted}; a step graph hands each state "
                "from one step to the next unchanged; pass the states that the neuron returned"
            )


def _is_constant(value: Any, number: float) -> bool:
    """Whether `value` is a number, or a tensor of nothing but that number."""
    if isinstance(value, Tensor):
        return bool((value == torch.tensor(number, dtype=value.dtype)).all())
    return isinstance(value, int | float) and value == number
