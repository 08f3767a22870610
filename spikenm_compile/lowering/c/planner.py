"""Values, buffers and calls of a C program while it is planned. What each node does with them: nodes.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.fx import GraphModule, Node

from spikenm_compile.graph import INIT, PER_STEP, Region, Role, placeholders, the_input
from spikenm_compile.lowering.c.layouts import FLOAT_BYTES, Kind, Layout
from spikenm_compile.lowering.c.memory import ALIGNMENT
from spikenm_compile.lowering.c.names import Names
from spikenm_compile.lowering.c.program import Buffer, Call, Program, State
from spikenm_compile.lowering.c.sources import identifiers
from spikenm_compile.lowering.c.weights import Rows
from spikenm_compile.lowering.nodes import size_of
from spikenm_compile.lowering.state_updates import going_round, in_place

TAKEN = identifiers() | {"arena", "input", "num_steps", "output", "params", "state", "t"}
"""Names that the kernel sources use."""
INPUT = "input"
"""The argument of calls that read the user's input."""


@dataclass(frozen=True)
class Value:
    """Where a node's value lies, and how."""

    layout: Layout
    pointer: str
    """C expression of its first byte."""
    buffer: Buffer | None
    """None: the user's input, or a state."""
    region: Region
    """From when on it is there."""


Argument = str | Kind | Buffer | Value | tuple[Value, ...]
"""Of a call: a C expression, memory, or an array of values."""


class Planner:
    """The program so far; `values` says where each node's value is."""

    def __init__(self, lowered: GraphModule, prefix: str, rows: Rows) -> None:
        self.lowered, self.rows = lowered, rows
        self.program = Program(prefix, Names(TAKEN))
        self.region = Region.BEFORE
        self.values: dict[Node, Value] = {}
        self.next_state = in_place(lowered)
        self._going_round = going_round(lowered)
        self.states: dict[Node, State] = {}
        self.neuron_functions: dict[object, str] = {}
        """Neuron and kind of its output -> the C function, shared by all layers of such neurons."""
        self._converted: dict[tuple[str, Layout], Value] = {}
        self._place_inputs()

    def _place_inputs(self) -> None:
        source = the_input(self.lowered)
        layout = Layout(Kind.PLANES, *size_of(source))
        per_step: bool = source.meta[PER_STEP]
        self.program.input_values = layout.count if per_step else 0
        self.values[source] = Value(layout, INPUT, None, Region.STEP if per_step else Region.BEFORE)
        for node in placeholders(self.lowered, Role.STATE):
            layout = Layout(Kind.FLOATS, *size_of(node))
            constant, offset = self.program.names.new(f"state_{node.name}"), self.program.state_bytes
            shape = (layout.height, layout.width, layout.channels)
            state = State(node.name, constant, offset, shape, node.meta[INIT])
            self.program.states.append(state)
            self.program.state_bytes += -(-layout.count * FLOAT_BYTES // ALIGNMENT) * ALIGNMENT
            self.states[node] = state
            self.values[node] = Value(layout, f"state + {constant}", None, Region.STEP)

    def new(self, name: str, layout: Layout) -> Value:
        """A buffer in the arena for the current region."""
        buffer = Buffer(self.program.names.new(f"at_{name}"), layout.num_bytes, str(layout))
        return Value(layout, f"arena + {buffer.name}", buffer, self.region)

    def scratch(self, name: str, num_bytes: int, holds: str) -> Buffer:
        """Memory for one call."""
        return Buffer(self.program.names.new(f"at_{name}"), num_bytes, holds)

    def call(self, layer: str, function: str, *arguments: Argument, region: Region | None = None) -> None:
        """Call a kernel in the current region."""
        values = [v for a in arguments for v in (a if isinstance(a, tuple) else (a,)) if isinstance(v, Value | Buffer)]
        buffers = [v if isinstance(v, Buffer) else v.buffer for v in values]
        call = Call(
            function,
            tuple(_text(argument) for argument in arguments),
            tuple(buffer for buffer in buffers if buffer is not None),
            layer,
            reads_input=any(isinstance(v, Value) and v.pointer == INPUT for v in values),
        )
        self.program.used.add(function)
        self.program.calls[region or self.region].append(call)

    def as_kind(self, value: Value, kind: Kind) -> Value:
        """`value` in another layout, converted once; what does not change with time is converted before the steps."""
        layout = value.layout.as_kind(kind)
        same = {value.layout.kind, kind} == {Kind.FLOATS, Kind.PLANES} and 1 in (layout.pixels, layout.channels)
        if value.layout.kind is kind or same:
            return replace(value, layout=layout)
        key = (value.pointer, layout)
        if key not in self._converted:
            region = value.region if value.region is Region.BEFORE else self.region
            name = value.buffer.name.removeprefix("at_") if value.buffer is not None else value.pointer.split()[-1]
            out = replace(self.new(f"{name}_{kind.name.lower()}", layout), region=region)
            source = (*sizes(layout), value.layout.kind, value)
            if kind is Kind.BITS:
                self.call(f"{name} as {layout}", "pack_spikes", *source, out, region=region)
            else:
                self.call(f"{name} as {layout}", "convert", *source, kind, out, region=region)
            self._converted[key] = out
        return self._converted[key]

    def as_floats(self, value: Value) -> Value:
        """`value` as float, channels innermost."""
        return self.as_kind(value, Kind.FLOATS)

    def as_bits(self, value: Value) -> Value:
        """`value` as spikes, set where it is not zero."""
        return self.as_kind(value, Kind.BITS)

    def copy_states(self) -> None:
        """At the end of a step: what goes round becomes the state that the next step reads."""
        for state, value in self._going_round.items():
            source, target = self.values[value], self.values[state]
            arguments = (*sizes(target.layout), source.layout.kind, source, target.layout.kind, target)
            self.call(f"{state.name} of the next step", "convert", *arguments)


def sizes(layout: Layout) -> tuple[str, str]:
    """Pixels and channels, as arguments."""
    return str(layout.pixels), str(layout.channels)


def _text(argument: Argument) -> str:
    """As a C expression."""
    match argument:
        case Kind():
            return str(argument.value)
        case Buffer():
            return f"(void *)(arena + {argument.name})"
        case Value():
            return argument.pointer
        case tuple():
            return f"(const void *const[]){{{', '.join(value.pointer for value in argument)}}}"
        case _:
            return argument
