"""The layers inside a neuron module in the step graph, and the state by which its output comes back to it.

state %rlif_spk = 0
%rec = Linear[rlif.recurrent](%rlif_spk)
%rlif = NeuronStep[rlif](%fc, %rec, %rlif_mem)      h = beta * mem + x + rec
%spikes = getitem(%rlif, 0)                         next value of %rlif_spk
"""

from __future__ import annotations

import torch
from torch.fx import Node

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.step_builder import StepBuilder
from spikenm_compile.frontend.step_layers import step_layer
from spikenm_compile.frontend.wiring import Source, Wire, Wiring


def connect(builder: StepBuilder, name: str, wiring: Wiring, x: Node) -> Connection:
    """Build the wires of the neuron module `name`, whose input is `x`.

    Raises:
        CaptureError: a layer that a step graph does not take, or currents of different shapes.
    """
    connection = Connection(builder, name, wiring, x)
    for wire in wiring.wires:
        connection.add(wire)
    return connection


class Connection:
    """The currents of a neuron module with layers inside, and what goes round."""

    def __init__(self, builder: StepBuilder, name: str, wiring: Wiring, x: Node) -> None:
        self.builder, self.name, self.wiring, self.x = builder, name, wiring, x
        self.state = wiring.state
        self.currents: tuple[Node, ...] = ()
        self._carried: Node | None = None

    def add(self, wire: Wire) -> None:
        """One more current."""
        if wire.source is Source.OUTPUT:
            self._carried = node = self.builder.state(f"{self.name}_{self.state}", self._shape(), 0.0)
        else:
            node = self._layers(wire, self._source(wire.source))
        shape = self.builder.shape(node)
        if self.currents and shape != self._shape():
            raise CaptureError(
                f"layer '{self.name}' feeds itself a current of shape {list(shape)} and has neurons of shape "
                f"{list(self._shape())}; both must be alike; feed vectors back through a Linear, maps through a Conv2d "
                "that keeps their size"
            )
        self.currents = (*self.currents, node)

    def close(self, output: Node) -> Node:
        """Say what the state is at the next step, now that there is an output; returns it."""
        assert self._carried is not None
        late = [wire for wire in self.wiring.wires if wire.source is Source.OUTPUT]
        value = self._layers(late[0], output) if late else output
        self.builder.update(self._carried, value)
        return value

    def _source(self, source: Source) -> Node:
        if source is Source.INPUT:
            return self.x
        if self._carried is None:
            self._carried = self.builder.state(f"{self.name}_{self.state}", self._shape(), 0.0)
        if source is Source.PREVIOUS:
            return self._carried
        last = len(self.builder.shape(self.x)) - 1
        return self.builder.call(torch.cat, ((self.x, self._carried), last))

    def _shape(self) -> tuple[int, ...]:
        """Shape of the output: that of the first current, or of the input with another number of features."""
        if self.wiring.features is not None:
            return (*self.builder.shape(self.x)[:-1], self.wiring.features)
        return self.builder.shape(self.currents[0] if self.currents else self.x)

    def _layers(self, wire: Wire, node: Node) -> Node:
        for path, module in wire.layers:
            name = f"{self.name}.{path}"
            layer = step_layer(name, module)
            if layer is not None:
                node = self.builder.layer(name, layer, node)
        return node
