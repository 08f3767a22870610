"""Values, buffers and calls of a C program while it is planned. What each node does with them: nodes.py."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch.fx import GraphModule, Node

from spikenm_compile.graph import INIT, PER_STEP, Region, Role, next_states, placeholders, the_input
from spikenm_compile.lowering.c.layouts import FLOAT_BYTES, Kind, Layout
from spikenm_compile.lowering.c.memory import ALIGNMENT, INPUT
from spikenm_compile.lowering.c.names import Names
from spikenm_compile.lowering.c.program import Buffer, Call, Program, State
from spikenm_compile.lowering.c.sources import identifiers
from spikenm_compile.lowering.c.weights import Rows
from spikenm_compile.lowering.nodes import size_of

TAKEN = identifiers() | {"arena", "input", "num_steps", "output", "params", "state", "t"}
"""Names that the kernel sources use."""


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


class Planner:
    """The program so far; `values` says where each node's value is."""

    def __init__(self, lowered: GraphModule, prefix: str, rows: Rows) -> None:
        self.lowered, self.rows = lowered, rows
        self.program = Program(prefix, Names(TAKEN))
        self.region = Region.BEFORE
        self.values: dict[Node, Value] = {}
        self.next_state = {value: state for state, value in next_states(lowered).items()}
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

    def call(
        self, layer: str, function: str, *arguments: str | Value | Buffer | Kind, region: Region | None = None
    ) -> None:
        """Call a kernel in the current region."""
        texts, buffers = list[str](), list[Buffer]()
        for argument in arguments:
            if isinstance(argument, Value):
                texts.append(argument.pointer)
                buffers += [argument.buffer] if argument.buffer is not None else []
            elif isinstance(argument, Buffer):
                texts.append(f"(void *)(arena + {argument.name})")
                buffers.append(argument)
            else:
                texts.append(argument.value if isinstance(argument, Kind) else argument)
        self.program.used.add(function)
        call = Call(function, tuple(texts), tuple(buffers), layer)
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
            arguments = (*sizes(layout), value.layout.kind, value, kind, out)
            self.call(f"{name} as {layout}", "convert", *arguments, region=region)
            self._converted[key] = out
        return self._converted[key]

    def as_floats(self, value: Value) -> Value:
        """`value` as float, channels innermost."""
        return self.as_kind(value, Kind.FLOATS)


def sizes(layout: Layout) -> tuple[str, str]:
    """Pixels and channels, as arguments."""
    return str(layout.pixels), str(layout.channels)
