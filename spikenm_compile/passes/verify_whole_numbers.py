"""Refuse what has no form in whole numbers, before anything is rewritten: the message names what the user wrote."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import ALLOWED_FUNCTIONS
from spikenm_compile.ops import Constant
from spikenm_compile.passes.base import Pass

_COMPUTED = (operator.getitem, operator.add, operator.sub, operator.mul, operator.truediv, torch.maximum)
"""Functions that a lowered graph may call."""


@dataclass(frozen=True)
class VerifyWholeNumbers(Pass):
    """Check that the step graph calls only functions that a lowered graph has.

    Given:
        %sum = add(%spikes1, %spikes2)

    Result: the same.

    Errors: an operation on the dimensions of each sample, as attention is made of, or a constant tensor.
    """

    name: ClassVar[str] = "verify-whole-numbers"

    def apply(self, graph_module: GraphModule) -> bool:
        """Changes nothing."""
        constants = {name for name, module in graph_module.named_modules() if isinstance(module, Constant)}
        for node in graph_module.graph.nodes:
            if node.op == "call_function" and node.target not in _COMPUTED:
                raise PassError(_refusal(node, f"calls {ALLOWED_FUNCTIONS[node.target]}"))
            if node.op == "call_module" and node.target in constants:
                raise PassError(_refusal(node, "is a constant tensor"))
        return False


def _refusal(node: Node, what: str) -> str:
    return (
        f"node '{node.name}' {what}, which has no form in whole numbers; layers, neurons, sums, products with a number "
        "and readouts over time have one; such a model can be transformed, trained, folded and lifted, not lowered"
    )
