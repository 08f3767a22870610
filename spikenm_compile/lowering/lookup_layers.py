"""Layers by lookup tables: their buffers, code and stored weights in a native program."""

from __future__ import annotations

from collections.abc import Sequence

from torch.fx import Node

from spikenm_compile.costs.table_format import table_classes, table_format_of
from spikenm_compile.errors import PassError
from spikenm_compile.lowering.input_bytes import InputBytes
from spikenm_compile.lowering.kernels.index_planes import IndexPlanes
from spikenm_compile.lowering.kernels.lookup_tables import LookupTables, build_lookup_tables
from spikenm_compile.lowering.kernels.prepare_tables import StoredTables, build_prepare_tables
from spikenm_compile.lowering.kernels.tables import Tables
from spikenm_compile.lowering.layer_rows import geometry_of, never_overflows
from spikenm_compile.lowering.layout import Bits, Planes
from spikenm_compile.lowering.native_layers import place_scale_and_bias, place_stored_weight
from spikenm_compile.lowering.nodes import source_of
from spikenm_compile.lowering.planner import Planner, Value
from spikenm_compile.lowering.program import Call, Place, Program, Space, Steps
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d


def plan_lookup(
    planner: Planner, node: Node, conv: IntConv2d, out: Value, neuron: Neuron | None, places: Sequence[Place]
) -> None:
    """Plan one layer.

    Args:
        planner: of the program.
        node: of the layer, whose input has a value.
        conv: its weights.
        out: spikes as bits, or the current in the user's order.
        neuron: fused, or None.
        places: constants and states of the neurons, these in the user's order too.

    Raises:
        PassError: the target has no instruction for tables.
    """
    shuffle = planner.instructions.shuffle
    if shuffle is None:
        raise PassError(
            f"layer '{conv.layer}' was given lookup tables, and the target has no instruction that looks up bytes; "
            f"the other kernel families need none, so choose one of them"
        )
    spikes = planner.as_bits(planner.values[source_of(node)], max(conv.padding))
    assert isinstance(spikes.layout, Bits)
    assert isinstance(out.layout, Bits | Planes)
    planes = planes_of(conv, spikes.layout, out.layout, planner.program.max_steps)
    number_format = table_format_of(int(conv.weight.abs().max()))
    tables = Tables(planes, conv.weight.shape[0], number_format, shuffle)
    lanes = lanes_for(planner.width_for(neuron), planes.positions)
    layer = LookupTables(tables, never_overflows(conv), out.layout, neuron, lanes)
    name = planner.name(conv.layer.replace(".", "_"))
    params = _weights(planner.program, conv, tables, name)
    indices = planner.index_planes(spikes, planes)
    scratch = [planner.program.allocate(Space.ARENA, size) for size in layer.scratch_bytes]
    offsets, least, values, *constants = params
    inputs = (indices, offsets, least, values, *scratch, *constants, *places, out.place)
    planner.emit(build_lookup_tables(name, layer), *inputs)


def planes_of(conv: IntConv2d, spikes: Bits, out: Bits | Planes, max_steps: int) -> IndexPlanes:
    """The indices that a layer reads off its input."""
    inputs = InputBytes(spikes.channels)
    if conv.pattern is not None and conv.pattern.staggered:
        group, slabs = conv.pattern.m, conv.pattern.m // conv.pattern.n
        if table_classes(conv.weight.shape[0], slabs) == slabs:
            inputs = InputBytes(spikes.channels, group, slabs)
    return IndexPlanes(spikes, inputs, geometry_of(conv), out.height, out.width, max_steps)


def lanes_for(most: int, positions: int) -> int:
    """Positions whose neurons are computed together: a power of two."""
    return 1 << min(most, positions).bit_length() - 1


def _weights(program: Program, conv: IntConv2d, tables: Tables, name: str) -> tuple[Place, ...]:
    """Offsets, least sums, tables, scale, bias."""
    stored = StoredTables(tables, conv.pattern)
    sizes = (4 * stored.num_bits, 4 * tables.slabs * tables.entries, 4 * tables.outputs, tables.num_bytes)
    channels, offsets, least, values = (program.allocate(Space.PARAMS, size) for size in sizes)
    function = f"{name}_prepare"
    program.functions += build_prepare_tables(function, stored)
    places = (*place_stored_weight(program, conv), channels, offsets, least, values)
    program.prepare.append(Call(function, places, Steps.ONE))
    return (offsets, least, values, *place_scale_and_bias(program, conv))
