"""Layers with weights and layers of neurons as const tables and calls."""

from __future__ import annotations

import textwrap

from torch.fx import Node

from spikenm_compile.errors import PassError
from spikenm_compile.lowering.c.layouts import BYTES, FLOAT_BYTES, Kind, Layout, bytes_of
from spikenm_compile.lowering.c.neurons import NeuronCode
from spikenm_compile.lowering.c.planner import Planner, Value
from spikenm_compile.lowering.c.program import Spikes
from spikenm_compile.lowering.c.weights import SparseRows, choose_rows
from spikenm_compile.lowering.exact import check_exact
from spikenm_compile.lowering.nodes import size_of, source_of
from spikenm_compile.neurons import Neuron
from spikenm_compile.ops import IntConv2d, NeuronStep, largest_sum

LARGEST_SUM = 2**31 - 1
ADD_PIXEL = {Kind.BITS: "add_spikes", Kind.UNSIGNED: "add_unsigned_levels", Kind.SIGNED: "add_signed_levels"}


def plan_convolution(planner: Planner, node: Node, conv: IntConv2d, neurons: str | None, out: Value) -> None:
    """A layer with weights, through the neurons of that table or as current to `out`.

    Raises:
        PassError: a sum may not fit int32.
    """
    if (most := largest_sum(conv.weight, conv.levels)) > LARGEST_SUM:
        raise PassError(
            f"layer '{conv.layer}' may sum up to {most}; C code sums in int32, up to {LARGEST_SUM}; split the layer"
        )
    source = planner.values[source_of(node)]
    if source.layout.kind not in (Kind.BITS, *BYTES):
        is_signed = conv.levels.low < 0
        source = planner.as_kind(source, Kind.BITS if conv.levels.is_binary else bytes_of(signed=is_signed))
    table = _convolution_table(planner, conv, source.layout, out.layout)
    outputs = conv.weight.shape[0]
    sums = planner.scratch(f"{conv.layer}_sums", 4 * outputs, f"int32_t [{outputs}]")
    if neurons is None:
        planner.call(conv.layer, "convolve", f"&{table}", source, sums, "NULL", "NULL", "NULL", out)
        return
    current = planner.scratch(f"{conv.layer}_current", FLOAT_BYTES * outputs, f"float [{outputs}]")
    planner.call(conv.layer, "convolve", f"&{table}", source, sums, current, f"&{neurons}", "state", out)


def _convolution_table(planner: Planner, conv: IntConv2d, source: Layout, out: Layout) -> str:
    """Constant data and the table of a layer; returns the table's name."""
    program = planner.program
    fields = {
        "add_pixel": ADD_PIXEL[source.kind],
        "add_row": "add_dense_row",
        "in_height": source.height,
        "in_width": source.width,
        "in_channels": source.channels,
        "out_height": out.height,
        "out_width": out.width,
        "out_channels": out.channels,
        "kernel_height": conv.weight.shape[2],
        "kernel_width": conv.weight.shape[3],
        "groups": conv.groups,
    }
    for axis, index in (("y", 0), ("x", 1)):
        fields[f"stride_{axis}"] = conv.stride[index]
        fields[f"padding_{axis}"] = conv.padding[index]
        fields[f"dilation_{axis}"] = conv.dilation[index]
    rows = choose_rows(conv, planner.rows)
    if isinstance(rows, SparseRows):
        fields["values"] = program.add_array(f"{conv.layer}_values", "int8_t", rows.values, "int8")
        fields["kept"] = program.add_array(f"{conv.layer}_kept", "uint8_t", rows.kept, "uint8")
        long, c_type = ("long_", "uint32") if rows.is_long else ("", "uint16")
        fields["add_row"] = f"add_{long}sparse_row"
        fields[f"{long}first"] = program.add_array(f"{conv.layer}_first", f"{c_type}_t", rows.first, c_type)
    else:
        fields["values"] = program.add_array(f"{conv.layer}_rows", "int8_t", rows, "int8")
    for part in ("scale", "bias"):
        fields[part] = program.add_array(f"{conv.layer}_{part}", "float", getattr(conv, part).numpy(), "float32")
    program.used |= {str(fields["add_pixel"]), str(fields["add_row"])}
    name = program.names.new(conv.layer)
    body = ", ".join(f".{key} = {value}" for key, value in fields.items())
    program.tables.append(f"static const convolution {name} = {{\n{_indented(body)},\n}};\n")
    return name


def _indented(text: str) -> str:
    """Broken into lines at white space, which no name holds: .x = 1 may be torn, but stays C."""
    return textwrap.fill(text, 118, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


def plan_neurons(planner: Planner, node: Node, module: NeuronStep) -> tuple[str, Value]:
    """The table of a layer of neurons and the buffer of its output; its getitem nodes get their values here.

    Raises:
        PassError: a state that is used elsewhere, equations that are not exact, or a wrong number of constants.
    """
    check_exact(module)
    results = {user.args[1]: user for user in node.users}
    for index, state in enumerate(_states(node, module), start=1):
        after = results.get(index)
        if len(state.users) != 1 or after is None or planner.next_state.get(after) is not state:
            raise PassError(
                f"'{node.name}' uses the state '{state.name}' inside of a step in another way than updating it; C code "
                f"updates states in place, so read them out after the last step only"
            )
        planner.values[after] = planner.values[state]
    output = results.get(0, node)
    out = planner.new(f"{module.layer}_out", Layout(_kind_of(module.neuron), *size_of(output)))
    planner.values[output] = out
    if out.layout.kind is Kind.BITS and out.buffer is not None:
        shape = (out.layout.height, out.layout.width, out.layout.channels)
        planner.program.spikes.append(Spikes(module.layer, out.buffer, *shape))
    return _neuron_table(planner, node, module, out.layout), out


def _states(node: Node, module: NeuronStep) -> list[Node]:
    """The states of a layer of neurons, which are its arguments behind the inputs."""
    return [a for a in node.args[len(module.neuron.inputs) :] if isinstance(a, Node)]


def _kind_of(neuron: Neuron) -> Kind:
    """Spikes as bits, counts as bytes, real numbers as float."""
    if neuron.levels is None:
        return Kind.FLOATS
    return Kind.BITS if neuron.is_binary else bytes_of(signed=neuron.levels.low < 0)


def _neuron_table(planner: Planner, node: Node, module: NeuronStep, out: Layout) -> str:
    program, neuron = planner.program, module.neuron
    states = [planner.states[state].constant for state in _states(node, module)]
    constants = []
    for constant, values in neuron.per_channel.items():
        if len(values) != out.channels:
            raise PassError(
                f"layer '{module.layer}' has {len(values)} values of '{constant}' and {out.channels} channels; one for "
                f"each channel is supported, so give {out.channels} values or one number"
            )
        constants.append(program.add_array(f"{module.layer}_{constant}", "float", values, "float32"))
    name, function = program.names.new(module.layer), _neuron_function(planner, neuron, out.kind)
    arguments = [function, str(out.channels), _list("size_t", states), _list("float *const", constants)]
    program.tables.append(f"static const neurons {name} = {{{', '.join(arguments)}}};\n")
    program.used.add("neurons")
    return name


def _list(c_type: str, items: list[str]) -> str:
    return f"(const {c_type}[]){{{', '.join(items)}}}" if items else "NULL"


def _neuron_function(planner: Planner, neuron: Neuron, kind: Kind) -> str:
    """The C function of such neurons; constants per channel are arguments, so that their values do not matter."""
    names = (neuron.inputs, tuple(neuron.states), tuple(neuron.per_channel), neuron.output)
    key = (neuron.equations, names, tuple(neuron.scalars.items()), kind)
    if key not in planner.neuron_functions:
        name = planner.program.names.new(f"step_{len(planner.neuron_functions)}")
        code = NeuronCode(name, neuron, kind)
        planner.program.functions.append(code.text)
        planner.program.used |= code.used
        planner.neuron_functions[key] = name
    return planner.neuron_functions[key]
