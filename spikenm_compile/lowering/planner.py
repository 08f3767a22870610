"""Buffers, values and calls of a native program while it is planned. What each node does with them: native_nodes.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.fx import GraphModule, Node
from tvm import tirx

from spikenm_compile.costs.row_shapes import tile_for
from spikenm_compile.graph import INIT, PER_STEP, Region, Role, placeholders, the_input
from spikenm_compile.lowering.instructions import PORTABLE, Instructions
from spikenm_compile.lowering.kernels.bit_joins import build_pack
from spikenm_compile.lowering.kernels.event_list import EventList, build_event_list
from spikenm_compile.lowering.kernels.index_planes import IndexPlanes, build_index_planes
from spikenm_compile.lowering.kernels.joins import build_last
from spikenm_compile.lowering.kernels.unpack import build_unpack
from spikenm_compile.lowering.kernels.values import Operand, build_convert
from spikenm_compile.lowering.layer_rows import event_list_of
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Layout, Planes
from spikenm_compile.lowering.nodes import halo_of, size_of
from spikenm_compile.lowering.program import Call, Choice, Place, Program, Space, Steps
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.lowering.state_updates import going_round, in_place
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d


@dataclass(frozen=True)
class Value:
    """Where a node's value lies, and how."""

    operand: Operand
    place: Place

    @property
    def layout(self) -> Layout:
        """Its layout."""
        return self.operand.layout


class Planner:
    """The program so far; `values` says where each node's value is."""

    def __init__(
        self,
        lowered: GraphModule,
        tile_width: int,
        max_steps: int,
        prefix: str = "spikenm",
        instructions: Instructions = PORTABLE,
    ) -> None:
        self.lowered = lowered
        self.tile_width = tile_width
        self.instructions = instructions
        self._going_round = going_round(lowered)
        self.program = Program(1 if self._going_round else max_steps, prefix)
        self.region = Region.BEFORE
        self.values: dict[Node, Value] = {}
        self.emitted: dict[Node, Value] = {}
        """What layers of neurons emit at each step, wherever a reader after the steps finds the last of it."""
        self.next_state = in_place(lowered)
        self._converted: dict[tuple[Place, Layout], Value] = {}
        self._lists: dict[tuple[Place, EventList], tuple[EventList, Place, Place]] = {}
        self._planes: dict[tuple[Place, IndexPlanes], Place] = {}
        self._place_inputs()

    def _place_inputs(self) -> None:
        source = the_input(self.lowered)
        self.values[source] = Value(Operand(Planes(*size_of(source)), not source.meta[PER_STEP]), Place(Space.INPUT))
        for state in placeholders(self.lowered, Role.STATE):
            floats = Floats(*size_of(state))
            place = self.program.allocate(Space.STATE, floats.num_bytes(1))
            self.values[state] = Value(Operand(floats, True), place)
            shape = [floats.height, floats.width, floats.channels]
            entry = {"name": state.name, "offset": place.offset, "shape": shape, "init": state.meta[INIT]}
            self.program.states.append(entry)

    def name(self, kind: str) -> str:
        """A new kernel's name."""
        return f"{self.program.prefix}_{len(self.program.functions)}_{kind}"

    def emit(self, functions: list[tirx.PrimFunc], *places: Place, steps: Steps | None = None) -> None:
        """Call the last of `functions` in the current region."""
        default = Steps.ALL if self.region is Region.STEP else Steps.ONE
        self.program.functions += functions
        call = Call(str(functions[-1].attrs["global_symbol"]), places, steps or default)
        self.program.calls[self.region].append(call)

    def emit_choice(self, is_many: Place, few: Callable[[], None], many: Callable[[], None]) -> None:
        """Of what the two plan, run one: what a byte says."""
        steps = Steps.ALL if self.region is Region.STEP else Steps.ONE
        choice = Choice(is_many, self._apart(few), self._apart(many), steps)
        self.program.calls[self.region].append(choice)

    def _apart(self, plan: Callable[[], None]) -> tuple[Call, ...]:
        """The calls that `plan` emits, taken out of the region's; nobody else finds what it converts or lists."""
        calls = self.program.calls[self.region]
        before, known = len(calls), (dict(self._converted), dict(self._lists), dict(self._planes))
        plan()
        self._converted, self._lists, self._planes = known
        own = [call for call in calls[before:] if isinstance(call, Call)]
        del calls[before:]
        return tuple(own)

    def new(self, layout: Layout, *, is_static: bool | None = None) -> Value:
        """A buffer in the arena, by default for every step if this is the region of steps."""
        once = self.region is not Region.STEP if is_static is None else is_static
        num_bytes = layout.num_bytes(1 if once else self.program.max_steps)
        zero_bytes = layout.num_bytes(1) if layout.has_gaps else 0
        place = self.program.allocate(Space.ARENA, num_bytes, zero_bytes=zero_bytes)
        return Value(Operand(layout, once), place)

    def as_layout(self, value: Value, layout: Layout) -> Value:
        """`value` in `layout`, converted once if it lies in another."""
        if value.layout == layout:
            return value
        key = (value.place, layout)
        if key not in self._converted:
            converted = self.new(layout, is_static=value.operand.is_static)
            steps = Steps.ONE if value.operand.is_static else Steps.ALL
            name = self.name("convert")
            if isinstance(layout, Bits):
                functions = build_pack(name, value.operand, layout)
            elif isinstance(layout, Bytes) and isinstance(value.layout, Bits):
                functions = build_unpack(name, value.operand, layout)
            else:
                functions = build_convert(name, value.operand, layout)
            self.emit(functions, value.place, converted.place, steps=steps)
            self._converted[key] = converted
        return self._converted[key]

    def as_floats(self, value: Value) -> Value:
        """`value` as float32, channels innermost."""
        return self.as_layout(value, Floats(value.layout.height, value.layout.width, value.layout.channels))

    def width_for(self, neuron: Neuron | None) -> int:
        """Channels of a tile, a multiple of 8: the more states a neuron has, the fewer channels fit the registers."""
        return tile_for(self.tile_width, 0 if neuron is None else len(neuron.states))

    def as_bytes(self, value: Value, halo: int, *, signed: bool) -> Value:
        """Whole numbers, one byte each, with at least that halo."""
        layout = value.layout
        if isinstance(layout, Bytes) and layout.halo >= halo:
            return value
        return self.as_layout(value, Bytes(layout.height, layout.width, layout.channels, halo, signed))

    def as_bits(self, value: Value, halo: int, most: int = 1) -> Value:
        """Spikes, or counts up to `most` in unary, with at least that halo."""
        layout = value.layout
        if isinstance(layout, Bits) and layout.halo >= halo:
            return value
        return self.as_layout(value, Bits(layout.height, layout.width, layout.channels, halo, most))

    def copy_states(self) -> None:
        """At the end of a step: what goes round becomes the state that the next step reads."""
        for state, value in self._going_round.items():
            source, target = self.values[value], self.values[state]
            functions = build_convert(self.name("state"), source.operand, target.layout)
            self.emit(functions, source.place, target.place)

    def event_list(self, value: Value, conv: IntConv2d, tile_width: int) -> tuple[EventList, Place, Place]:
        """Events of a layer's input, built once for all layers that read the same: (layout, start, events)."""
        spikes = self.as_bits(value, max(conv.padding), conv.levels.high)
        assert isinstance(spikes.layout, Bits)
        lists, num_steps = event_list_of(conv, spikes.layout, tile_width), self.program.max_steps
        key = (spikes.place, lists)
        if key not in self._lists:
            start = self.program.allocate(Space.ARENA, lists.start_bytes(num_steps))
            events = self.program.allocate(Space.ARENA, lists.event_bytes(num_steps))
            self.emit(build_event_list(self.name("events"), lists), spikes.place, start, events)
            self._lists[key] = (lists, start, events)
        return self._lists[key]

    def kept_lists(self, slabs: SharedSlabs) -> tuple[Place, Place]:
        """Memory for the lists of one output of shared slabs: (lengths, entries)."""
        num_steps = self.program.max_steps
        return (
            self.program.allocate(Space.ARENA, 4 * num_steps),
            self.program.allocate(Space.ARENA, slabs.list_bytes(num_steps)),
        )

    def index_planes(self, spikes: Value, planes: IndexPlanes) -> Place:
        """Indices into the tables of a layer, built once for all layers that read the same."""
        key = (spikes.place, planes)
        if key not in self._planes:
            scratch = (self.program.allocate(Space.ARENA, size) for size in planes.scratch_bytes)
            self._planes[key] = place = self.program.allocate(Space.ARENA, planes.num_bytes)
            self.emit(build_index_planes(self.name("indices"), planes), spikes.place, *scratch, place)
        return self._planes[key]

    def as_planes(self, state: Node) -> None:
        """Let a state lie in the user's order; before anybody reads it."""
        value = self.values[state]
        planes = Planes(value.layout.height, value.layout.width, value.layout.channels)
        self.values[state] = Value(Operand(planes, True), value.place)
        next(s for s in self.program.states if s["offset"] == value.place.offset)["order"] = "planes"

    def settle(self, node: Node) -> None:
        """What is read after the steps is the value of the last: copied while the steps still know which it was."""
        value = self.values[node]
        if self.region is not Region.AFTER or value.operand.is_static:
            return
        layout = Floats(value.layout.height, value.layout.width, value.layout.channels)
        last = self.new(layout)
        self.region = Region.STEP
        self.emit(build_last(self.name("last"), value.operand, layout), value.place, last.place)
        self.region = Region.AFTER
        self.values[node] = last

    def halo(self, node: Node) -> int:
        """Widest padding that a reader of the node's value asks for."""
        return halo_of(self.lowered, node)
