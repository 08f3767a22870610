"""A lowered graph as ONNX models: one time step, and a sequence of any number of steps.

    step       x [B, ...], num_steps (int64, steps so far; only if used), <state>...
               -> output, <state>_next..., spikes_<layer>...
    sequence   x [T, B, ...] where the input changes with time, else x [B, ...] and num_steps (int64)
               -> output, <state>_next..., spikes_<layer> [T, B, ...]...

Tensors are float32 with a free batch size B. Both models equal `graph.run_steps` bit for bit in ONNX Runtime's CPU
provider, at every optimisation level. The sequence starts from the initial state, which it makes itself.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import (
    PER_STEP,
    SHAPE,
    Region,
    Role,
    next_states,
    placeholders,
    result,
    spike_nodes,
    the_input,
    verify_graph,
)
from spikenm_compile.lowering.onnx_fragment import Fragment, float_value
from spikenm_compile.lowering.onnx_loop import lower_loop, num_steps_of, returns_every_step, single
from spikenm_compile.lowering.onnx_ops import Value, lower_region

OPSET = 18
"""Old enough for every runtime in use; has Shape with start and end."""
IR_VERSION = 8
"""The IR version of opset 18."""
PRODUCER, PRODUCER_VERSION = "spikenm_compile", "2"
"""Written into each model; the version counts changes of the lowering, so that equal graphs give equal bytes."""


def to_onnx_step(lowered: GraphModule, name: str) -> ModelProto:
    """Lower one time step.

    Raises:
        PassError: an operation without an exact ONNX form, or two interface values of one name.
    """
    verify_graph(lowered)
    fragment = Fragment()
    steps = placeholders(lowered, Role.NUM_STEPS)
    states = placeholders(lowered, Role.STATE)
    values: dict[Node, Value] = {the_input(lowered): "x", **dict.fromkeys(steps, "num_steps")}
    values.update({state: state.name for state in states})
    for region in Region:
        lower_region(fragment, lowered, region, values)
    inputs = [float_value("x", ["B", *the_input(lowered).meta[SHAPE]])]
    inputs += [_num_steps_value() for node in steps if node.users]
    inputs += [float_value(state.name, ["B", *state.meta[SHAPE]]) for state in states]
    named = {"output": result(lowered)}
    named |= {f"{state.name}_next": value for state, value in next_states(lowered).items()}
    named |= {f"spikes_{layer}": node for layer, node in spike_nodes(lowered).items()}
    outputs = [_output(fragment, output, node, values) for output, node in named.items()]
    return _model(fragment.graph(name, inputs, outputs), f"One time step of {name}.")


def to_onnx_sequence(lowered: GraphModule, name: str) -> ModelProto:
    """Lower T time steps as a Loop; what does not change with time stands outside of it.

    Raises:
        PassError: an operation without an exact ONNX form, or two interface values of one name.
    """
    verify_graph(lowered)
    fragment = Fragment()
    source = the_input(lowered)
    per_step: bool = source.meta[PER_STEP]
    values: dict[Node, Value] = {source: "x"}
    num_steps = num_steps_of(fragment, per_step)
    values.update(dict.fromkeys(placeholders(lowered, Role.NUM_STEPS), num_steps))
    lower_region(fragment, lowered, Region.BEFORE, values)
    outputs = lower_loop(fragment, lowered, num_steps, values)
    lower_region(fragment, lowered, Region.AFTER, values)
    if not returns_every_step(lowered):
        outputs.append(_output(fragment, "output", result(lowered), values))
    inputs = [float_value("x", ["T", "B", *source.meta[SHAPE]] if per_step else ["B", *source.meta[SHAPE]])]
    inputs += [] if per_step else [_num_steps_value()]
    return _model(fragment.graph(name, inputs, outputs), f"All time steps of {name}.")


def _num_steps_value() -> ValueInfoProto:
    return helper.make_tensor_value_info("num_steps", TensorProto.INT64, [])


def _output(fragment: Fragment, name: str, node: Node, values: dict[Node, Value]) -> ValueInfoProto:
    return float_value(fragment.rename(single(node, values), name), ["B", *node.meta[SHAPE]])


def _model(graph: GraphProto, text: str) -> ModelProto:
    """The checked model around a graph."""
    names = Counter(value.name for value in [*graph.input, *graph.output])
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise PassError(f"interface values {twice} of '{graph.name}' are named twice; rename the layers or states")
    graph.doc_string = text
    model = helper.make_model(
        graph,
        producer_name=PRODUCER,
        producer_version=PRODUCER_VERSION,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
