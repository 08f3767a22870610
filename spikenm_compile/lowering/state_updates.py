"""How the states of a lowered graph get their next value: in place by their only reader, or by a copy after the step.

A state that one node reads and changes, a neuron its own or a readout its running sum, is updated in place, and that
node may run over all steps before the next node does. A state that goes round, as the previous spikes of a recurrent
layer do, is read by one node and made by another: the cycle ties them to the same step.
"""

from __future__ import annotations

import operator

from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import REGION, Region, module_of, neuron_of, next_states
from spikenm_compile.lowering.nodes import source_of


def in_place(lowered: GraphModule) -> dict[Node, Node]:
    """Next value -> state, of the states that are updated in place."""
    return {value: state for state, value in next_states(lowered).items() if _is_in_place(lowered, state, value)}


def going_round(lowered: GraphModule) -> dict[Node, Node]:
    """State -> next value, of the other states.

    Raises:
        PassError: a state that is the next value of another, or that is read after the last step.
    """
    found = {s: v for s, v in next_states(lowered).items() if not _is_in_place(lowered, s, v)}
    for state, value in found.items():
        late = [user.name for user in state.users if user.meta.get(REGION) is Region.AFTER]
        source = _viewed(lowered, value)
        if source in next_states(lowered) or late:
            raise PassError(
                f"the state '{state.name}' is {'read after the last step' if late else f'a copy of {source.name!r}'}; "
                "native code copies what a step computed into a state, so read that instead"
            )
    return found


def _viewed(lowered: GraphModule, value: Node) -> Node:
    """What `value` is another shape of, without a copy."""
    while isinstance(module_of(lowered, value), nn.Flatten | nn.Unflatten):
        value = source_of(value)
    return value


def _is_in_place(lowered: GraphModule, state: Node, value: Node) -> bool:
    if len(state.users) != 1:
        return False
    (reader,) = state.users
    step = neuron_of(lowered, reader)
    if step is None:
        return reader is value and reader.op == "call_function"
    index = reader.args.index(state) - len(step.neuron.inputs) + 1
    return index > 0 and value.target is operator.getitem and value.args == (reader, index)
