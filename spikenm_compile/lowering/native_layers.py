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
from spikenm_compile.lowering.layer_rows import never_overflows, rows_of, stored_weight_of
from spikenm_compile.lowering.layout import Bits, Bytes, Floats, Geometry, Layout
from spikenm_compile.lowering.program import Call, Place, Program, Space, Steps
from spikenm_compile.lowering.shared_slabs import SharedSlabs
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d, NeuronStep


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
        kernel = (self.conv.weight.shape[2], self.conv.weight.shape[3])
        return Geometry(kernel, self.conv.stride, self.conv.padding, self.conv.dilation)


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
        return build_dense_rows(name, DenseRows(source, geometry, rows, code.conv.groups, out, code.neuron))
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
    conv = code.conv
    stored = stored_weight_of(conv, code.source, code.tile_width)
    num_outputs = conv.weight.shape[0]
    if isinstance(code.source, SharedSlabs):
        rows_bytes = [code.source.row_bytes, code.source.pattern_bytes, code.source.table_bytes]
    else:
        rows_bytes = [stored.rows.num_bytes * stored.groups]
    rows = [program.allocate(Space.PARAMS, num_bytes) for num_bytes in rows_bytes]
    per_output = [program.allocate(Space.PARAMS, 4 * num_outputs) for _ in range(2)]
    sizes = stored_bytes(conv)
    values, metadata = (_stored(program, f"{conv.layer}.{part}", sizes[part]) for part in ("values", "metadata"))
    function = f"{name}_prepare"
    if isinstance(code.source, SharedSlabs):
        program.functions += build_shared_prepare(function, code.source, stored)
    else:
        program.functions += build_prepare(function, stored)
    program.prepare.append(Call(function, (values, metadata, *rows), Steps.ONE))
    for part, place in zip(("scale", "bias"), per_output, strict=True):
        source = _stored(program, f"{conv.layer}.{part}", 4 * num_outputs)
        program.copies.append((source, place, num_outputs))
    return (*rows, *per_output)


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
    place = program.allocate(Space.PACKED, num_bytes)
    if num_bytes:
        entry: dict[str, Any] = {"tensor": tensor, "offset": place.offset, "bytes": num_bytes}
        program.packed.append(entry)
    return place
