"""The time loop of a sequence: an ONNX Loop whose body is the step region.

    carried from step to step   the states, and what the after region needs of the last step
    stacked over the steps      the spikes of each layer, and the output where the model returns every step
    from outside                the input, the before region, num_steps

Loop rather than Scan: one form serves inputs that change with time (the body gathers x[t]) and inputs that do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import (
    INIT,
    PER_STEP,
    REGION,
    ROLE,
    SHAPE,
    Region,
    Role,
    next_states,
    placeholders,
    result,
    spike_nodes,
    the_input,
)
from spikenm_compile.lowering.onnx_fragment import Fragment, float_value
from spikenm_compile.lowering.onnx_ops import Value, lower_region

STEP, CONDITION = "loop.step", "loop.condition"
"""Inputs of every Loop body: the number of steps done, and whether to go on."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A tensor [B, *shape] that goes from step to step."""

    before: str
    """Its name in the body, as this step receives it."""
    after: str
    """Its name in the body, as this step leaves it."""
    final: str
    """Its name outside, after the last step."""
    shape: tuple[int, ...]
    init: float


def num_steps_of(fragment: Fragment, per_step: bool) -> str:
    """Name of T, an int64 scalar: an input of the model, or the first size of x."""
    if not per_step:
        return "num_steps"
    fragment.prefix = "loop"
    return fragment.op("Squeeze", fragment.op("Shape", "x", start=0, end=1))


def lower_loop(
    fragment: Fragment, lowered: GraphModule, num_steps: str, values: dict[Node, Value]
) -> list[ValueInfoProto]:
    """Add the loop over the step region to `fragment`; returns the model's outputs that it computes.

    `values` must hold the input, num_steps and the before region; it gains what the after region reads.
    """
    body, inside = _lower_body(lowered, values)
    carried = [*_carried_states(lowered, inside), *_carried_last(lowered, inside, values)]
    stacked = _stacked(lowered)
    graph = _body_graph(body, carried, [(single(node, inside), node.meta[SHAPE]) for node in stacked.values()])
    initial = _initial_values(fragment, the_input(lowered).meta[PER_STEP], carried)
    outputs = [*(c.final for c in carried), *stacked]
    fragment.nodes.append(helper.make_node("Loop", [num_steps, "", *initial], outputs, "loop", body=graph))
    declared = [float_value(name, ["T", "B", *node.meta[SHAPE]]) for name, node in stacked.items()]
    states = placeholders(lowered, Role.STATE)
    return [*(float_value(f"{state.name}_next", ["B", *state.meta[SHAPE]]) for state in states), *declared]


def single(node: Node, values: dict[Node, Value]) -> str:
    """The one tensor that `node` gives."""
    value = values[node]
    if not isinstance(value, str):
        raise PassError(f"node '{node.name}' gives (output, *states) where one tensor is used; add a getitem")
    return value


def _lower_body(lowered: GraphModule, values: dict[Node, Value]) -> tuple[Fragment, dict[Node, Value]]:
    """The step region, and the names of all values as the body sees them."""
    body = Fragment("loop")
    inside = dict(values)
    inside.update({state: f"{state.name}.before" for state in placeholders(lowered, Role.STATE)})
    if the_input(lowered).meta[PER_STEP]:
        inside[the_input(lowered)] = body.op("Gather", "x", STEP, axis=0)
    lower_region(body, lowered, Region.STEP, inside)
    return body, inside


def _carried_states(lowered: GraphModule, inside: dict[Node, Value]) -> Iterator[Carried]:
    for state, value in next_states(lowered).items():
        names = f"{state.name}.before", single(value, inside), f"{state.name}_next"
        yield Carried(*names, state.meta[SHAPE], state.meta[INIT])


def _carried_last(lowered: GraphModule, inside: dict[Node, Value], values: dict[Node, Value]) -> Iterator[Carried]:
    """Values of the last step that are read after it and are no state; adds the final names to `values`."""
    final_states = {value: f"{state.name}_next" for state, value in next_states(lowered).items()}
    for node in _read_after(lowered):
        if node in final_states:
            values[node] = final_states[node]
            continue
        value = inside[node]
        parts = (value,) if isinstance(value, str) else value
        finals = [f"{node.name}.last_{i}" for i in range(len(parts))]
        values[node] = finals[0] if isinstance(value, str) else tuple(finals)
        for i, (part, final) in enumerate(zip(parts, finals, strict=True)):
            yield Carried(f"{node.name}.previous_{i}", part, final, node.meta[SHAPE], 0.0)


def _read_after(lowered: GraphModule) -> list[Node]:
    """Nodes that the step region computes anew at each step and that are read after the last one."""
    readers = [n for n in lowered.graph.nodes if n.op.startswith("call_") and n.meta[REGION] is Region.AFTER]
    read = dict.fromkeys(source for reader in readers for source in reader.all_input_nodes)
    if not returns_every_step(lowered):
        read[result(lowered)] = None
    return [node for node in read if _changes(node)]


def _changes(node: Node) -> bool:
    """Whether a value is another one at each step."""
    if node.op == "placeholder":
        return node.meta[ROLE] is Role.STATE or (node.meta[ROLE] is Role.INPUT and node.meta[PER_STEP])
    return node.meta[REGION] is Region.STEP


def returns_every_step(lowered: GraphModule) -> bool:
    """Whether the model returns [T, B, ...] rather than a readout of all steps."""
    return result(lowered).meta.get(REGION) is Region.STEP


def _stacked(lowered: GraphModule) -> dict[str, Node]:
    """Model output -> node whose values of all steps it holds."""
    output = {"output": result(lowered)} if returns_every_step(lowered) else {}
    return output | {f"spikes_{layer}": node for layer, node in spike_nodes(lowered).items()}


def _body_graph(body: Fragment, carried: Sequence[Carried], stacked: list[tuple[str, tuple[int, ...]]]) -> GraphProto:
    """The Loop's body: (step, condition, carried...) to (condition, carried..., stacked...)."""
    inputs = [
        helper.make_tensor_value_info(STEP, TensorProto.INT64, []),
        helper.make_tensor_value_info(CONDITION, TensorProto.BOOL, []),
        *(float_value(c.before, ["B", *c.shape]) for c in carried),
    ]
    outputs = [helper.make_tensor_value_info(body.rename(CONDITION, "loop.go_on"), TensorProto.BOOL, [])]
    for number, (value, shape) in enumerate([*((c.after, c.shape) for c in carried), *stacked]):
        outputs.append(float_value(body.rename(value, f"loop.result_{number}"), ["B", *shape]))
    return body.graph("step", inputs, outputs)


def _initial_values(fragment: Fragment, per_step: bool, carried: Sequence[Carried]) -> list[str]:
    """Names of tensors [B, *shape] filled with the initial value."""
    fragment.prefix = "initial"
    axis = 1 if per_step else 0
    batch = fragment.op("Shape", "x", start=axis, end=axis + 1)
    names = []
    for c in carried:
        sizes = fragment.op("Concat", batch, fragment.constant(np.array(c.shape, np.int64)), axis=0)
        value = numpy_helper.from_array(np.array([c.init], np.float64).astype(np.float32))
        names.append(fragment.op("ConstantOfShape", sizes, value=value))
    return names
