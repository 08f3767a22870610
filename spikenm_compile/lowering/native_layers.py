"""The code and the stored weights of one layer of a native program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from spikenm_compile.errors import PassError
from spikenm_compile.lowering.kernels.dense_rows import DenseRows, build_dense_rows
from spikenm_compile.lowering.kernels.event_list import EventList
from spikenm_compile.lowering.kernels.event_rows import EventRows, build_event_rows
from spikenm_compile.lowering.kernels.prepare import build_prepare
from spikenm_compile.lowering.kernels.shared_prepare import build_shared_prepare
from spikenm_compile.lowering.kernels.shared_rows import SharedRows, build_shared_rows
from spikenm_compile.lowering.layer_rows import geometry_of, never_overflows, rows_of, stored_weight_of
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Layout
from spikenm_compile.lowering.program import Call, Place, Program, Space, Steps
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d, NeuronStep, is_depthwise


@dataclass(frozen=True)
class LayerCode:
    """A layer and the layouts around it."""

    conv: IntConv2d
    source: EventList | Bytes | SharedSlabs
    out: Layout
    neuron: Neuron | None
    tile_width: int

    @property
    def geometry(self) -> Geometry:
        """Kernel, stride, padding, dilation."""
        return geometry_of(self.conv)


@dataclass(frozen=True)
class LayerResult:
    """What `build_layer` made; the last function is the layer's kernel."""

    functions: list[tirx.PrimFunc]
    params: tuple[Place, ...]
    """Rows, of shared slabs also patterns and table, then scale and bias."""


def build_layer(program: Program, code: LayerCode, name: str) -> LayerResult:
    """Make the kernel of a layer, and add its weights and their preparation to the program."""
    params = _weights(program, code, name)
    assert isinstance(code.out, Bits | Floats)
    return LayerResult(_build_kernel(code, code.out, name), params)


def _build_kernel(code: LayerCode, out: Bits | Floats, name: str) -> list[tirx.PrimFunc]:
    source, geometry = code.source, code.geometry
    if isinstance(source, SharedSlabs):
        return build_shared_rows(name, SharedRows(source, geometry, never_overflows(code.conv), out, code.neuron))
    rows = rows_of(code.conv, source, code.tile_width)
    if isinstance(source, Bytes):
        groups, fits = code.conv.weight.shape[0] // rows.outputs, never_overflows(code.conv)
        dense = DenseRows(source, geometry, rows, groups, is_depthwise(code.conv), fits, out, code.neuron)
        return build_dense_rows(name, dense)
    return build_event_rows(name, EventRows(source, geometry, rows, never_overflows(code.conv), out, code.neuron))


def place_constants(program: Program, step: NeuronStep, channels: int) -> tuple[Place, ...]:
    """Params for the constants per channel of a layer of neurons, in the order of the kernel's parameters.

    Raises:
        PassError: there are not as many values as channels.
    """
    places = []
    for name, values in step.neuron.per_channel.items():
        if len(values) != channels:
            raise PassError(
                f"layer '{step.layer}' has {len(values)} values of '{name}' and {channels} channels; one for each "
                f"channel is supported, so give {channels} values or one number"
            )
        place = program.allocate(Space.PARAMS, 4 * channels)
        program.copies.append((_stored(program, f"{step.layer}.{name}", 4 * channels), place, channels))
        places.append(place)
    return tuple(places)


def _weights(program: Program, code: LayerCode, name: str) -> tuple[Place, ...]:
    stored = stored_weight_of(code.conv, code.source, code.tile_width)
    function = f"{name}_prepare"
    if isinstance(code.source, SharedSlabs):
        sizes = [code.source.row_bytes, code.source.pattern_bytes, code.source.table_bytes]
        program.functions += build_shared_prepare(function, code.source, stored)
    else:
        sizes = [stored.rows.num_bytes * stored.groups]
        program.functions += build_prepare(function, stored)
    rows = [program.allocate(Space.PARAMS, size) for size in sizes]
    constants = place_scale_and_bias(program, code.conv)
    program.prepare.append(Call(function, (*place_stored_weight(program, code.conv), *rows), Steps.ONE))
    return (*rows, *constants)


def place_stored_weight(program: Program, conv: IntConv2d) -> tuple[Place, Place]:
    """Values and metadata."""
    sizes = stored_bytes(conv)
    values, metadata = (_stored(program, f"{conv.layer}.{part}", sizes[part]) for part in ("values", "metadata"))
    return values, metadata


def place_scale_and_bias(program: Program, conv: IntConv2d) -> tuple[Place, Place]:
    """Params for what makes a current of a sum."""
    num_outputs = conv.weight.shape[0]
    scale, bias = (program.allocate(Space.PARAMS, 4 * num_outputs) for _ in range(2))
    for part, place in (("scale", scale), ("bias", bias)):
        program.copies.append((_stored(program, f"{conv.layer}.{part}", 4 * num_outputs), place, num_outputs))
    return scale, bias


def stored_bytes(conv: IntConv2d) -> dict[str, int]:
    """Size of each stored tensor of a layer; dense and staggered layers have no metadata."""
    weight = conv.stored_weight()
    if conv.pattern is None:
        return {"values": weight.numel(), "metadata": 0}
    kept = weight.numel() // conv.pattern.m * conv.pattern.n
    if conv.pattern.staggered:
        return {"values": kept, "metadata": 0}
    positions = kept // weight.shape[0] * -(-weight.shape[0] // conv.pattern.v)
    return {"values": kept, "metadata": -(-positions * conv.pattern.index_bits // 8) + 1}


def _stored(program: Program, tensor: str, num_bytes: int) -> Place:
    """Where a stored tensor lies; two kernels of a layer read the same."""
    found = next((part for part in program.packed if part["tensor"] == tensor), None)
    if found is not None:
        return Place(Space.PACKED, found["offset"])
    place = program.allocate(Space.PACKED, num_bytes)
    if num_bytes:
        entry: dict[str, Any] = {"tensor": tensor, "offset": place.offset, "bytes": num_bytes}
        program.packed.append(entry)
    return place
