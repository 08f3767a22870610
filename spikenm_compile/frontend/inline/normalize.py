"""One spelling for many: bring what a hand-written step can look like to plain operations on whole tensors.

y = x.detach(), x.clone(), x.data          y is x
s = torch.stack([v, z]); v2 = s[0]         v2 is v
y = x[t], where z = x[t] stands before     y is z
y = (hard - soft).detach() + soft          y is hard
v[spikes > 0] = r;  v.mul_(b)              v = where(spikes > 0, r, v);  v = v.mul(b), for whoever reads v later
torch.cat([a.unsqueeze(0), b.unsqueeze(0)])    torch.stack([a, b])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from spikenm_compile.frontend.inline.elementwise import is_elementwise, is_hard, operation, selected_step
from spikenm_compile.frontend.inline.evaluate import Values
from spikenm_compile.frontend.inline.spiking_function import PROBE
from spikenm_compile.frontend.proxy import VALUE

_ALIASES = ("detach", "clone", "contiguous", "alias", "detach_", "positive", "pos", "requires_grad_")
_IN_PLACE = ("add_", "sub_", "mul_", "div_", "clamp_", "masked_fill_", "relu_", "copy_", "fill_", "zero_")


def normalize(graph_module: GraphModule) -> None:
    """Rewrite the graph in place. What other code understands, too, may stay as it is."""
    for node in list(graph_module.graph.nodes):
        found = _same_value(graph_module, node)
        if found is not None:
            node.replace_all_uses_with(found)
            graph_module.graph.erase_node(node)
        elif _is_change(node):
            _replace_later_uses(graph_module, node)
        elif operation(node) == "cat":
            _stack_instead(graph_module, node)


def _same_value(graph_module: GraphModule, node: Node) -> Node | None:
    """An earlier node with the value of this one."""
    first = node.args[0] if node.args and isinstance(node.args[0], Node) else None
    if first is None:
        return None
    name = operation(node)
    if name in _ALIASES or (name == "getattr" and node.args[1] == "data"):
        return first
    return _unstacked(node) or _selected_before(node) or _straight_through(graph_module, node)


def _selected_before(node: Node) -> Node | None:
    """The same step of the same tensor, taken before."""
    found = selected_step(node)
    if found is None or any(operation(user) == "setitem" for user in found[0].users):
        return None
    return next((n for n in found[0].users if n < node and selected_step(n) == found), None)


def _unstacked(node: Node) -> Node | None:
    found = selected_step(node)
    if found is None or operation(found[0]) != "stack":
        return None
    stack, dim, index = found
    values: Any = stack.args[0]
    stacked = stack.args[1] if len(stack.args) > 1 else stack.kwargs.get("dim", 0)
    return values[index] if stacked == dim and isinstance(values, list | tuple) else None


def _straight_through(graph_module: GraphModule, node: Node) -> Node | None:
    """The hard value of `hard - soft + soft`, where that is exact: tried out on what both are computed from."""
    if operation(node) != "add" or len(node.args) != 2 or not all(isinstance(a, Node) for a in node.args):
        return None
    for difference, soft in (node.args, node.args[::-1]):
        assert isinstance(difference, Node)
        if operation(difference) != "sub" or len(difference.args) != 2 or difference.args[1] is not soft:
            continue
        hard = difference.args[0]
        if isinstance(hard, Node) and _is_exact(graph_module, node, hard):
            return hard
    return None


def _is_exact(graph_module: GraphModule, node: Node, hard: Node) -> bool:
    compared = hard
    while not is_hard(graph_module, compared):
        if not is_elementwise(graph_module, compared) or not compared.all_input_nodes:
            return False
        compared = compared.all_input_nodes[0]
    potential = compared.all_input_nodes[0]
    values = Values(graph_module, {potential: PROBE})
    try:
        return torch.equal(values[node], values[hard].to(torch.float32))
    except (RuntimeError, TypeError):
        return False  # more than one potential, of another shape than the probe


def _is_change(node: Node) -> bool:
    """Whether the node changes a tensor that is no part of another, in a way that a new tensor can replace."""
    target = node.args[0] if node.args else None
    if not isinstance(target, Node) or selected_step(target) is not None:
        return False
    if operation(node) == "setitem":
        mask = node.args[1]
        found = mask.meta.get(VALUE) if isinstance(mask, Node) else None
        return isinstance(found, Tensor) and found.dtype is torch.bool and not isinstance(node.args[2], Node)
    return operation(node) in _IN_PLACE


def _replace_later_uses(graph_module: GraphModule, node: Node) -> None:
    target, graph = node.args[0], graph_module.graph
    assert isinstance(target, Node)
    with graph.inserting_before(node):
        name = operation(node)
        if name == "setitem":
            changed = graph.call_function(torch.where, (node.args[1], node.args[2], target))
        elif name in ("copy_", "fill_", "zero_"):
            changed = graph.call_function(torch.full_like, (target, node.args[1] if name == "fill_" else 0.0))
            changed = node.args[1] if name == "copy_" else changed  # type: ignore[assignment]
        else:
            changed = graph.call_method(name[:-1], node.args, node.kwargs)
        changed.meta.setdefault(VALUE, target.meta.get(VALUE))
    for user in [u for u in target.users if node < u]:
        user.replace_input_with(target, changed)
    node.replace_all_uses_with(changed)
    graph.erase_node(node)


def _stack_instead(graph_module: GraphModule, node: Node) -> None:
    parts: Any = node.args[0]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if not isinstance(parts, list | tuple) or not all(isinstance(p, Node) for p in parts):
        return
    if not all(operation(p) == "unsqueeze" and p.args[1:] == (dim,) for p in parts):
        return
    with graph_module.graph.inserting_before(node):
        stack = graph_module.graph.call_function(torch.stack, ([p.args[0] for p in parts], dim))
    stack.meta.update(node.meta)
    node.replace_all_uses_with(stack)
    graph_module.graph.erase_node(node)
